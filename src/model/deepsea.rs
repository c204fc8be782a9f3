//! DeepSEA: Zhou & Troyanskaya, "Predicting effects of noncoding variants with deep learning-based sequence model", Nat.
//! Methods 12:931 (2015). Input [B, 4, 1000], 919 chromatin features of the 200 bases in the middle; 52,843,119
//! parameters. Published median AUROC: 0.958 of 690 factors, 0.923 of 125 DNase, 0.856 of 104 histone marks.
//!
//! Torch7's Threshold(0, 1e-6) stands where others write ReLU, as in the authors' own model: weights that were trained
//! with it give the same outputs here to the last digits.

use anyhow::{Result, ensure};
use tch::nn;

use super::{Activation, Graph, Io, Options, Paper, Recipe, USUAL, graph::Builder};
use crate::optim::{Decay, Penalties, Rule};

pub const DEEPSEA: Paper = Paper {
    name: "deepsea",
    about: "DeepSEA (Zhou & Troyanskaya 2015): three convolutions and a dense layer, many features of a window",
    io: Io {
        channels: 4,
        length: 1000,
        targets: 919,
        per_base: false,
        classes: 1,
    },
    parameters: 52_843_119,
    build: deepsea,
    convolutional: false,
    // The training code with the paper's data: rate 1 / (1 + 8e-7 step), weight decay 1e-6, L1 1e-8, norm 0.9.
    recipe: Recipe {
        optimizer: Rule::Sgd,
        lr: 1.0,
        batch: 16,
        schedule: Decay::Inverse,
        decay_rate: 8e-7,
        penalties: Penalties {
            l1: 1e-8,
            l2: 5e-7,
            max_norm: 0.9,
        },
        ..USUAL
    },
};

const KERNEL: i64 = 8;
const HIDDEN: i64 = 925;

fn deepsea(path: &nn::Path, io: Io, options: Options) -> Result<Graph> {
    io.check_per_window("deepsea")?;
    options.check_none_of_unet("deepsea")?;
    ensure!(
        io.length >= 165,
        "deepsea reads windows of 165 bases at least, found {}",
        io.length
    );
    let (mut graph, mut x) = Builder::new(path, io, options);
    for (filters, pool, dropout) in [(320, 4, 0.2), (480, 4, 0.2), (960, 1, 0.5)] {
        let filters = graph.width(filters);
        x = graph.valid_conv(x, filters, KERNEL, Activation::Threshold);
        if pool > 1 {
            x = graph.max_pool_of(x, pool);
        }
        x = graph.dropout(x, dropout);
    }
    let hidden = graph.width(HIDDEN);
    x = graph.dense(x, hidden, Activation::Threshold);
    graph.hidden(x);
    graph.dense(x, io.outputs(), Activation::None);
    Ok(graph.finish())
}
