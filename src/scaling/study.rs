//! What is to be run: checked before anything starts, so that a mistake does not cost an allocation.

use std::{
    fs,
    path::{Path, PathBuf},
    str::FromStr,
};

use anyhow::{Context, Result, bail, ensure};
use clap::{Parser, ValueEnum};
use serde_json::{Value, json};
use tch::{Device, nn::VarStore};

use super::{Mode, launch::Launcher, synthetic};
use crate::{
    checkpoint::write_atomically,
    cli::{Cli, Command, ScalingArgs, TrainArgs},
    data::Windows,
    model::{Arch, BatchNorm, Io, Options},
    plan::{Metric, Plan, Settings, read_settings},
};

/// A trace keeps 1,000 steps.
const TRACED: u64 = 1000;
/// Bases of a random window.
const LENGTH: usize = 2048;
/// No epoch and no evaluation ends while steps are timed.
const NEVER: u64 = 1_000_000;
/// Random windows are as many as so many of the largest steps need.
const STEPS_OF_WINDOWS: usize = 8;
const STUDY: &str = "study.json";

/// A training run that is timed once a round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Job {
    pub mode: Mode,
    pub ranks: usize,
    /// Of a step on one rank; with --strong the most that one has.
    pub windows: usize,
    pub global_batch: usize,
}

impl Job {
    /// The same on another number of ranks.
    pub fn on(self, ranks: usize) -> Self {
        match self.mode {
            Mode::Weak => Self {
                ranks,
                global_batch: self.windows * ranks,
                ..self
            },
            Mode::Strong => Self {
                ranks,
                windows: self.global_batch.div_ceil(ranks),
                ..self
            },
        }
    }
}

pub struct Study<'a> {
    pub args: &'a ScalingArgs,
    /// Of train, as typed after `--`.
    pub settings: Settings,
    pub launcher: Launcher,
    pub target: Option<(Metric, f64)>,
    pub global_batch: usize,
    pub data: PathBuf,
    pub io: Io,
    rows: usize,
}

impl<'a> Study<'a> {
    pub fn new(args: &'a ScalingArgs) -> Result<Self> {
        let ranks = &args.ranks;
        ensure!(
            ranks[0] > 0 && ranks.is_sorted_by(|a, b| a < b),
            "--ranks must ascend from 1 or more, such as 1,2,4"
        );
        ensure!(
            ranks.len() > 1,
            "--ranks {}: nothing to compare with; name two numbers or more",
            ranks[0]
        );
        ensure!(args.batch > 0, "--batch must be at least 1");
        ensure!(args.steps > 0, "--steps must be at least 1");
        ensure!(args.repeats > 0, "--repeats must be at least 1");
        ensure!(
            args.warmup > 0 && args.warmup + args.steps <= TRACED,
            "--warmup must be at least 1, and --warmup and --steps at most {TRACED} together"
        );
        let most = *ranks.last().expect("not empty");
        let global_batch = args.global_batch.unwrap_or(args.batch * most);
        let modes = &args.modes;
        ensure!(
            modes.len() == 1 || modes[..] == [Mode::Weak, Mode::Strong],
            "--modes: weak, strong or weak,strong"
        );
        ensure!(
            global_batch >= most || !args.modes.contains(&Mode::Strong),
            "--global-batch {global_batch}: {most} ranks need as many windows to have one each"
        );
        let settings = settings(&args.train)?;
        let target = args.target.as_deref().map(target).transpose()?;
        let launcher = Launcher::new(args.mpirun.as_deref(), &args.out)?;
        let mut study = Self {
            args,
            settings,
            launcher,
            target,
            global_batch,
            data: args.data.clone().unwrap_or(args.out.join("data.h5")),
            io: Io {
                channels: 0,
                length: 0,
                targets: 0,
                per_base: true,
            },
            rows: 0,
        };
        study.open()?;
        Ok(study)
    }

