//! The runs of a study put together by mode and number of ranks, each beside its prediction.

use std::{collections::BTreeSet, iter};

use anyhow::{Context, Result, ensure};
use serde::Serialize;

use super::{
    Mode,
    measure::{Reach, Spread, Timed},
    model::{Forecast, Model, Place},
    study::{Job, Study},
};
use crate::cli::ScalingArgs;

/// One mode on one number of ranks.
#[derive(Debug, Serialize)]
pub struct Point {
    pub mode: Mode,
    pub ranks: usize,
    /// The most that a rank has in a step.
    pub windows: usize,
    pub global_batch: usize,
    /// None beyond what was run.
    pub measured: Option<Seen>,
    /// On as many hosts of this kind as it takes.
    pub predicted: Forecast,
    /// On the hosts at hand, where these have fewer cores than ranks.
    pub predicted_here: Option<Forecast>,
    pub predicted_su_per_million: Option<f64>,
}

#[derive(Debug, Serialize)]
pub struct Seen {
    pub samples_per_s: Spread,
    pub step_s: Spread,
    /// Of a rank beside one of the first number of ranks, in the same round.
    pub efficiency: Spread,
    pub phases: Vec<(&'static str, f64)>,
    pub su_per_million: Option<f64>,
}

#[derive(Debug, Serialize)]
pub struct Target {
    pub ranks: usize,
    /// Of the seeds that reached it.
    pub seconds: Option<Spread>,
    pub su: Option<f64>,
    pub seeds: Vec<Reach>,
}

pub fn points(study: &Study, runs: &[(Job, Vec<Timed>)], model: &Model) -> Result<Vec<Point>> {
    let args = study.args;
    let mut points = Vec::new();
    for &mode in &args.modes {
        let of_mode = || runs.iter().filter(move |(job, _)| job.mode == mode);
        let (first, of_first) = of_mode().next().context("a mode without runs")?;
        let beyond = iter::successors(Some(first.ranks), |ranks| Some(ranks * 2))
            .take_while(|&ranks| ranks <= args.predict_to)
            // A rank without a window helps nobody.
            .filter(|&ranks| mode == Mode::Weak || ranks <= study.global_batch);
        let counts: BTreeSet<usize> = args.ranks.iter().copied().chain(beyond).collect();
        for ranks in counts {
            let job = first.on(ranks);
            let mut measured = None;
            if let Some((_, timed)) = of_mode().find(|(of, _)| of.ranks == ranks) {
                let times = ranks as f64 / first.ranks as f64;
                let mut seen = seen(timed, &speeds(of_first), times)?;
                seen.su_per_million = su(args, ranks, 1e6 / seen.samples_per_s.mean);
                measured = Some(seen);
            }
            let predicted = model.forecast(&job, Place::Enough);
            let crowded = measured.is_some() && ranks > model.here;
            points.push(Point {
                mode,
                ranks,
                windows: job.windows,
                global_batch: job.global_batch,
                measured,
                predicted,
                predicted_here: crowded.then(|| model.forecast(&job, Place::Here)),
                predicted_su_per_million: su(args, ranks, 1e6 / predicted.samples_per_s),
            });
        }
    }
    Ok(points)
}

pub fn targets(study: &Study, reached: Vec<(usize, Vec<Reach>)>) -> Vec<Target> {
    let target = |(ranks, seeds): (usize, Vec<Reach>)| {
        let reached: Vec<f64> = seeds.iter().filter_map(|of| of.seconds).collect();
        let seconds = (!reached.is_empty()).then(|| Spread::of(&reached));
        Target {
            ranks,
            seconds,
            su: seconds.and_then(|of| su(study.args, ranks, of.mean)),
            seeds,
        }
    };
    reached.into_iter().map(target).collect()
}

/// Service units of so many ranks and seconds, where a rate was typed.
fn su(args: &ScalingArgs, ranks: usize, seconds: f64) -> Option<f64> {
    let (rate, cpus) = args.su_rate.zip(args.cpus_per_rank)?;
    Some(rate * cpus * ranks as f64 * seconds / 3600.0)
}

/// Of the rounds that were timed.
fn speeds(runs: &[Timed]) -> Vec<f64> {
    runs[1..].iter().map(|run| run.samples_per_s).collect()
}

/// `times` the ranks of the runs with which `alone` samples/s were seen, round by round.
fn seen(runs: &[Timed], alone: &[f64], times: f64) -> Result<Seen> {
    let speeds = speeds(runs);
    ensure!(speeds.len() == alone.len(), "rounds are missing");
    let efficiencies: Vec<f64> = speeds
        .iter()
        .zip(alone)
        .map(|(own, alone)| own / (alone * times))
        .collect();
    let steps: Vec<f64> = runs[1..].iter().map(|run| run.step_s).collect();
    Ok(Seen {
        samples_per_s: Spread::of(&speeds),
        step_s: Spread::of(&steps),
        efficiency: Spread::of(&efficiencies),
        phases: runs[0].phases.clone().context("round 0 has no trace")?,
        su_per_million: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn efficiency_is_taken_round_by_round() {
        let run = |samples_per_s, traced: bool| Timed {
            samples_per_s,
            step_s: 1.0,
            phases: traced.then(Vec::new),
        };
        // The machine was twice as fast in the second round: that is no spread of the efficiency.
        let runs = [run(1.0, true), run(150.0, false), run(300.0, false)];
        let seen = seen(&runs, &[100.0, 200.0], 2.0).unwrap();
        assert_eq!(
            seen.efficiency,
            Spread {
                mean: 0.75,
                sd: Some(0.0)
            }
        );
        assert_eq!(seen.samples_per_s.mean, 225.0);
    }
}
