//! The trials of a sweep, all checked before the first begins, and how far each is trained.

use std::{cmp::Ordering, collections::BTreeMap, path::PathBuf};

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};
use toml::Table;

use super::{
    check::Check,
    file::{Halving, Steps, Sweep},
    ledger::{Outcome, Task},
    space,
};
use crate::{
    cli::SweepArgs,
    comm::Comm,
    plan::{Metric, Settings},
};

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Trial {
    /// What sets it apart.
    pub tried: Table,
    pub settings: Settings,
    /// Windows of a step.
    pub global_batch: usize,
    pub steps_an_epoch: u64,
}

/// Trials that train as far as that, and are then compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rung {
    pub trials: usize,
    /// None: to the end of the plan.
    pub epochs: Option<u64>,
}

/// What all ranks know of the sweep.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Study {
    pub run: PathBuf,
    pub data_copy: Option<PathBuf>,
    pub ranks_per_trial: usize,
    pub metric: Metric,
    pub trials: Vec<Trial>,
    pub rungs: Vec<Rung>,
}

impl Study {
    /// On rank 0 of the job, which writes nothing yet.
    pub fn new(comm: &dyn Comm, args: &SweepArgs, sweep: &Sweep) -> Result<Self> {
        let (ranks, group) = (comm.size(), sweep.ranks_per_trial);
        ensure!(
            ranks.is_multiple_of(group),
            "{ranks} ranks are no whole number of groups: ranks_per_trial = {group}; start a multiple of it"
        );
        let run = sweep.folder()?.to_path_buf();
        let tried = space::expand(sweep);
        let tried = tried.with_context(|| args.file.display().to_string())?;
        let mut check = Check::default();
        let trials = tried.into_iter().enumerate().map(|(number, tried)| {
            let trial = check.trial(comm, sweep, tried.clone(), args.data_copy.as_ref());
            trial.with_context(|| {
                let (file, tried) = (args.file.display(), space::named(&tried));
                format!("{file}: trial {number} ({tried})")
            })
        });
        let trials = trials.collect::<Result<Vec<_>>>()?;
        ensure!(
            args.data_copy.is_none() || check.opened.len() == 1,
            "--data-copy is one file, and the trials read {}",
            check.opened.len()
        );
        let rungs = match sweep.halving() {
            None => vec![Rung {
                trials: trials.len(),
                epochs: None,
            }],
            Some(halving) => rungs(trials.len(), check.epochs, halving)?,
        };
        let study = Self {
            run,
            data_copy: args.data_copy.clone(),
            ranks_per_trial: group,
            metric: check.metric.context("no trial")?,
            trials,
            rungs,
        };
        study.check_evaluations()?;
        study.steps().check(&study.run)?;
        Ok(study)
    }

    pub fn steps(&self) -> Steps {
        let trials = self.trials.iter();
        Steps {
            ranks_per_trial: self.ranks_per_trial,
            global_batch: trials.clone().map(|trial| trial.global_batch).collect(),
            steps_an_epoch: trials.map(|trial| trial.steps_an_epoch).collect(),
        }
    }

    /// Trials are compared at the end of a rung, so they have to be evaluated before.
    fn check_evaluations(&self) -> Result<()> {
        for (number, trial) in self.trials.iter().enumerate() {
            let every = trial.settings.eval_every.unwrap_or(0);
            let first = self.stop_at(Task {
                rung: 0,
                trial: number,
            });
            ensure!(
                first.is_none_or(|first| every <= first),
                "trial {number}: eval_every = {every}, but the first rung ends at step {}: nothing to compare",
                first.unwrap_or(0)
            );
        }
        Ok(())
    }

    pub fn name(trial: usize) -> String {
        format!("trial-{trial:03}")
    }

    pub fn folder(&self, trial: usize) -> PathBuf {
        self.run.join(Self::name(trial))
    }

    /// The step at which a rung ends. The plan keeps its epochs, and with them its rates: a survivor goes on exactly
    /// as if nobody had looked.
    pub fn stop_at(&self, task: Task) -> Option<u64> {
        let epochs = self.rungs[task.rung].epochs?;
        Some(epochs * self.trials[task.trial].steps_an_epoch)
    }

    pub fn headline(&self, ranks: usize) -> String {
        let (trials, group) = (self.trials.len(), self.ranks_per_trial);
        let mut line = format!(
            "{trials} trials on {} groups of {group} ranks, compared by {}; results in {}",
            ranks / group,
            self.metric.name(),
            self.run.display()
        );
        for rung in &self.rungs[..self.last_rung()] {
            line += &format!(
                "\n{:>6} trials for {} epochs",
                rung.trials,
                rung.epochs.unwrap_or(0)
            );
        }
        if self.last_rung() > 0 {
            let last = self.rungs[self.last_rung()].trials;
            line += &format!("\n{last:>6} trials to the end");
        }
        line
    }

    pub fn last_rung(&self) -> usize {
        self.rungs.len() - 1
    }

    /// Those that train in a rung: all, or the best of the one before; of equals the first.
    pub fn entrants(&self, rung: usize, outcomes: &BTreeMap<Task, Outcome>) -> Vec<usize> {
        if rung == 0 {
            return (0..self.trials.len()).collect();
        }
        let mut good: Vec<(usize, f64)> = outcomes
            .iter()
            .filter(|(task, outcome)| task.rung + 1 == rung && outcome.failed.is_none())
            .filter_map(|(task, outcome)| Some((task.trial, outcome.progress.best?)))
            .collect();
        good.sort_by(|a, b| order(self.metric, Some(a.1), Some(b.1)));
        good.truncate(self.rungs[rung].trials);
        let mut trials: Vec<usize> = good.into_iter().map(|(trial, _)| trial).collect();
        trials.sort_unstable();
        trials
    }
}