    /// The folder, which may hold the same study half done, and the data.
    fn open(&mut self) -> Result<()> {
        let out = &self.args.out;
        let (path, own) = (out.join(STUDY), self.described()?);
        match fs::read_to_string(&path) {
            Ok(text) => ensure!(
                serde_json::from_str::<Value>(&text).is_ok_and(|then| then == own),
                "{} holds a study with other settings (see {}): name another --out",
                out.display(),
                path.display()
            ),
            Err(_) => ensure!(
                fs::read_dir(out).map_or(true, |mut entries| entries.next().is_none()),
                "{} is not empty and holds no study that could go on: name another --out",
                out.display()
            ),
        }
        let largest = self.jobs().iter().map(|job| job.global_batch).max();
        let largest = largest.expect("there are jobs");
        if self.args.data.is_none() && !self.data.exists() {
            fs::create_dir_all(out)
                .with_context(|| format!("creating the folder {}", out.display()))?;
            let length = self.args.length.unwrap_or(LENGTH);
            synthetic::write(&self.data, length, STEPS_OF_WINDOWS * largest)?;
        }
        let windows = Windows::open(&self.data, "train")?;
        (self.rows, self.io) = (windows.num_rows(), windows.io());
        ensure!(
            self.rows >= largest,
            "{} holds {} training windows, fewer than the {largest} of the largest step: lower --batch or --global-batch, \
             or give more data",
            self.data.display(),
            self.rows
        );
        // Whatever a run would refuse is refused now.
        for job in self.jobs() {
            let plan = Plan::new(
                self.timed(&job),
                job.ranks,
                self.rows,
                windows.header.margin,
            )?;
            let store = VarStore::new(Device::Cpu);
            plan.arch.build(&store.root(), self.io, plan.options)?;
        }
        fs::create_dir_all(out.join("runs"))
            .with_context(|| format!("creating the folder {}", out.display()))?;
        write_atomically(&path, serde_json::to_string_pretty(&own)?.as_bytes())
            .with_context(|| format!("writing {}", path.display()))
    }

    /// What has to stay the same for runs to be compared: numbers of ranks, repeats and prices may change.
    pub fn described(&self) -> Result<Value> {
        let args = self.args;
        Ok(json!({
            "version": env!("CARGO_PKG_VERSION"), "data": self.data, "length": args.length,
            "batch": args.batch, "global_batch": self.global_batch, "steps": args.steps, "warmup": args.warmup,
            "target": args.target, "mpirun": self.launcher.words, "train": serde_json::to_value(&self.settings)?,
        }))
    }

    /// In the order of a round that goes up.
    pub fn jobs(&self) -> Vec<Job> {
        let (args, first) = (self.args, self.args.ranks[0]);
        let of_all = |mode, windows, global_batch| Job {
            mode,
            ranks: 1,
            windows,
            global_batch,
        };
        let job = |mode| match mode {
            Mode::Weak => of_all(mode, args.batch, args.batch),
            Mode::Strong => of_all(mode, self.global_batch, self.global_batch),
        };
        let modes = || args.modes.iter();
        let ranks = args.ranks.iter();
        let mut jobs: Vec<Job> = ranks
            .flat_map(|&ranks| modes().map(move |&mode| job(mode).on(ranks)))
            .collect();
        // How a rank's time follows its windows: the model needs two sizes on the first number of ranks.
        if !args.modes.contains(&Mode::Weak) {
            let few = self
                .global_batch
                .div_ceil(*args.ranks.last().expect("not empty"));
            jobs.insert(0, of_all(Mode::Weak, few, few).on(first));
        }
        jobs
    }

    /// Settings of a run that is timed.
    pub fn timed(&self, job: &Job) -> Settings {
        let held = job.mode == Mode::Strong;
        Settings {
            batch: (!held).then_some(job.windows),
            global_batch: held.then_some(job.global_batch),
            epochs: Some(NEVER),
            eval_every: Some(NEVER),
            patience: None,
            save_every: None,
            keep: None,
            ..self.common()
        }
    }

    /// Settings of a run that goes on until the target; the same steps on any number of ranks.
    pub fn until_target(&self, seed: u64) -> Option<Settings> {
        let (metric, target) = self.target?;
        Some(Settings {
            global_batch: Some(self.global_batch),
            metric: Some(metric),
            target: Some(target),
            seed: Some(seed),
            ..self.common()
        })
    }

