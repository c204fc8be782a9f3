//! sweep.toml as it is written, with what is typed over it.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};
use toml::Table;

use crate::{checkpoint::write_atomically, cli::SweepArgs, plan::Settings, resume::LAST};

/// In the sweep's folder.
const REMEMBERED: &str = "sweep.toml";
const STEPS: &str = "steps.toml";

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Method {
    Grid,
    Random,
    Halving,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Halving {
    pub eta: usize,
    pub min_epochs: u64,
}

impl Default for Halving {
    fn default() -> Self {
        Self {
            eta: 3,
            min_epochs: 1,
        }
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sweep {
    pub run: Option<PathBuf>,
    #[serde(default = "one")]
    pub ranks_per_trial: usize,
    pub method: Method,
    pub trials: Option<usize>,
    #[serde(default = "first")]
    pub seed: u64,
    pub halving: Option<Halving>,
    #[serde(default)]
    pub base: Settings,
    pub search: Table,
}

fn one() -> usize {
    1
}

fn first() -> u64 {
    1
}

impl Sweep {
    pub fn read(args: &SweepArgs) -> Result<Self> {
        let path = &args.file;
        let text =
            fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
        let mut sweep: Self =
            toml::from_str(&text).with_context(|| format!("{}: not a sweep", path.display()))?;
        sweep.base = args.settings.clone().over(sweep.base);
        sweep.run = args.run.clone().or(sweep.run);
        let checked = sweep.check();
        checked.with_context(|| path.display().to_string())?;
        Ok(sweep)
    }

    pub fn check(&self) -> Result<()> {
        ensure!(
            self.run.is_some(),
            "no folder for the trials: run = \"FOLDER\", or --run FOLDER"
        );
        ensure!(
            self.ranks_per_trial > 0,
            "ranks_per_trial must be at least 1"
        );
        ensure!(
            !self.search.is_empty(),
            "[search] is empty: name a setting and the values to try"
        );
        let fixed = Table::try_from(&self.base)?;
        for name in self.search.keys() {
            ensure!(
                !fixed.contains_key(name),
                "{name} is both searched and fixed, in [base] or as an option: leave one out"
            );
        }
        match (self.method, self.trials) {
            (_, Some(0)) => bail!("trials must be at least 1"),
            (Method::Random, None) => bail!("method random needs trials, the number of draws"),
            (Method::Grid, Some(_)) => {
                bail!("trials belongs to random and halving: a grid is tried whole")
            }
            _ => {}
        }
        let Some(halving) = self.halving() else {
            ensure!(
                self.halving.is_none(),
                "[halving] belongs to method halving"
            );
            return Ok(());
        };
        ensure!(
            halving.eta > 1 && halving.min_epochs > 0,
            "[halving] eta must be at least 2 and min_epochs at least 1"
        );
        for name in ["epochs", "stop_at"] {
            ensure!(
                !self.search.contains_key(name),
                "{name} cannot be searched by halving, which itself decides how long a trial trains"
            );
        }
        ensure!(
            self.base.stop_at.is_none(),
            "stop_at is nothing for halving, which itself decides how long a trial trains"
        );
        Ok(())
    }

    pub fn halving(&self) -> Option<Halving> {
        (self.method == Method::Halving).then(|| self.halving.unwrap_or_default())
    }

    /// Its folder, which may hold the same sweep half done; nothing is written.
    pub fn folder(&self) -> Result<&Path> {
        let run = self.run.as_deref().expect("checked");
        ensure!(
            !run.join(LAST).exists(),
            "{} holds a run of train: name another folder",
            run.display()
        );
        let path = run.join(REMEMBERED);
        if let Ok(then) = fs::read_to_string(&path) {
            let then = toml::from_str(&then).with_context(|| path.display().to_string())?;
            ensure!(
                self.goes_on(&then, &Table::try_from(self)?),
                "{} holds another sweep, that of {}: name another folder; only ranks_per_trial may change, and the trials \
                 of random may become more",
                run.display(),
                path.display()
            );
        }
        Ok(run)
    }

    /// The folder is this sweep's from now on. Whoever calls holds its lock, since another job may have claimed it after
    /// the last look.
    pub fn remember(&self, steps: &Steps) -> Result<()> {
        let run = self.folder()?;
        steps.check(run)?;
        for (name, text) in [
            (STEPS, toml::to_string(steps)?),
            (REMEMBERED, toml::to_string(self)?),
        ] {
            let path = run.join(name);
            write_atomically(&path, text.as_bytes())?;
        }
        Ok(())
    }

    /// Whether the trials then are those now, or the first of them.
    fn goes_on(&self, then: &Table, now: &Table) -> bool {
        let rest = |of: &Table| {
            let mut of = of.clone();
            for name in ["run", "ranks_per_trial"] {
                of.remove(name);
            }
            let trials = of.remove("trials").and_then(|count| count.as_integer());
            (of, trials)
        };
        let ((then, trials_then), (now, trials_now)) = (rest(then), rest(now));
        let as_many = match self.method {
            Method::Random => trials_then <= trials_now,
            _ => trials_then == trials_now,
        };
        then == now && as_many
    }
}

/// What the number of ranks may change in a trial, and with it rates and the ends of rungs; a number for each trial.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Steps {
    /// Of the job.
    pub ranks_per_trial: usize,
    /// Windows of a step.
    pub global_batch: Vec<usize>,
    pub steps_an_epoch: Vec<u64>,
}

impl Steps {
    /// Those of the sweep that began in the folder may be fewer, but not others.
    pub fn check(&self, run: &Path) -> Result<()> {
        let path = run.join(STEPS);
        let Ok(text) = fs::read_to_string(&path) else {
            return Ok(());
        };
        let then: Self =
            toml::from_str(&text).with_context(|| format!("{}: no steps", path.display()))?;
        let of = |steps: &Self| {
            let both = steps.global_batch.iter().zip(&steps.steps_an_epoch);
            both.map(|(&batch, &epoch)| (batch, epoch))
                .collect::<Vec<_>>()
        };
        let both = of(&then).into_iter().zip(of(self)).enumerate();
        for (trial, (then_of, now)) in both {
            ensure!(
                then_of == now,
                "{}: trial {trial} began with {} windows a step and {} steps an epoch on {} ranks a trial, and would go on \
                 with {} and {}: ranks_per_trial = {} and the data as they were, or another folder",
                path.display(),
                then_of.0,
                then_of.1,
                then.ranks_per_trial,
                now.0,
                now.1,
                then.ranks_per_trial
            );
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Sweep> {
        let sweep: Sweep = toml::from_str(text)?;
        sweep.check()?;
        Ok(sweep)
    }

    #[test]
    fn the_example_is_a_sweep() {
        let sweep = read(include_str!("../../docs/sweep.toml")).unwrap();
        assert_eq!((sweep.method, sweep.trials), (Method::Random, Some(20)));
        let all = include_str!("../../docs/sweep.toml").replace("\n#", "\n");
        let halving = read(&all.replace("\"random\"", "\"halving\"")).unwrap();
        assert_eq!(halving.halving().unwrap().eta, 3);
        assert!(halving.search.contains_key("seed"));
    }

    #[test]
    fn what_is_unknown_or_said_twice_is_refused() {
        let grid = "run = \"r\"\nmethod = \"grid\"\n";
        for (text, said) in [
            (
                "[search]\nlr = [1.0]\n[base]\nlearning_rate = 1.0",
                "learning_rate",
            ),
            ("groups = 2\n[search]\nlr = [1.0]", "groups"),
            (
                "[search]\nlr = [1.0]\n[base]\nlr = 1.0",
                "lr is both searched and fixed",
            ),
            ("[search]", "[search] is empty"),
            ("trials = 3\n[search]\nlr = [1.0]", "a grid is tried whole"),
            (
                "[search]\nlr = [1.0]\n[halving]\neta = 2",
                "belongs to method halving",
            ),
        ] {
            let err = format!("{:#}", read(&format!("{grid}{text}")).unwrap_err());
            assert!(err.contains(said), "{err}");
        }
        let halving = "run = \"r\"\nmethod = \"halving\"\n";
        let err = read(&format!("{halving}[search]\nepochs = [1, 2]")).unwrap_err();
        assert!(err.to_string().contains("cannot be searched"), "{err}");
        let err = read("method = \"random\"\nrun = \"r\"\n[search]\nlr = [1.0]").unwrap_err();
        assert!(err.to_string().contains("needs trials"), "{err}");
    }

    #[test]
    fn a_folder_goes_on_with_its_own_sweep_only() {
        let folder = tempfile::tempdir().unwrap();
        let sweep = |rest: &str| {
            let run = folder.path().join("run");
            read(&format!(
                "run = {run:?}\nmethod = \"random\"\n{rest}[search]\nlr = [1.0, 2.0]"
            ))
            .unwrap()
        };
        let steps = |trials: usize, batch: usize| Steps {
            ranks_per_trial: batch / 8,
            global_batch: vec![batch; trials],
            steps_an_epoch: vec![4; trials],
        };
        sweep("trials = 3\n").folder().unwrap();
        fs::create_dir(folder.path().join("run")).unwrap();
        sweep("trials = 4\n").remember(&steps(4, 8)).unwrap();
        let wider = sweep("trials = 4\nranks_per_trial = 2\n");
        let err = wider.remember(&steps(4, 16)).unwrap_err().to_string();
        assert!(
            err.contains("8 windows a step") && err.contains("ranks_per_trial = 1"),
            "{err}"
        );
        wider.remember(&steps(4, 8)).unwrap();
        sweep("trials = 5\n").remember(&steps(5, 8)).unwrap();
        // Looking claims nothing.
        sweep("trials = 6\n").folder().unwrap();
        sweep("trials = 5\n").folder().unwrap();
        for other in ["trials = 4\n", "trials = 5\nseed = 2\n"] {
            let err = sweep(other).folder().unwrap_err().to_string();
            assert!(err.contains("holds another sweep"), "{err}");
        }
    }
}
