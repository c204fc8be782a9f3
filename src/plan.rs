//! What a training run will do: flags over an optional TOML file, checked, saved in the run and in its checkpoints.

mod counting;
mod settings;

pub use settings::{Settings, read_settings};

use std::path::PathBuf;

use anyhow::{Context, Result, bail, ensure};
use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use crate::{
    comm::TransportChoice,
    device::DeviceChoice,
    engine::EngineChoice,
    model::{Arch, BatchNorm, Options},
    nonfinite::NonFinite,
    optim::{Decay, Penalties, Rule, Scaling, Schedule},
};

/// What decides which checkpoint is best and when to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "snake_case")]
#[value(rename_all = "snake_case")]
pub enum Metric {
    Loss,
    PrAuc,
    AveragePrecision,
    Auroc,
    DiceCoef,
    BinaryIoU,
    /// Share of the labels called right; of windows only, as nearly all bases are negative
    Accuracy,
    /// Mean over the classes of the share called right
    BalancedAccuracy,
    /// Over the targets
    MedianAuroc,
    /// Over the targets
    MedianAveragePrecision,
    /// Mean over the ranks of each one's own pr_auc, which is not the pr_auc of the data; for comparison
    RankMeanPrAuc,
}

impl Metric {
    pub fn name(self) -> String {
        word(self)
    }

    /// Whether `new` is better than `old`; an undefined metric is better than nothing.
    pub fn better(self, new: Option<f64>, old: Option<f64>) -> bool {
        match (new, old) {
            (Some(new), Some(old)) => {
                if self == Metric::Loss {
                    new < old
                } else {
                    new > old
                }
            }
            (Some(_), None) => true,
            (None, _) => false,
        }
    }

    /// Whether `value` is as good as `target`.
    pub fn reaches(self, value: Option<f64>, target: f64) -> bool {
        value.is_some() && !self.better(Some(target), value)
    }
}

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
    pub shift: usize,
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
            "--lr-scaling has nothing to scale with --global-batch: the rate is that of one rank"
        );
        ensure!(
            s.init.is_none() || s.start_motifs.is_none(),
            "--init and --start-motifs exclude each other"
        );
        let accumulate = s.accumulate.unwrap_or(1);
        let batch = s.batch.unwrap_or(recipe.batch);
        // More ranks cost no quality unless asked for larger steps; a window a rank is the least that keeps all busy.
        let default = (s.batch.is_none() && s.lr_scaling.is_none())
            .then(|| recipe.batch.max(ranks * accumulate));
        let global_batch = s.global_batch.or(default);
        for (name, value) in [
            ("batch", batch),
            ("accumulate", accumulate),
            ("eval-batch", s.eval_batch.unwrap_or(64)),
        ] {
            ensure!(value > 0, "--{name} must be at least 1");
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
        let batch_norm = s.batch_norm.unwrap_or(match held {
            Some(_) => BatchNorm::Sync,
            None => BatchNorm::Rank,
        });
        let epochs = s.epochs.unwrap_or(20);
        ensure!(epochs > 0, "--epochs must be at least 1");
        let steps = epochs * rows.div_ceil(global_batch) as u64;
        let scaling = s.lr_scaling.unwrap_or(Scaling::Linear);
        let schedule = Schedule {
            peak: s.lr.unwrap_or(recipe.lr) * scaling.factor(times),
            warmup_steps: s.warmup.unwrap_or((steps / 20).min(500)),
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
        ensure!(
            (0.0..1.0).contains(&rho),
            "--rho must be from 0 up to 1, 1 not included; found {rho}"
        );
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
        ensure!(s.threads != Some(0), "--threads must be at least 1");
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
            metric: s.metric.unwrap_or(Metric::PrAuc),
            eval_batch: s.eval_batch.unwrap_or(64),
            shift,
            seed: s.seed.unwrap_or(1),
            device: s.device.unwrap_or(DeviceChoice::Auto),
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
                lr: Some(s.lr.unwrap_or(recipe.lr)),
                lr_scaling: held.is_none().then_some(scaling),
                l1: Some(penalties.l1),
                l2: Some(penalties.l2),
                max_norm: Some(penalties.max_norm),
                schedule: Some(schedule.decay),
                reverse_complement: Some(s.reverse_complement.unwrap_or(false)),
                shift: Some(shift),
                metric: Some(s.metric.unwrap_or(Metric::PrAuc)),
                eval_batch: Some(s.eval_batch.unwrap_or(64)),
                keep: Some(s.keep.unwrap_or(0)),
                seed: Some(s.seed.unwrap_or(1)),
                device: Some(s.device.unwrap_or(DeviceChoice::Auto)),
                ..settings
            },
        };
        Ok(match (counts, reading) {
            (true, Some(reading)) => plan.counting(reading),
            _ => plan,
        })
    }

    /// Whether steps can be launched before the host has looked at the last.
    pub fn runs_ahead(&self) -> bool {
        self.optimizer == Rule::Adam && self.penalties.max_norm == 0.0
    }

    /// The resolved plan as a table.
    pub fn table(&self, ranks: usize, rows: usize) -> String {
        let (rate, set) = (&self.schedule, &self.settings);
        let steps = rows.div_ceil(self.global_batch) as u64;
        let counts = match self.arch.paper().recipe.counts {
            Some(_) => self.options.reading,
            None => None,
        };
        let mut model = match counts {
            Some(_) => self.arch.to_string(),
            None => format!(
                "{}, batch norm {}",
                self.arch,
                word(self.options.batch_norm)
            ),
        };
        if let Some(width) = self.options.width {
            model += &format!(", {width} of its width");
        }
        if let Some(activation) = self.options.up_activation {
            model += &format!(", {} after transposed convolutions", word(activation));
        }
        let batch = format!(
            "{} = {ranks} ranks x {} x {} micro-batches; {steps} steps an epoch, {} in all",
            self.global_batch,
            self.batch,
            self.accumulate,
            steps * self.epochs
        );
        let optimizer = format!(
            "{}, rate {:.6} after {} warm-up steps, decay {} over {} epochs",
            word(self.optimizer),
            rate.peak,
            rate.warmup_steps,
            word(rate.decay),
            self.epochs
        );
        let turned = set.reverse_complement.unwrap_or(false);
        let augmentation = match counts {
            Some(_) => "both strands are counted".into(),
            None => format!("reverse complement {turned}, shift {}", self.shift),
        };
        let patience = set
            .patience
            .map_or("none".into(), |evaluations| evaluations.to_string());
        let lines = [
            (
                "data",
                format!("{} ({rows} training windows)", self.data.display()),
            ),
            ("model", model),
            ("batch", batch),
            ("loss", word(self.options.loss)),
            match counts {
                Some(reading) => ("counts", counting::describe(reading, rows, ranks)),
                None => ("optimizer", optimizer),
            },
            ("penalties", self.penalties.line()),
            ("augmentation", augmentation),
            (
                "best by",
                match set.target {
                    Some(target) => format!(
                        "{}, patience {patience}, target {target}",
                        self.metric.name()
                    ),
                    None => format!("{}, patience {patience}", self.metric.name()),
                },
            ),
            ("seed", self.seed.to_string()),
        ];
        lines
            .iter()
            .map(|(name, value)| format!("{name:>13}  {value}\n"))
            .collect()
    }
}

/// The name of a choice as it is typed.
pub fn word(choice: impl ValueEnum) -> String {
    choice
        .to_possible_value()
        .map_or_else(String::new, |value| value.get_name().to_string())
}
