//! A chain: a run killed and resumed until it ends, held against the same run undisturbed.

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use tfbind_mpi::sampler::SplitMix;

use crate::{
    common::Run,
    job::Job,
    kill::{Kill, Moment, Victims},
    outcome::{Outcome, log_lines, logged_step, partial_files, saved_step},
};

/// Training windows of the data: 11 steps an epoch, the last of them short.
pub const WINDOWS: usize = 84;
const STEPS: u64 = 88;
const EVAL_EVERY: u64 = 8;
const SAVE_EVERY: u64 = 1;
/// 8 epochs of 11 steps; the three numbers above again. At this rate nearly every evaluation finds a better model.
const PLAN: &str = "--device cpu --threads 1 --global-batch 8 --epochs 8 --lr 0.001 --seed 3 \
                    --reverse-complement --eval-every 8 --save-every 1";
/// Kills of a chain; its last job is left alone.
pub const KILLS: usize = 8;
/// Steps between two kills are up to so many, so that a chain has steps for all of its kills.
const APART: u64 = 14;
/// About as long as a checkpoint takes to be written and synced.
const WRITING: Duration = Duration::from_millis(5);

pub struct Chain {
    pub kills: Vec<Kill>,
    pub differences: Vec<String>,
}

/// The undisturbed run, and how long its phases take.
pub struct Reference {
    outcome: Outcome,
    start_up: Duration,
    step: Duration,
    evaluation: Duration,
}

impl Reference {
    pub fn make(folder: &Run, ranks: usize) -> Result<Self> {
        let name = format!("undisturbed-{ranks}");
        let began = Instant::now();
        let mut job = start(folder, &name, ranks, false)?;
        let status = job.run_out()?;
        ensure!(status.success(), "{name}: {status}: {}", job.said());
        let whole = began.elapsed().as_secs_f64();
        let lines = log_lines(folder, &name)?;
        let seconds = |line: &serde_json::Value| line["seconds"].as_f64().unwrap_or(0.0);
        let steps = lines.iter().filter(|line| line["event"] == "step").count();
        ensure!(steps as u64 == STEPS, "{name}: {steps} steps");
        let last = lines.last().map_or(0.0, seconds);
        let pairs = lines.windows(2);
        let evaluations = pairs.filter(|pair| pair[1]["event"] == "evaluation");
        let evaluation = evaluations
            .map(|pair| seconds(&pair[1]) - seconds(&pair[0]))
            .fold(0.0, f64::max);
        Ok(Self {
            outcome: Outcome::read(folder, &name)?,
            start_up: Duration::from_secs_f64((whole - last).max(0.0)),
            step: Duration::from_secs_f64(last / STEPS as f64),
            evaluation: Duration::from_secs_f64(evaluation),
        })
    }

    /// Kills up to `most` times, then lets the run end and compares.
    pub fn chain(
        &self,
        folder: &Run,
        name: &str,
        ranks: usize,
        most: usize,
        random: &mut SplitMix,
    ) -> Chain {
        let mut kills = Vec::new();
        let differences = match self.disturb(folder, name, ranks, most, random, &mut kills) {
            Ok(differences) => differences,
            Err(err) => vec![format!("{err:#}")],
        };
        Chain { kills, differences }
    }

    fn disturb(
        &self,
        folder: &Run,
        name: &str,
        ranks: usize,
        most: usize,
        random: &mut SplitMix,
        kills: &mut Vec<Kill>,
    ) -> Result<Vec<String>> {
        loop {
            let from = saved_step(folder, name)?;
            // Who has no checkpoint yet starts again, in the same folder.
            let mut job = start(folder, name, ranks, from > 0)?;
            let killed = match kills.len() < most {
                true => self.kill(folder, name, &mut job, from, random),
                false => Ok(None),
            };
            let what = || format!("job {} of the chain, from step {from}", kills.len() + 1);
            let Some(kill) = killed.with_context(what)? else {
                let status = job.run_out().with_context(what)?;
                ensure!(status.success(), "{}: {status}: {}", what(), job.said());
                break;
            };
            kills.push(kill);
            let (logged, saved) = (logged_step(folder, name), saved_step(folder, name)?);
            ensure!(
                saved + SAVE_EVERY >= logged,
                "after kill {}: the checkpoint is of step {saved}, the log of step {logged}",
                kills.len()
            );
        }
        let mut differences = self.outcome.differences(&Outcome::read(folder, name)?);
        let left = partial_files(folder, name);
        if !left.is_empty() {
            differences.push(format!("left behind: {}", left.join(", ")));
        }
        Ok(differences)
    }

