//! Reads what a run logged: throughput and time of a step after the warm-up, phases, and when a target was reached.

use std::{collections::BTreeMap, fmt, fs, path::Path};

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    plan::Metric,
    report::{LOG, logged},
    timeline::{PHASES, Phase},
};

pub const TRACE: &str = "trace.json";

/// Mean and standard deviation; the latter is unknown for a single value.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Spread {
    pub mean: f64,
    pub sd: Option<f64>,
}

impl Spread {
    pub fn of(values: &[f64]) -> Self {
        let count = values.len() as f64;
        let mean = values.iter().sum::<f64>() / count;
        let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
        let sd = (values.len() > 1).then(|| (squares / (count - 1.0)).sqrt());
        Self { mean, sd }
    }

    pub fn upper(self) -> f64 {
        self.mean + self.sd.unwrap_or(0.0)
    }
}

/// One run.
#[derive(Clone, Debug)]
pub struct Timed {
    pub samples_per_s: f64,
    pub step_s: f64,
    /// Share of each phase in the time of all ranks; where the run was traced.
    pub phases: Option<Vec<(&'static str, f64)>>,
}

/// A run that trained until a target.
#[derive(Clone, Debug, Serialize)]
pub struct Reach {
    /// None: the run ended before.
    pub seconds: Option<f64>,
    pub steps: u64,
    pub best: Option<f64>,
}

impl fmt::Display for Reach {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match (self.seconds, self.best) {
            (Some(seconds), _) => write!(f, "{seconds:.1} s, {} steps", self.steps),
            (None, Some(best)) => write!(f, "not reached in {} steps, best {best:.4}", self.steps),
            (None, None) => write!(f, "not reached in {} steps", self.steps),
        }
    }
}

/// A line of metrics.jsonl.
#[derive(Deserialize)]
struct Step {
    step: u64,
    samples: usize,
    /// Since training began.
    seconds: f64,
}

pub fn timed(folder: &Path, warmup: u64) -> Result<Timed> {
    let steps: Vec<Step> = logged(folder)?
        .into_iter()
        .filter(|line| line["event"] == "step")
        .map(serde_json::from_value)
        .collect::<Result<_, _>>()
        .with_context(|| format!("{}/{LOG}: a step without numbers", folder.display()))?;
    let (samples, seconds, count) = after_warmup(&steps, warmup).with_context(|| {
        format!(
            "{}: no step after the warm-up: raise --steps",
            folder.display()
        )
    })?;
    let trace = folder.join(TRACE);
    let phases = match fs::read(&trace) {
        Ok(text) => {
            let shares = serde_json::from_slice(&text).map_err(anyhow::Error::from);
            let shares = shares.and_then(|trace: Value| phases(&trace, warmup));
            Some(shares.with_context(|| format!("reading {}", trace.display()))?)
        }
        Err(_) => None,
    };
    Ok(Timed {
        samples_per_s: samples as f64 / seconds,
        step_s: seconds / count as f64,
        phases,
    })
}

/// Windows, seconds and number of the steps after the warm-up. Where the host looks at several steps together, as on a
/// GPU, their lines come together too, and only the last of them says when: time is taken from such a line.
fn after_warmup(steps: &[Step], warmup: u64) -> Option<(usize, f64, usize)> {
    let last = steps.last()?;
    let mean = last.seconds / steps.len() as f64;
    let waits = |pair: &[Step]| pair[1].seconds - pair[0].seconds > 0.1 * mean;
    let mut looked = (0..steps.len() - 1).filter(|&at| waits(&steps[at..at + 2]));
    let from = looked.find(|&at| steps[at].step >= warmup)?;
    let rest = &steps[from + 1..];
    let samples = rest.iter().map(|step| step.samples).sum();
    Some((samples, last.seconds - steps[from].seconds, rest.len()))
}

/// Shares of what ranks do in every step, over all of them.
fn phases(trace: &Value, warmup: u64) -> Result<Vec<(&'static str, f64)>> {
    let bars = trace["traceEvents"].as_array().context("no traceEvents")?;
    let mut sums: BTreeMap<&str, f64> = BTreeMap::new();
    let after = |bar: &&Value| bar["args"]["step"].as_u64() > Some(warmup);
    for bar in bars.iter().filter(after) {
        let (name, length) = bar["name"]
            .as_str()
            .zip(bar["dur"].as_f64())
            .context("a bar without length")?;
        *sums.entry(name).or_default() += length;
    }
    let every_step = PHASES
        .iter()
        .filter(|(phase, _)| !matches!(phase, Phase::Evaluation | Phase::Checkpoint));
    let of = |name: &str| sums.get(name).copied().unwrap_or(0.0);
    let whole: f64 = every_step.clone().map(|(_, name)| of(name)).sum();
    ensure!(whole > 0.0, "no step after the warm-up");
    Ok(every_step
        .map(|(_, name)| (*name, of(name) / whole))
        .collect())
}

pub fn reach(folder: &Path, metric: Metric, target: f64) -> Result<Reach> {
    let lines = logged(folder)?;
    let mut evaluations = lines.iter().filter(|line| line["event"] == "evaluation");
    let last = evaluations
        .next_back()
        .with_context(|| format!("{}: no evaluation", folder.display()))?;
    let best = last["best"].as_f64();
    Ok(Reach {
        seconds: last["seconds"]
            .as_f64()
            .filter(|_| metric.reaches(best, target)),
        steps: last["step"].as_u64().unwrap_or(0),
        best,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn steps(seconds: &[f64]) -> Vec<Step> {
        let all = seconds.iter().enumerate();
        all.map(|(at, &seconds)| Step {
            step: at as u64 + 1,
            samples: 8,
            seconds,
        })
        .collect()
    }

    #[test]
    fn the_warm_up_is_left_out() {
        let timed = after_warmup(&steps(&[5.0, 6.0, 7.0, 8.0, 10.0]), 2).unwrap();
        assert_eq!(timed, (24, 4.0, 3));
        assert!(after_warmup(&steps(&[5.0, 6.0]), 2).is_none());
    }

    #[test]
    fn steps_that_are_seen_together_count_from_the_last_of_them() {
        // Three at a time: after a warm-up of one step only the third says when.
        let seconds = [3.0, 3.0, 3.0, 6.0, 6.0, 6.0];
        assert_eq!(after_warmup(&steps(&seconds), 1).unwrap(), (24, 3.0, 3));
    }

    #[test]
    fn phases_are_shares_of_all_ranks_after_the_warm_up() {
        let bar = |name, step, dur| json!({"name": name, "dur": dur, "args": {"step": step}});
        let trace = json!({"traceEvents": [
            bar("forward", 1, 99), bar("forward", 2, 10), bar("backward", 2, 20), bar("wait", 2, 10),
            bar("checkpoint", 2, 50), {"name": "thread_name"},
        ]});
        let shares = phases(&trace, 1).unwrap();
        let share = |name| shares.iter().find(|of| of.0 == name).unwrap().1;
        assert_eq!(
            (share("forward"), share("backward"), share("wait")),
            (0.25, 0.5, 0.25)
        );
        assert!(phases(&trace, 2).is_err());
    }

    #[test]
    fn one_value_has_no_spread() {
        assert_eq!(
            Spread::of(&[3.0]),
            Spread {
                mean: 3.0,
                sd: None
            }
        );
        assert_eq!(Spread::of(&[2.0, 4.0]).sd, Some(2f64.sqrt()));
    }
}
