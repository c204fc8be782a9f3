//! Motif detectors as the TAL1 paper and the DragoNN tutorial train them on simulated sites: input [B, 4, 1500], one to
//! three convolutions of 10 bases, maxima of 35 places, one dense unit.
//!
//! `tal1`: Assali, Trabelsi Ayoub & Ouni, "Apply distributed CNN on genomics to accelerate transcription-factor TAL1
//! motif prediction"; 15 filters, 1,246 parameters; accuracy 93.82 / 94.54 / 95.92 % and AUROC 0.98 / 0.98 / 0.991 on 1, 2,
//! 4 GPUs. The others: DragoNN, tutorial 1, with early stopping. `tal1-one`: one filter and batch norm, 88 parameters,
//! balanced accuracy 91.06 %, AUROC 0.974; `tal1-norm`: 15 filters and batch norm, 1,306, 91.28 %, 0.975; `tal1-three`:
//! three layers, 5,776, and with dropout `tal1-three-dropout`, no published figures.

use anyhow::Result;
use tch::nn;

use super::{Activation, Graph, Io, Options, Paper, Recipe, USUAL, graph::Builder};
use crate::optim::Decay;

pub const TAL1: Paper = Paper {
    name: "tal1",
    about: "15 motif detectors and one dense unit (TAL1 task), one label a window",
    io: Io {
        channels: 4,
        length: 1500,
        targets: 1,
        per_base: false,
        classes: 1,
    },
    parameters: 1_246,
    build: tal1,
    convolutional: false,
    batch_norm: false,
    up_activation: None,
    recipe: Recipe {
        batch: 64,
        schedule: Decay::None,
        warmup: Some(0),
        ..USUAL
    },
};

const TUTORIAL: Recipe = Recipe {
    batch: 128,
    ..TAL1.recipe
};

pub const TAL1_ONE: Paper = Paper {
    name: "tal1-one",
    about: "one motif detector with batch norm (DragoNN tutorial 1)",
    parameters: 88,
    build: one,
    batch_norm: true,
    recipe: TUTORIAL,
    ..TAL1
};

pub const TAL1_NORM: Paper = Paper {
    name: "tal1-norm",
    about: "15 motif detectors with batch norm (DragoNN tutorial 1)",
    parameters: 1_306,
    build: norm,
    batch_norm: true,
    recipe: TUTORIAL,
    ..TAL1
};

pub const TAL1_THREE: Paper = Paper {
    name: "tal1-three",
    about: "three layers of 15 motif detectors (DragoNN tutorial 1)",
    parameters: 5_776,
    build: three,
    recipe: TUTORIAL,
    ..TAL1
};

pub const TAL1_THREE_DROPOUT: Paper = Paper {
    name: "tal1-three-dropout",
    about: "three layers of 15 motif detectors, a fifth of their outputs dropped (DragoNN tutorial 1)",
    build: three_dropout,
    ..TAL1_THREE
};

const KERNEL: i64 = 10;
const POOL: i64 = 35;

/// A layer of motif detectors.
#[derive(Clone, Copy)]
struct Detectors {
    filters: i64,
    /// Padded to keep the length.
    same: bool,
    /// Between convolution and ReLU.
    norm: bool,
    dropout: f64,
}

impl Detectors {
    const VALID: Self = Self {
        filters: 15,
        same: false,
        norm: false,
        dropout: 0.0,
    };
    const NORMED: Self = Self {
        norm: true,
        ..Self::VALID
    };
    const ONE: Self = Self {
        filters: 1,
        same: true,
        ..Self::NORMED
    };
    const DROPPED: Self = Self {
        dropout: 0.2,
        ..Self::VALID
    };
}

fn tal1(path: &nn::Path, io: Io, options: Options) -> Result<Graph> {
    build(TAL1.name, &[Detectors::VALID], path, io, options)
}

fn one(path: &nn::Path, io: Io, options: Options) -> Result<Graph> {
    build(TAL1_ONE.name, &[Detectors::ONE], path, io, options)
}

fn norm(path: &nn::Path, io: Io, options: Options) -> Result<Graph> {
    build(TAL1_NORM.name, &[Detectors::NORMED], path, io, options)
}

fn three(path: &nn::Path, io: Io, options: Options) -> Result<Graph> {
    build(TAL1_THREE.name, &[Detectors::VALID; 3], path, io, options)
}

fn three_dropout(path: &nn::Path, io: Io, options: Options) -> Result<Graph> {
    let layers = [Detectors::DROPPED; 3];
    build(TAL1_THREE_DROPOUT.name, &layers, path, io, options)
}

fn build(
    name: &str,
    layers: &[Detectors],
    path: &nn::Path,
    io: Io,
    options: Options,
) -> Result<Graph> {
    io.check_per_window(name)?;
    let lost = layers.iter().filter(|layer| !layer.same).count() as i64 * (KERNEL - 1);
    let least = lost + POOL;
    io.check_least(name, least)?;
    let (mut graph, mut x) = Builder::new(path, io, options);
    for layer in layers {
        let activation = match layer.norm {
            true => Activation::None,
            false => Activation::Relu,
        };
        x = match layer.same {
            true => graph.conv(x, layer.filters, KERNEL, activation),
            false => graph.valid_conv(x, layer.filters, KERNEL, activation),
        };
        if layer.norm {
            x = graph.batch_norm(x);
            x = graph.activation(x, Activation::Relu);
        }
        if layer.dropout > 0.0 {
            x = graph.dropout(x, layer.dropout);
        }
    }
    x = graph.max_pool_of(x, POOL);
    graph.dense(x, io.outputs(), Activation::None);
    Ok(graph.finish())
}
