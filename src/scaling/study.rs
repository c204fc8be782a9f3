//! What is to be run: checked before anything starts, so that a mistake does not cost an allocation.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tch::{Device, nn::VarStore};

use super::{Mode, launch::Launcher, synthetic, typed};
use crate::{
    checkpoint::write_atomically,
    cli::ScalingArgs,
    data::{self, Windows},
    model::{Arch, Graph, Io},
    plan::{Metric, Plan, Settings},
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
    margin: usize,
}

impl<'a> Study<'a> {
    pub fn new(args: &'a ScalingArgs, stall_timeout: Duration) -> Result<Self> {
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
        let length = args.length.unwrap_or(LENGTH);
        let least = synthetic::SITE.len();
        ensure!(
            length >= least,
            "--length {length}: a random window has at least the {least} bases of its positives"
        );
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
        let settings = typed::settings(&args.train, args.target.is_some())?;
        let target = args.target.as_deref().map(typed::target).transpose()?;
        let launcher = Launcher::new(args.mpirun.as_deref(), &args.out, stall_timeout)?;
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
                classes: 1,
            },
            rows: 0,
            margin: 0,
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
        let length = self.args.length.unwrap_or(LENGTH);
        let to_be_made = self.args.data.is_none() && !self.data.exists();
        let header = if to_be_made {
            self.rows = STEPS_OF_WINDOWS * largest;
            synthetic::random_header(length)
        } else {
            let windows = Windows::open(&self.data, "train")?;
            self.rows = windows.num_rows();
            windows.header
        };
        (self.io, self.margin) = (data::io(&header), header.margin);
        ensure!(
            self.rows >= largest,
            "{} holds {} training windows, fewer than the {largest} of the largest step: lower --batch or --global-batch, \
             or give more data",
            self.data.display(),
            self.rows
        );
        // Whatever a run would refuse is refused now, before anything lies in the folder.
        for job in self.jobs() {
            self.plan(&job)?;
        }
        fs::create_dir_all(out.join("runs"))
            .with_context(|| format!("creating the folder {}", out.display()))?;
        write_atomically(&path, serde_json::to_string_pretty(&own)?.as_bytes())?;
        if to_be_made {
            synthetic::write(&self.data, length, self.rows)?;
        }
        Ok(())
    }

    /// What a run that is timed does, and its model.
    fn plan(&self, job: &Job) -> Result<(Plan, Graph)> {
        let plan = Plan::new(self.timed(job), job.ranks, self.rows, self.margin)?;
        let store = VarStore::new(Device::Cpu);
        let graph = plan.arch.build(&store.root(), self.io, plan.options)?;
        Ok((plan, graph))
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

    /// Sums over several ranks of a step's batch norms; none of a mode that is not run.
    pub fn statistics(&self, mode: Mode) -> Result<usize> {
        let most = *self.args.ranks.last().expect("not empty");
        let Some(job) = self.jobs().into_iter().find(|job| job.mode == mode) else {
            return Ok(0);
        };
        let (plan, graph) = self.plan(&job.on(most))?;
        Ok(graph.sums() * plan.accumulate)
    }

    pub fn folder(&self) -> &Path {
        &self.args.out
    }
}
