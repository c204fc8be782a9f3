//! The registry of published models. Legend of shapes: B windows, C channels, L bases, T targets.
//!
//! A model is a function `(path, io, options) -> Graph`; its paper, parameter count and result stand in its file.

mod basset;
mod cnn;
mod context;
mod danq;
mod deepsea;
mod graph;
mod layers;
mod registry;
mod sync;
mod tal1;
mod toys;
mod transformer;
mod transunet;
mod unet;
mod unet_attention;
mod unet_wide;

#[cfg(test)]
pub(crate) use graph::Builder;
pub use graph::{Activation, Graph, Layout, Output, Twin, thousands};
pub(crate) use graph::{BN_EPS, BN_MOMENTUM, KERAS_NORM, Op};
pub use registry::{Arch, Paper, Recipe, USUAL};
pub use sync::SumOverRanks;

use anyhow::{Result, ensure};
use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use crate::{counts::Reading, loss::Loss};

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
    /// 1 where a label is 0 or 1; else a label is one of so many classes, each of which has a logit.
    #[serde(default = "binary")]
    pub classes: i64,
}

fn binary() -> i64 {
    1
}

impl Io {
    /// Logits at each place that has labels.
    pub fn outputs(&self) -> i64 {
        self.targets * self.classes
    }

    fn check_per_base(&self, name: &str) -> Result<()> {
        ensure!(
            self.per_base,
            "{name} predicts every base; the data file holds one label a window"
        );
        Ok(())
    }

    /// The length must be a multiple of the bases that the model's coarsest place spans.
    fn check_length(&self, name: &str, stride: i64) -> Result<()> {
        let near = (self.length / stride).max(1) * stride;
        ensure!(
            self.length > 0 && self.length % stride == 0,
            "{name} reads windows whose length is a multiple of {stride}, found {}: tfbind-prep make --length {near}",
            self.length
        );
        Ok(())
    }

    fn check_least(&self, name: &str, least: i64) -> Result<()> {
        ensure!(
            self.length >= least,
            "{name} reads windows of {least} bases at least, found {}: tfbind-prep make --length {least}",
            self.length
        );
        Ok(())
    }

    fn check_per_window(&self, name: &str) -> Result<()> {
        ensure!(
            !self.per_base,
            "{name} predicts one label a window; the data file holds one a base"
        );
        Ok(())
    }
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
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Options {
    /// After the transposed convolutions of U-Nets and transformer; of the U-Net none (Leopard) or ReLU (NTHU 2022, PR-AUC
    /// 0.5297).
    pub up_activation: Option<Activation>,
    pub batch_norm: BatchNorm,
    /// Whether it was asked for: an error where a model has none.
    pub batch_norm_typed: bool,
    /// Channels of the U-Net's first block, which the others follow; the paper's 15 unless growth is measured.
    pub first_width: Option<i64>,
    /// Nothing is dropped, where numbers are to be compared.
    pub no_dropout: bool,
    /// What training minimises.
    pub loss: Loss,
    /// What is counted of a window: by a model that counts, or as a further input of the last layer.
    pub reading: Option<Reading>,
    /// On the other strand a label is this less what it is here; none where it is the same.
    pub mirror: Option<i8>,
    /// Share of the published filters and hidden units.
    pub width: Option<f64>,
    /// Weight of the absolute outputs of the last hidden layer, summed over its units and averaged over the windows,
    /// beside the loss.
    pub l1: f64,
}
