//! What a run says: a progress bar or plain lines, `metrics.jsonl`, and at the end one table. Rank 0 writes.

pub mod page;
mod svg;

use std::{
    fs::{self, File, OpenOptions},
    io::{IsTerminal, Write},
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};

use crate::{
    checkpoint::{Progress, write_atomically},
    comm::Comm,
    metrics::{Metrics, shown},
    plan::Plan,
};

/// Without a terminal, a line at most so often besides those of evaluations.
const LINE_EVERY: Duration = Duration::from_secs(20);

pub struct Log<'a> {
    comm: &'a dyn Comm,
    jsonl: Option<File>,
    bar: Option<ProgressBar>,
    run: String,
    last_line: Instant,
    started: Instant,
    samples: usize,
    steps: u64,
    communicating: Duration,
    /// Name and last value of the metric that chooses the best checkpoint.
    metric: (String, Option<f64>),
    last_step: u64,
    /// Sum and number of step losses since the last evaluation.
    loss: (f64, u64),
}

impl<'a> Log<'a> {
    pub fn open(
        comm: &'a dyn Comm,
        run: &Path,
        plan: &Plan,
        rows: usize,
        progress: &Progress,
    ) -> Result<Self> {
        let mut log = Log {
            comm,
            jsonl: None,
            bar: None,
            run: run.display().to_string(),
            last_line: Instant::now(),
            started: Instant::now(),
            samples: 0,
            steps: 0,
            communicating: Duration::ZERO,
            metric: (plan.metric.name(), None),
            last_step: last_step(plan, rows, progress),
            loss: (0.0, 0),
        };
        if comm.rank() != 0 {
            return Ok(log);
        }
        print!("{}", plan.table(comm.size(), rows));
        if progress.step > 0 {
            println!(
                "      resumed  after step {} (epoch {})",
                progress.step,
                progress.epoch + 1
            );
        }
        fs::create_dir_all(run)
            .with_context(|| format!("creating the run folder {}", run.display()))?;
        write_atomically(
            &run.join("plan.toml"),
            toml::to_string(&plan.settings)?.as_bytes(),
        )?;
        let path = run.join("metrics.jsonl");
        cut_after(&path, progress.step)?;
        let file = OpenOptions::new().create(true).append(true).open(&path);
        log.jsonl = Some(file.with_context(|| format!("opening {}", path.display()))?);
        if std::io::stderr().is_terminal() {
            let style = ProgressStyle::with_template("{bar:30} {pos}/{len} steps  {msg}")?;
            log.bar = Some(ProgressBar::new(log.last_step).with_style(style));
        }
        Ok(log)
    }

    #[allow(clippy::too_many_arguments)] // one number each, all of one line of the log
    pub fn step(
        &mut self,
        progress: &Progress,
        epoch: u64,
        loss: f64,
        rate: f64,
        samples: usize,
        communicated: Duration,
        waited: Duration,
    ) -> Result<()> {
        self.samples += samples;
        self.communicating += communicated;
        if loss.is_finite() {
            self.loss = (self.loss.0 + loss, self.loss.1 + 1);
        }
        let per_second = self.samples_per_second();
        self.write(json!({
            "event": "step", "step": progress.step, "epoch": epoch + 1, "loss": finite(loss), "lr": rate,
            "samples_per_s": per_second, "data_wait_s": waited.as_secs_f64(),
            "communication_s": self.communicating.as_secs_f64(), "seconds": progress.training_seconds,
        }))?;
        self.steps += 1;
        let left = self.last_step.saturating_sub(progress.step);
        let seconds = self.started.elapsed().as_secs_f64() / self.steps as f64 * left as f64;
        let line = format!(
            "epoch {} loss {loss:.6}  {} {}  {per_second:.1} samples/s  ETA {seconds:.0} s",
            epoch + 1,
            self.metric.0,
            self.metric
                .1
                .map_or("-".into(), |value| format!("{value:.4}")),
        );
        if let Some(bar) = &self.bar {
            bar.set_position(progress.step);
            bar.set_message(line);
        } else if self.jsonl.is_some() && self.last_line.elapsed() > LINE_EVERY {
            println!("step {:>6}/{}  {line}", progress.step, self.last_step);
            self.last_line = Instant::now();
        }
        Ok(())
    }

    pub fn evaluation(&mut self, progress: &Progress, metrics: &Metrics) -> Result<()> {
        let train_loss = self.loss.0 / self.loss.1 as f64;
        self.loss = (0.0, 0);
        self.write(json!({
            "event": "evaluation", "step": progress.step, "epoch": progress.epoch, "loss": finite(train_loss),
            "valid": metrics, "best": progress.best, "best_step": progress.best_step,
            "seconds": progress.training_seconds,
        }))?;
        self.metric.1 = metrics.value(&self.metric.0);
        let mark = if progress.best_step == progress.step {
            " *"
        } else {
            ""
        };
        let line = format!(
            "step {:>6}  epoch {:>3}  train loss {train_loss:.6}  valid loss {}  {} {}  {:.1} samples/s  {:.0} s{mark}",
            progress.step,
            progress.epoch,
            shown(metrics.loss),
            self.metric.0,
            shown(self.metric.1),
            self.samples_per_second(),
            progress.training_seconds,
        );
        match &self.bar {
            Some(bar) => bar.suspend(|| println!("{line}")),
            None if self.jsonl.is_some() => println!("{line}"),
            None => {}
        }
        self.last_line = Instant::now();
        Ok(())
    }

    pub fn finish(&mut self, progress: &Progress, device: &str, waited: Duration) -> Result<()> {
        // The slowest rank's wait is what the job lost.
        let waits = self.comm.gather_f32(&[waited.as_secs_f32()]);
        if self.jsonl.is_none() {
            return Ok(());
        }
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        let waited = waits.iter().map(|of| of[0]).fold(0.0, f32::max);
        let rows = [
            ("steps", progress.step.to_string()),
            (
                "best",
                format!("{} at step {}", shown(progress.best), progress.best_step),
            ),
            ("training_time", format!("{:.1}", progress.training_seconds)),
            ("samples_per_s", format!("{:.1}", self.samples_per_second())),
            ("data_wait_s", format!("{waited:.2}")),
            (
                "communication_s",
                format!("{:.2}", self.communicating.as_secs_f64()),
            ),
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
                .with_context(|| format!("writing {}/metrics.jsonl", self.run)),
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

/// Forgets what a killed run logged after its last checkpoint.
fn cut_after(path: &Path, step: u64) -> Result<()> {
    let Ok(text) = fs::read_to_string(path) else {
        return Ok(());
    };
    let known = |line: &&str| {
        serde_json::from_str::<Value>(line).is_ok_and(|of| of["step"].as_u64() <= Some(step))
    };
    let kept: String = text
        .lines()
        .filter(known)
        .flat_map(|line| [line, "\n"])
        .collect();
    write_atomically(path, kept.as_bytes())
}
