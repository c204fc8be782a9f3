//! The registry of published models. Legend of shapes: B windows, C channels, L bases, T targets.
//!
//! A model is a function `(path, io, options) -> Graph`; its paper, parameter count and result stand in its file.

mod cnn;
mod graph;
mod sync;
mod unet;

#[cfg(test)]
pub(crate) use graph::Builder;
pub use graph::{Activation, Graph, Layout, Twin};
pub(crate) use graph::{BN_EPS, BN_MOMENTUM, Op};
pub use sync::SumOverRanks;

use anyhow::{Result, bail, ensure};
use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use tch::nn;

/// Sizes that the data file dictates.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Io {
    /// 4 one-hot bases, then the signal tracks.
    pub channels: i64,
    /// Bases of a window.
    pub length: i64,
    pub targets: i64,
    /// A label for every base, or one for the window.
    pub per_base: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Arch {
    /// Leopard U-Net (Li & Guan 2021), 475,969 parameters
    Unet,
    /// Competition baseline of three convolutions, 66,561 parameters
    Cnn,
}

/// How batch normalisation behaves while training.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum BatchNorm {
    /// Statistics of each rank's own micro-batch
    #[default]
    Rank,
    /// Statistics of the micro-batches of all ranks together: N ranks then equal one with the large batch
    Sync,
    /// The running statistics, never updated: N ranks then equal one exactly
    Frozen,
    /// As rank, but each rank keeps running statistics of its own and only rank 0's are saved, as trainers without
    /// care for them do; for comparison
    Rank0,
}

/// Choices that the papers leave open.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// After the transposed convolutions of the U-Net: none (Leopard) or ReLU (NTHU 2022, PR-AUC 0.5297).
    pub up_activation: Option<Activation>,
    pub batch_norm: BatchNorm,
    /// Channels of the U-Net's first block, which the others follow; the paper's 15 unless growth is measured.
    pub first_width: Option<i64>,
}

impl Arch {
    pub fn build(self, path: &nn::Path, io: Io, options: Options) -> Result<Graph> {
        ensure!(
            io.per_base,
            "{} predicts every base; the data file holds one label a window",
            self.name()
        );
        match self {
            Arch::Unet => unet::unet(path, io, options),
            Arch::Cnn => {
                if options.up_activation.is_some() {
                    bail!(
                        "--up-activation belongs to the unet; the cnn has no transposed convolution"
                    );
                }
                ensure!(
                    matches!(options.batch_norm, BatchNorm::Rank | BatchNorm::Sync),
                    "--batch-norm: the cnn has no batch norm"
                );
                cnn::cnn(path, io, options)
            }
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Arch::Unet => "unet",
            Arch::Cnn => "cnn",
        }
    }
}
