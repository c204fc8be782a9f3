//! What a run says: a progress bar or plain lines, `metrics.jsonl`, and at the end one table. Rank 0 writes.

mod genome;
mod lines;
pub mod logo;
pub mod page;
pub mod svg;
mod targets;

pub use lines::{LOG, logged};

use std::{
    fs::{self, File, OpenOptions},
    io::{IsTerminal, Write},
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};

use crate::{
    checkpoint::{Progress, write_atomically},
    cli::TrainArgs,
    comm::{Comm, gather_f32},
    metrics::{Metrics, shown},
    plan::Plan,
    resume::PLAN,
    timeline::{Phase, Timeline},
};
use lines::cut_after;

/// Without a terminal, a line at most so often besides those of evaluations.
const LINE_EVERY: Duration = Duration::from_secs(20);

/// What there is to say of a step.
pub struct StepLine<'a> {
    pub progress: &'a Progress,
    pub epoch: u64,
    /// Mean over the valid labels of all ranks.
    pub loss: f64,
    pub rate: f64,
    /// Windows of all ranks.
    pub samples: usize,
    pub skipped: bool,
    pub timeline: &'a Timeline,
}

pub struct Log<'a> {
    comm: &'a dyn Comm,
    jsonl: Option<File>,
    quiet: bool,
    /// The name of what is minimised.
    loss: &'static str,
    bar: Option<ProgressBar>,
    run: String,
    last_line: Instant,
    started: Instant,
    samples: usize,
    steps: u64,
    /// Name and last value of the metric that chooses the best checkpoint.
    metric: (String, Option<f64>),
    last_step: u64,
}

impl<'a> Log<'a> {
    pub fn open(
        comm: &'a dyn Comm,
        args: &TrainArgs,
        plan: &Plan,
        [computing, transport]: &[String; 2],
        rows: usize,
        progress: &Progress,
    ) -> Result<Self> {
        let run = &args.run;
        let mut log = Log {
            comm,
            jsonl: None,
            quiet: args.quiet,
            loss: plan.options.loss.name(),
            bar: None,
            run: run.display().to_string(),
            last_line: Instant::now(),
            started: Instant::now(),
            samples: 0,
            steps: 0,
            metric: (plan.metric.name(), None),
            last_step: last_step(plan, rows, progress),
        };
        if comm.rank() != 0 {
            return Ok(log);
        }
        if !args.quiet {
            print!("{}", plan.table(comm.size(), rows));
            println!("      compute  {computing}");
            println!("    transport  {transport}");
            if progress.step > 0 {
                println!(
                    "      resumed  after step {} (epoch {})",
                    progress.step,
                    // Behind the last there is none to go on with.
                    (progress.epoch + 1).min(plan.epochs)
                );
            }
        }
        fs::create_dir_all(run)
            .with_context(|| format!("creating the run folder {}", run.display()))?;
        let settings = toml::to_string(&plan.settings)?;
        write_atomically(&run.join(PLAN), settings.as_bytes())?;
        let path = run.join(LOG);
        cut_after(&path, progress)?;
        let file = OpenOptions::new().create(true).append(true).open(&path);
        log.jsonl = Some(file.with_context(|| format!("opening {}", path.display()))?);
        if std::io::stderr().is_terminal() {
            let style = ProgressStyle::with_template("{bar:30} {pos}/{len} steps  {msg}")?;
            log.bar = Some(ProgressBar::new(log.last_step).with_style(style));
        }
        Ok(log)
    }

    /// A line for the reader, from rank 0.
    pub fn say(&self, line: &str) {
        match &self.bar {
            _ if self.quiet => {}
            Some(bar) => bar.suspend(|| println!("{line}")),
            None if self.jsonl.is_some() => println!("{line}"),
            None => {}
        }
    }

    pub fn step(&mut self, line: &StepLine) -> Result<()> {
        let StepLine {
            progress,
            epoch,
            loss,
            timeline,
            ..
        } = *line;
        self.samples += line.samples;
        let per_second = self.samples_per_second();
        let communicating = timeline.seconds(Phase::Wait) + timeline.seconds(Phase::Transfer);
        let mut value = json!({
            "event": "step", "step": progress.step, "epoch": epoch + 1, "loss": finite(loss), "lr": line.rate,
            "samples": line.samples, "samples_per_s": per_second, "data_wait_s": timeline.seconds(Phase::Data),
            "communication_s": communicating, "seconds": progress.training_seconds,
        });
        if line.skipped {
            value["skipped"] = true.into();
        }
        self.write(value)?;
        self.steps += 1;
        let left = self.last_step.saturating_sub(progress.step);
        let seconds = self.started.elapsed().as_secs_f64() / self.steps as f64 * left as f64;
        let line = format!(
            "epoch {} {} {}  {} {}  {per_second:.1} samples/s  ETA {seconds:.0} s",
            epoch + 1,
            self.loss,
            shown(finite(loss)),
            self.metric.0,
            self.metric
                .1
                .map_or("-".into(), |value| format!("{value:.4}")),
        );
        if let Some(bar) = &self.bar {
            bar.set_position(progress.step);
            bar.set_message(line);
        } else if self.jsonl.is_some() && !self.quiet && self.last_line.elapsed() > LINE_EVERY {
            println!("step {:>6}/{}  {line}", progress.step, self.last_step);
            self.last_line = Instant::now();
        }
        Ok(())
    }

