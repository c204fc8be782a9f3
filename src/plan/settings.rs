//! Every setting of a run, as a flag and as a key of a TOML file.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::Args;
use serde::{Deserialize, Serialize};

use super::Metric;
use crate::{
    comm::TransportChoice,
    compute::{Feed, LayoutChoice, Precision, Replay},
    device::DeviceChoice,
    engine::EngineChoice,
    loss::Loss,
    model::{Activation, Arch, BatchNorm},
    nonfinite::NonFinite,
    optim::{Decay, Rule, Scaling},
};

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
                if self.batch.is_some() {
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
    /// After the transposed convolutions of U-Nets and transformer [default: relu; none in unet-wide]
    up_activation: Activation,
    /// Share of the published filters and hidden units of a model that has many [default: 1]
    width: f64,
    /// Start from these weights: a checkpoint, or a file that tools/convert_weights.py made
    init: PathBuf,
    /// Start the filters of the first convolution from those of a JASPAR, MEME, HOMER or ENCODE file, one each, as DanQ-JASPAR
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
    /// Steps over which the rate rises [default: none where the rate is that of the model's paper, else a twentieth of
    /// the run, at most 500]
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
    /// Precision of convolutions [default: f32 on a CPU, tf32 on a GPU that has it]
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
    /// Run of kmer or markov whose probabilities the last layer reads too (context-mlp, -cnn, -lstm, -transformer)
    #[arg(value_name = "RUN")]
    kmer_input: PathBuf,
}

pub fn read_settings(path: &Path) -> Result<Settings> {
    let text =
        std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
    toml::from_str(&text).with_context(|| format!("{}: not a plan", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_held_batch_gives_way_to_a_batch_and_to_nothing_else() {
        let base = || Settings {
            global_batch: Some(64),
            ..Settings::default()
        };
        let scaled = Settings {
            lr_scaling: Some(Scaling::None),
            ..Settings::default()
        };
        assert_eq!(scaled.over(base()).global_batch, Some(64));
        let batch = Settings {
            batch: Some(8),
            ..Settings::default()
        };
        assert_eq!(batch.over(base()).global_batch, None);
    }
}
