//! What a training run will do: flags over an optional TOML file, checked, saved in the run and in its checkpoints.

mod counting;
mod metric;
mod settings;
mod table;
#[cfg(test)]
mod tests;

pub use metric::Metric;
pub use settings::{Settings, read_settings};

use std::path::PathBuf;

use anyhow::{Context, Result, bail, ensure};
use clap::ValueEnum;

use crate::{
    checkpoint::Progress,
    comm::TransportChoice,
    device::{self, DeviceChoice},
    engine::EngineChoice,
    model::{Arch, BatchNorm, Options},
    nonfinite::NonFinite,
    optim::{Decay, Penalties, Rule, Scaling, Schedule},
};

/// Windows of a batch, and micro-batches of a step: more is a slip of the hand.
const MOST: usize = 1 << 20;
/// Windows of a batch in evaluation unless typed otherwise.
pub const EVAL_BATCH: usize = 64;
pub const SEED: u64 = 1;

/// Settings, each with its value.
#[derive(Clone, Debug)]
pub struct Plan {
    pub settings: Settings,
    pub data: PathBuf,
    pub arch: Arch,
    pub options: Options,
    /// Windows of a micro-batch on one rank.
    pub batch: usize,
    /// Windows of a step on all ranks.
    pub global_batch: usize,
    pub accumulate: usize,
    pub epochs: u64,
    pub optimizer: Rule,
    pub momentum: f64,
    pub rho: f64,
    pub penalties: Penalties,
    pub schedule: Schedule,
    pub metric: Metric,
    pub eval_batch: usize,
    pub reverse_complement: bool,
    pub shift: usize,
    /// Checkpoints kept by step.
    pub keep: usize,
    pub seed: u64,
    pub device: DeviceChoice,
    pub engine: EngineChoice,
    pub transport: TransportChoice,
    pub non_finite: NonFinite,
}

