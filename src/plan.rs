//! What a training run will do: flags over an optional TOML file, checked, saved in the run and in its checkpoints.

mod counting;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use clap::{Args, ValueEnum};
use serde::{Deserialize, Serialize};

use crate::{
    comm::TransportChoice,
    compute::{Feed, LayoutChoice, Precision, Replay},
    device::DeviceChoice,
    engine::EngineChoice,
    loss::Loss,
    model::{Activation, Arch, BatchNorm, Options},
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

/// Every field has a flag and a key of the same name in the TOML file; a field without a value is decided when the
/// data and the world are known, and printed then.
macro_rules! settings {
    ($($(#[doc = $help:literal])+ $(#[arg($($arg:tt)*)])? $name:ident: $kind:ty,)*) => {
        /// What was typed.
        #[derive(Args, Clone, Debug, Default, Serialize, Deserialize)]
        #[serde(deny_unknown_fields)]
        pub struct Settings {$(
            $(#[doc = $help])+
            #[arg(long, $($($arg)*)?)]
            #[serde(skip_serializing_if = "Option::is_none")]
            pub $name: Option<$kind>,
        )*}

        impl Settings {
            /// These settings, and where they say nothing those of `base`.
            pub fn over(self, mut base: Settings) -> Settings {
                // Two ways to say one thing: the one typed now replaces the other.
                if self.batch.is_some() || self.lr_scaling.is_some() {
                    base.global_batch = None;
                }
                if self.global_batch.is_some() {
                    (base.batch, base.lr_scaling) = (None, None);
                }
                Settings { $($name: self.$name.or(base.$name),)* }
            }
        }
    };
}

settings! {
    /// HDF5 file of tfbind-prep, with the splits train and valid
    data: PathBuf,
    /// Model [default: unet]
    arch: Arch,
    /// After the U-Net's transposed convolutions [default: relu]
    up_activation: Activation,
    /// Share of the published filters and hidden units of a model that has many [default: 1]
    width: f64,
    /// Start from these weights: a checkpoint, or a file that tools/convert_weights.py made
    init: PathBuf,
    /// Start the filters of the first convolution from motifs (JASPAR counts), one each, as DanQ-JASPAR
    #[arg(conflicts_with = "init")]
    start_motifs: PathBuf,
    /// Batch norm while training [default: sync where the global batch is held, rank where --batch is given]
    batch_norm: BatchNorm,
    /// Windows of a step on each rank, whatever their number; the rate then follows it by --lr-scaling
    batch: usize,
    /// Windows of a step on all ranks together: the same run on any number of ranks, at the same rate [default: the
    /// model's, 16 for most, unless --batch is given]
    #[arg(conflicts_with = "batch")]
    global_batch: usize,
    /// Micro-batches of a step on each rank [default: 1]
    accumulate: usize,
    /// Passes over the training windows [default: 20]
    epochs: u64,
    /// Stop at this step, with a checkpoint to resume from
    stop_at: u64,
    /// What training minimises [default: the model's, cross-entropy for most]
    loss: Loss,
    /// Optimizer [default: the model's, adam for most]
    optimizer: Rule,
    /// Learning rate of a run on one rank [default: the model's, 0.001 for most]
    lr: f64,
    /// Momentum of sgd and nesterov [default: the model's, 0.9 for most]
    momentum: f64,
    /// Memory of rmsprop: how much of the squares' running mean a step keeps [default: the model's, 0.9 for most]
    rho: f64,
    /// Penalty on the absolute outputs of the last hidden layer; 0: none [default: the model's, none for most]
    l1: f64,
    /// Penalty on the squares of all weights; 0: none [default: the model's, none for most]
    l2: f64,
    /// Largest norm of the weights that lead to one output, kept after every step; 0: any [default: the model's, any for
    /// most]
    max_norm: f64,
    /// How the rate follows ranks x micro-batches where --batch is given [default: linear]
    #[arg(value_name = "RULE")]
    lr_scaling: Scaling,
    /// Steps over which the rate rises [default: a twentieth of the run, at most 500]
    warmup: u64,
    /// How the rate falls [default: the model's, cosine for most]
    schedule: Decay,
    /// Epochs between two falls of --schedule step [default: 10]
    decay_epochs: f64,
    /// Factor of each fall of --schedule step [default: 0.1]
    decay_factor: f64,
    /// What --schedule inverse multiplies steps with [default: the model's, 1e-5 for most]
    decay_rate: f64,
    /// Limit of the gradient's norm
    clip_norm: f64,
    /// Use windows and their reverse complements
    #[arg(num_args = 0..=1, default_missing_value = "true")]
    reverse_complement: bool,
    /// Shift windows at random by up to so many bases (at most the data's margin) [default: 0]
    shift: usize,
    /// Metric that chooses the best checkpoint [default: pr_auc; accuracy where labels are classes]
    metric: Metric,
    /// Evaluations without a better metric before stopping
    patience: u64,
    /// Stop when an evaluation finds --metric as good as this
    target: f64,
    /// Steps between two evaluations [default: once an epoch]
    eval_every: u64,
    /// Windows of a batch in evaluation: Keras' dice depends on it [default: 64]
    eval_batch: usize,
    /// Steps between two checkpoints beside those of evaluations
    save_every: u64,
    /// Checkpoints kept by step beside best and last [default: 0]
    keep: usize,
    /// Seed of weights, order and augmentation [default: 1]
    seed: u64,
    /// Where to compute [default: auto]
    device: DeviceChoice,
    /// What computes [default: auto]
    engine: EngineChoice,
    /// CPU threads of a rank [default: its share of the host's cores]
    threads: usize,
    /// Precision of libtorch's convolutions [default: f32 on a CPU, tf32 on a GPU that has it]
    precision: Precision,
    /// How libtorch's tensors lie [default: auto]
    layout: LayoutChoice,
    /// Record the work of a micro-batch on a GPU and launch it whole (CUDA graph); has not run on a card yet [default: off]
    replay: Replay,
    /// Where the training windows lie [default: auto]
    feed: Feed,
    /// Steps between two looks of the host at loss and gradient norm; adam only. What is not finite is found later, but
    /// changes nothing meanwhile [default: 16 on a GPU, 1 on a CPU]
    look_every: u64,
    /// How gradients travel [default: auto]
    transport: TransportChoice,
    /// When a loss or gradient is not finite [default: stop]
    non_finite: NonFinite,
    /// Bases on each side that kmer counts, 1 to 7 [default: 5]
    kmer: usize,
    /// Bases before a hidden one that markov counts, 1 to 15 [default: 14]
    markov_order: usize,
    /// Counts that the next shorter context stands for in one of more than 8 bases, in kmer and markov [default: 10]
    kmer_gamma: f64,
    /// Run of kmer or markov whose probabilities the last layer reads too (context-mlp, -cnn, -lstm)
    #[arg(value_name = "RUN")]
    kmer_input: PathBuf,
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

pub fn read_settings(path: &Path) -> Result<Settings> {
    let text =
        std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
    toml::from_str(&text).with_context(|| format!("{}: not a plan", path.display()))
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