    /// None if the job ended before it was hit.
    fn kill(
        &self,
        folder: &Run,
        name: &str,
        job: &mut Job,
        from: u64,
        random: &mut SplitMix,
    ) -> Result<Option<Kill>> {
        let before = partial_files(folder, name);
        let new_partial = || {
            let now = partial_files(folder, name).into_iter();
            let mut new = now.filter(|file| !before.contains(file));
            new.any(|file| file.contains(".safetensors."))
        };
        let moment = Moment::draw(random);
        let victims = Victims::draw(random, job.ranks, moment);
        // The killed job may have logged a step past its checkpoint: only later ones are this job's.
        let next = from + SAVE_EVERY + 1;
        let (step, phase) = match moment {
            Moment::StartUp => (0, self.start_up),
            Moment::Step => (next + random.below(APART - 1), self.step),
            Moment::Evaluation => (
                next.next_multiple_of(EVAL_EVERY).min(STEPS),
                self.evaluation,
            ),
            Moment::Writing => (next + random.below(APART - 1), WRITING),
        };
        let phase = phase.mul_f64(random.below(1 << 20) as f64 / f64::from(1 << 20));
        let tick = Duration::from_millis(2);
        if moment == Moment::StartUp {
            thread::sleep(phase);
        }
        let reached = |_: &Job| Ok((logged_step(folder, name) >= step).then_some(()));
        if job.watch(tick, reached)?.is_none() {
            return ended(job);
        }
        let found = job.watch(tick, |job| {
            let processes = job.processes();
            let ranks = processes.iter().filter(|of| of.rank.is_some()).count();
            let enough = victims == Victims::Everyone || ranks == job.ranks;
            Ok(enough.then_some(processes))
        })?;
        let Some(mut processes) = found else {
            return ended(job);
        };
        processes.retain(|process| victims.include(process.rank));
        if moment == Moment::Writing {
            let seen = job.watch(Duration::from_micros(50), |_| {
                Ok(new_partial().then_some(()))
            })?;
            if seen.is_none() {
                return ended(job);
            }
        }
        if moment != Moment::StartUp {
            thread::sleep(phase);
        }
        let end = job.kill(&processes, victims == Victims::Everyone)?;
        if end.status.success() {
            return Ok(None);
        }
        let cut_a_checkpoint = new_partial();
        let kill = Kill {
            moment,
            victims,
            cut_a_checkpoint,
            took: end.took,
            hung: !end.hung.is_empty(),
        };
        if kill.hung {
            println!(
                "hang: {name}, {kill} from step {from}: still there {:?}",
                end.hung
            );
        }
        Ok(Some(kill))
    }
}

/// A job that ended before its kill must have ended well.
fn ended(job: &mut Job) -> Result<Option<Kill>> {
    let status = job.run_out()?;
    if !status.success() {
        bail!("ended by itself, {status}: {}", job.said());
    }
    Ok(None)
}

fn start(folder: &Run, name: &str, ranks: usize, resume: bool) -> Result<Job> {
    let mut arguments = vec!["train", "--run", name];
    match resume {
        true => arguments.push("--resume"),
        false => {
            arguments.extend(["--data", "data.h5"]);
            arguments.extend(PLAN.split_whitespace());
        }
    }
    Job::start(folder, ranks, &arguments)
}