    fn common(&self) -> Settings {
        Settings {
            data: Some(self.data.clone()),
            // Every rank the same, however many there are.
            threads: Some(self.settings.threads.unwrap_or(1)),
            ..self.settings.clone()
        }
    }

    pub fn arch(&self) -> Arch {
        self.settings.arch.unwrap_or(Arch::Unet)
    }

    /// Sums over the ranks of a step's batch norms.
    pub fn statistics(&self, mode: Mode) -> usize {
        let held = mode == Mode::Strong;
        let asked = self.settings.batch_norm;
        let batch_norm = asked.unwrap_or(if held {
            BatchNorm::Sync
        } else {
            BatchNorm::Rank
        });
        let options = Options {
            batch_norm,
            ..Options::default()
        };
        let store = VarStore::new(Device::Cpu);
        let graph = self.arch().build(&store.root(), self.io, options);
        graph.map_or(0, |graph| graph.sums()) * self.settings.accumulate.unwrap_or(1)
    }

    pub fn folder(&self) -> &Path {
        &self.args.out
    }
}

/// Those typed after `--`, read as `train` reads them.
fn settings(words: &[String]) -> Result<Settings> {
    let typed = ["tfbind-mpi", "train", "--run", "-"].map(String::from);
    let cli = Cli::try_parse_from(typed.iter().chain(words));
    let Command::Train(args) = cli.unwrap_or_else(|err| err.exit()).command else {
        bail!("after -- stand settings of train");
    };
    let TrainArgs {
        resume,
        from,
        trace,
        sync_bn,
        settings,
        ..
    } = *args;
    let base = from.as_deref().map(read_settings).transpose()?;
    let mut settings = settings.over(base.unwrap_or_default());
    if sync_bn {
        settings.batch_norm = Some(BatchNorm::Sync);
    }
    settings.lr_scaling = settings.lr_scaling.filter(|_| from.is_none());
    // A plan holds the batch of its own run.
    if from.is_some() {
        (settings.batch, settings.global_batch, settings.data) = (None, None, None);
    }
    for (name, given) in [
        ("--data", settings.data.is_some()),
        ("--batch", settings.batch.is_some()),
        ("--global-batch", settings.global_batch.is_some()),
        ("--target", settings.target.is_some()),
    ] {
        ensure!(!given, "{name} belongs before the --");
    }
    let own = [
        ("--stop-at", settings.stop_at.is_some()),
        ("--lr-scaling", settings.lr_scaling.is_some()),
        ("--resume", resume),
        ("--trace", trace.is_some()),
    ];
    for (name, given) in own {
        ensure!(!given, "{name} is nothing for a timed run");
    }
    Ok(settings)
}

/// `pr_auc=0.7`
fn target(text: &str) -> Result<(Metric, f64)> {
    let parsed = text.split_once('=').and_then(|(name, value)| {
        let metric = Metric::from_str(name, false).ok()?;
        Some((metric, f64::from_str(value).ok()?))
    });
    parsed.with_context(|| {
        let names: Vec<String> = Metric::value_variants()
            .iter()
            .map(|of| of.name())
            .collect();
        format!(
            "--target {text}: not METRIC=VALUE, with one of {}",
            names.join(", ")
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_of_train_are_read_and_those_of_the_study_refused() {
        let words = |text: &str| text.split(' ').map(String::from).collect::<Vec<_>>();
        let read = settings(&words("--arch cnn --engine native --threads 2")).unwrap();
        assert_eq!((read.arch, read.threads), (Some(Arch::Cnn), Some(2)));
        for (text, name) in [("--batch 4", "--batch"), ("--stop-at 9", "--stop-at")] {
            let err = settings(&words(text)).unwrap_err().to_string();
            assert!(err.contains(name), "{err}");
        }
    }

    #[test]
    fn a_target_names_a_metric() {
        assert_eq!(target("pr_auc=0.7").unwrap(), (Metric::PrAuc, 0.7));
        let err = target("prauc=0.7").unwrap_err().to_string();
        assert!(err.contains("pr_auc"), "{err}");
        assert!(target("loss").is_err());
    }
}