    /// `value` is that of the metric that chooses the best checkpoint.
    pub fn evaluation(
        &mut self,
        progress: &Progress,
        metrics: &Metrics,
        value: Option<f64>,
    ) -> Result<()> {
        let train_loss = progress.losses.0 / progress.losses.1 as f64;
        self.write(json!({
            "event": "evaluation", "step": progress.step, "epoch": progress.epoch, "loss": finite(train_loss),
            "valid": metrics, "best": progress.best, "best_step": progress.best_step,
            "seconds": progress.training_seconds,
        }))?;
        self.metric.1 = value;
        let mark = if progress.best_step == progress.step {
            " *"
        } else {
            ""
        };
        let line = format!(
            "step {:>6}  epoch {:>3}  train {} {}  valid loss {}  {} {}  {:.1} samples/s  {:.0} s{mark}",
            progress.step,
            progress.epoch,
            self.loss,
            shown(finite(train_loss)),
            shown(metrics.value("loss")),
            self.metric.0,
            shown(self.metric.1),
            self.samples_per_second(),
            progress.training_seconds,
        );
        self.say(&line);
        self.last_line = Instant::now();
        Ok(())
    }

    pub fn finish(
        &mut self,
        progress: &Progress,
        device: &str,
        timeline: &mut Timeline,
    ) -> Result<()> {
        let table = timeline.finish(self.comm);
        // The slowest rank's wait is what the job lost.
        let waits = gather_f32(self.comm, &[timeline.seconds(Phase::Data) as f32]);
        if self.jsonl.is_none() {
            return Ok(());
        }
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        if self.quiet {
            return Ok(());
        }
        let waited = waits.iter().map(|of| of[0]).fold(0.0, f32::max);
        print!("{table}");
        let communicating = timeline.seconds(Phase::Wait) + timeline.seconds(Phase::Transfer);
        let rows = [
            ("steps", progress.step.to_string()),
            ("skipped", progress.skipped.to_string()),
            (
                "best",
                format!("{} at step {}", shown(progress.best), progress.best_step),
            ),
            ("training_time", format!("{:.1}", progress.training_seconds)),
            (
                "samples_per_s",
                format!(
                    "{:.1}",
                    progress.samples as f64 / progress.training_seconds.max(f64::MIN_POSITIVE)
                ),
            ),
            ("data_wait_s", format!("{waited:.2}")),
            ("communication_s", format!("{communicating:.2}")),
            ("ranks", self.comm.size().to_string()),
            ("device", device.to_string()),
            ("run", self.run.clone()),
        ];
        for (name, value) in rows {
            println!("{name} {value}");
        }
        Ok(())
    }

    /// Over this process's life, evaluations included.
    fn samples_per_second(&self) -> f64 {
        self.samples as f64 / self.started.elapsed().as_secs_f64()
    }

    fn write(&mut self, value: Value) -> Result<()> {
        match &mut self.jsonl {
            Some(file) => file
                .write_all(format!("{value}\n").as_bytes())
                .with_context(|| format!("writing {}/{LOG}", self.run)),
            None => Ok(()),
        }
    }
}

/// Where this run ends unless patience ends it before.
fn last_step(plan: &Plan, rows: usize, progress: &Progress) -> u64 {
    let epoch = rows.div_ceil(plan.global_batch) as u64;
    let of_this = (rows - progress.done).div_ceil(plan.global_batch) as u64;
    let left = match plan.epochs.saturating_sub(progress.epoch) {
        0 => 0,
        epochs => (epochs - 1) * epoch + of_this,
    };
    let last = progress.step + left;
    plan.settings.stop_at.map_or(last, |stop| last.min(stop))
}

/// JSON has no NaN: a loss over no valid label is null.
fn finite(value: f64) -> Option<f64> {
    value.is_finite().then_some(value)
}