impl Plan {
    /// `rows` are the training windows, `margin` the data's.
    pub fn new(settings: Settings, ranks: usize, rows: usize, margin: usize) -> Result<Plan> {
        let arch = settings.arch.unwrap_or(Arch::Unet);
        let recipe = arch.paper().recipe;
        let counts = recipe.counts.is_some();
        let settings = match counts {
            true => settings.without_weights(arch)?,
            false => settings,
        };
        let reading = settings.reading(arch)?;
        let s = settings.clone();
        ensure!(
            s.batch.is_none() || s.global_batch.is_none(),
            "batch and global-batch exclude each other"
        );
        ensure!(
            s.lr_scaling.is_none() || s.global_batch.is_none(),
            "--lr-scaling has nothing to scale where --global-batch is held: the rate is that of one rank; --batch lets it grow"
        );
        ensure!(
            s.init.is_none() || s.start_motifs.is_none(),
            "--init and --start-motifs exclude each other"
        );
        let accumulate = s.accumulate.unwrap_or(1);
        let batch = s.batch.unwrap_or(recipe.batch);
        let eval_batch = s.eval_batch.unwrap_or(EVAL_BATCH);
        // More ranks cost no quality unless asked for larger steps; a window a rank is the least that keeps all busy.
        let default = (s.batch.is_none() && s.lr_scaling.is_none())
            .then(|| recipe.batch.max(ranks * accumulate));
        let global_batch = s.global_batch.or(default);
        for (name, value) in [
            ("batch", batch),
            ("accumulate", accumulate),
            ("eval-batch", eval_batch),
        ] {
            ensure!(value > 0, "--{name} must be at least 1");
            ensure!(value <= MOST, "--{name} {value} is over {MOST}");
        }
        // With a fixed global batch the mathematics is that of one rank, and so is the rate.
        let held = global_batch;
        let (global_batch, batch, times) = match global_batch {
            Some(0) => bail!("--global-batch must be at least 1"),
            Some(global) => (global, global.div_ceil(ranks * accumulate), 1.0),
            None => (
                batch * ranks * accumulate,
                batch,
                (ranks * accumulate) as f64,
            ),
        };
        // A part of a held batch may be a single window, whose statistics are noise: PR-AUC 0.11 instead of 0.79 on 8 ranks.
        let usual = match held {
            Some(_) if arch.paper().batch_norm => BatchNorm::Sync,
            _ => BatchNorm::Rank,
        };
        let batch_norm = s.batch_norm.unwrap_or(usual);
        let epochs = s.epochs.unwrap_or(20);
        ensure!(epochs > 0, "--epochs must be at least 1");
        let steps = epochs * rows.div_ceil(global_batch) as u64;
        let scaling = s.lr_scaling.unwrap_or(Scaling::Linear);
        // A paper's own recipe is of its own rate: one that grew with the ranks rises slowly all the same.
        let published = recipe.warmup.filter(|_| scaling.factor(times) == 1.0);
        let lr = s.lr.unwrap_or(recipe.lr);
        let schedule = Schedule {
            peak: lr * scaling.factor(times),
            warmup_steps: s.warmup.or(published).unwrap_or((steps / 20).min(500)),
            decay: s.schedule.unwrap_or(recipe.schedule),
            epochs: epochs as f64,
            decay_epochs: s.decay_epochs.unwrap_or(10.0),
            decay_factor: s.decay_factor.unwrap_or(0.1),
            decay_rate: s.decay_rate.unwrap_or(recipe.decay_rate),
        };
        schedule.check()?;
        let loss = s.loss.unwrap_or(recipe.loss);
        let optimizer = s.optimizer.unwrap_or(recipe.optimizer);
        ensure!(
            s.momentum.is_none() || matches!(optimizer, Rule::Sgd | Rule::Nesterov),
            "--momentum belongs to sgd and nesterov, not to {}",
            word(optimizer)
        );
        ensure!(
            s.rho.is_none() || optimizer == Rule::RmsProp,
            "--rho belongs to rmsprop, not to {}",
            word(optimizer)
        );
        let (momentum, rho) = (
            s.momentum.unwrap_or(recipe.momentum),
            s.rho.unwrap_or(recipe.rho),
        );
        for (name, value) in [("momentum", momentum), ("rho", rho)] {
            ensure!(
                (0.0..1.0).contains(&value),
                "--{name} must be from 0 up to 1, 1 not included; found {value}"
            );
        }
        let penalties = Penalties {
            l1: s.l1.unwrap_or(recipe.penalties.l1),
            l2: s.l2.unwrap_or(recipe.penalties.l2),
            max_norm: s.max_norm.unwrap_or(recipe.penalties.max_norm),
        };
        penalties.check()?;
        ensure!(
            optimizer != Rule::AdamInvariant || (held.is_none() && s.clip_norm.is_none()),
            "--optimizer adam-invariant is made for --batch, and not for --clip-norm"
        );
        ensure!(
            optimizer != Rule::AdamInvariant || penalties.l2 == 0.0,
            "--optimizer adam-invariant squares the gradients of micro-batches, of which --l2 is no part: --l2 0"
        );
        let decays = schedule.decay == Decay::Step;
        ensure!(
            decays || (s.decay_epochs.is_none() && s.decay_factor.is_none()),
            "--decay-epochs and --decay-factor belong to --schedule step"
        );
        ensure!(
            s.decay_rate.is_none() || schedule.decay == Decay::Inverse,
            "--decay-rate belongs to --schedule inverse"
        );
        ensure!(
            s.clip_norm.is_none_or(|limit| limit > 0.0),
            "--clip-norm must be positive"
        );
        ensure!(
            s.target.is_none_or(f64::is_finite),
            "--target must be a number, neither NaN nor infinite"
        );
        let metric = s.metric.unwrap_or(Metric::PrAuc);
        let reverse_complement = s.reverse_complement.unwrap_or(false);
        let keep = s.keep.unwrap_or(0);
        let seed = s.seed.unwrap_or(SEED);
        let device = s.device.unwrap_or(DeviceChoice::Auto);
        let shift = s.shift.unwrap_or(0);
        ensure!(
            shift <= margin,
            "--shift {shift} is more than the margin of the data, {margin} (tfbind-prep make --margin)"
        );
        for (name, value) in [
            ("eval-every", s.eval_every),
            ("save-every", s.save_every),
            ("patience", s.patience),
        ] {
            ensure!(value != Some(0), "--{name} must be at least 1");
        }
        s.threads.map(device::num_threads).transpose()?;
        let plan = Plan {
            data: s
                .data
                .clone()
                .context("--data is missing: the HDF5 file that tfbind-prep made")?,
            arch,
            options: Options {
                up_activation: s.up_activation,
                // On one rank both are the same, and libtorch's own is faster.
                batch_norm: match batch_norm {
                    BatchNorm::Sync if ranks == 1 => BatchNorm::Rank,
                    other => other,
                },
                loss,
                reading,
                width: s.width,
                l1: penalties.l1,
                batch_norm_typed: s.batch_norm.is_some(),
                ..Options::default()
            },
            batch,
            global_batch,
            accumulate,
            epochs,
            optimizer,
            momentum,
            rho,
            penalties,
            schedule,
            metric,
            eval_batch,
            reverse_complement,
            shift,
            keep,
            seed,
            device,
            engine: s.engine.unwrap_or_default(),
            transport: s.transport.unwrap_or(TransportChoice::Auto),
            non_finite: s.non_finite.unwrap_or(NonFinite::Stop),
            settings: Settings {
                // What depends on the number of ranks is decided again by a run that goes on with another.
                arch: Some(arch),
                batch: held.is_none().then_some(batch),
                global_batch: held,
                accumulate: Some(accumulate),
                epochs: Some(epochs),
                loss: Some(loss),
                optimizer: Some(optimizer),
                lr: Some(lr),
                lr_scaling: held.is_none().then_some(scaling),
                l1: Some(penalties.l1),
                l2: Some(penalties.l2),
                max_norm: Some(penalties.max_norm),
                schedule: Some(schedule.decay),
                reverse_complement: Some(reverse_complement),
                shift: Some(shift),
                metric: Some(metric),
                eval_batch: Some(eval_batch),
                keep: Some(keep),
                seed: Some(seed),
                device: Some(device),
                ..settings
            },
        };
        Ok(match (counts, reading) {
            (true, Some(reading)) => plan.counting(reading),
            _ => plan,
        })
    }

    /// Whether a run that stands there is over before its last epoch: by patience, or as its best reached the target.
    pub fn ends(&self, progress: &Progress) -> bool {
        let Settings {
            patience, target, ..
        } = self.settings;
        patience.is_some_and(|patience| progress.waited >= patience)
            || target.is_some_and(|target| self.metric.reaches(progress.best, target))
    }

    /// Whether steps can be launched before the host has looked at the last.
    pub fn runs_ahead(&self) -> bool {
        self.optimizer == Rule::Adam && self.penalties.max_norm == 0.0
    }
}

/// The name of a choice as it is typed.
pub fn word(choice: impl ValueEnum) -> String {
    choice
        .to_possible_value()
        .map_or_else(String::new, |value| value.get_name().to_string())
}