/// The better first, what is undefined last.
pub fn order(metric: Metric, a: Option<f64>, b: Option<f64>) -> Ordering {
    match (metric.better(a, b), metric.better(b, a)) {
        (true, false) => Ordering::Less,
        (false, true) => Ordering::Greater,
        _ => Ordering::Equal,
    }
}

/// Successive halving (Jamieson & Talwalkar 2016) with the epochs of Hyperband (Li et al. 2018): the last rung trains to
/// the end of the plan, each before it for an eta-th of the epochs, with eta times the trials.
fn rungs(trials: usize, epochs: u64, Halving { eta, min_epochs }: Halving) -> Result<Vec<Rung>> {
    let parts = (0..).map_while(|power| epochs.checked_div((eta as u64).checked_pow(power)?));
    let mut ends: Vec<u64> = parts.take_while(|&part| part >= min_epochs).collect();
    ends.reverse();
    ensure!(
        ends.len() > 1 && trials >= eta,
        "halving needs a rung before the last: {trials} trials and epochs = {epochs} are too few for eta = {eta} and \
         min_epochs = {min_epochs}"
    );
    let mut rungs = Vec::new();
    let mut left = trials;
    for (place, &end) in ends.iter().enumerate() {
        // The last trial has nobody to be compared with.
        let last = place + 1 == ends.len() || left == 1;
        rungs.push(Rung {
            trials: left,
            epochs: (!last).then_some(end),
        });
        if last {
            break;
        }
        left = (left / eta).max(1);
    }
    Ok(rungs)
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use crate::checkpoint::Progress;

    /// So many trials of nothing, for what does not train.
    pub fn study(run: PathBuf, trials: usize, rungs: Vec<Rung>) -> Study {
        let trial = |number: usize| Trial {
            tried: toml::from_str(&format!("seed = {number}")).unwrap(),
            settings: Settings::default(),
            global_batch: 8,
            steps_an_epoch: 4,
        };
        Study {
            run,
            data_copy: None,
            ranks_per_trial: 1,
            metric: Metric::PrAuc,
            trials: (0..trials).map(trial).collect(),
            rungs,
        }
    }

    pub fn outcome(best: Option<f64>) -> Outcome {
        Outcome {
            progress: Progress {
                best,
                ..Progress::default()
            },
            failed: None,
        }
    }

    #[test]
    fn rungs_end_with_the_plan_and_begin_no_shorter_than_asked() {
        let of = |trials, epochs, eta, min_epochs| {
            let rungs = rungs(trials, epochs, Halving { eta, min_epochs }).unwrap();
            rungs
                .iter()
                .map(|rung| (rung.trials, rung.epochs))
                .collect::<Vec<_>>()
        };
        assert_eq!(
            of(27, 27, 3, 1),
            [(27, Some(1)), (9, Some(3)), (3, Some(9)), (1, None)]
        );
        assert_eq!(of(20, 10, 3, 1), [(20, Some(1)), (6, Some(3)), (2, None)]);
        assert_eq!(of(20, 10, 3, 2), [(20, Some(3)), (6, None)]);
        assert_eq!(of(4, 64, 4, 1), [(4, Some(1)), (1, None)]);
        for (trials, epochs) in [(2, 27), (27, 2)] {
            let few = rungs(trials, epochs, Halving::default()).unwrap_err();
            assert!(few.to_string().contains("too few"), "{few}");
        }
    }

    #[test]
    fn the_best_go_on_and_a_study_travels() {
        let rungs = rungs(
            6,
            3,
            Halving {
                eta: 2,
                min_epochs: 1,
            },
        )
        .unwrap();
        let mut study = study("run".into(), 6, rungs);
        let values = [Some(0.3), None, Some(0.5), Some(0.3), Some(0.1), Some(0.9)];
        let mut outcomes: BTreeMap<Task, Outcome> = values
            .iter()
            .enumerate()
            .map(|(trial, &best)| (Task { rung: 0, trial }, outcome(best)))
            .collect();
        assert_eq!(study.entrants(0, &outcomes), [0, 1, 2, 3, 4, 5]);
        assert_eq!(study.entrants(1, &outcomes), [0, 2, 5]);
        outcomes
            .get_mut(&Task { rung: 0, trial: 5 })
            .unwrap()
            .failed = Some("not finite".into());
        assert_eq!(study.entrants(1, &outcomes), [0, 2, 3]);
        study.metric = Metric::Loss;
        assert_eq!(study.entrants(1, &outcomes), [0, 3, 4]);
        assert_eq!(study.stop_at(Task { rung: 0, trial: 2 }), Some(4));
        assert_eq!(study.stop_at(Task { rung: 1, trial: 2 }), None);

        let sent = serde_json::to_string(&study).unwrap();
        let there: Study = serde_json::from_str(&sent).unwrap();
        assert_eq!(there.trials[3].tried, study.trials[3].tried);
        assert_eq!(serde_json::to_string(&there).unwrap(), sent);
    }
}
