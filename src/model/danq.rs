//! DanQ: Quang & Xie, "DanQ: a hybrid convolutional and recurrent deep neural network for quantifying the function of DNA
//! sequences", Nucleic Acids Res. 44:e107 (2016). Input and features are DeepSEA's; one convolution finds motifs, an LSTM
//! in both directions reads their order. 46,926,479 parameters: one bias for each direction of the LSTM, as in Keras.
//! DanQ-JASPAR is wider, 67,892,175 parameters, and starts about half of its filters from known motifs
//! (--start-motifs).
//!
//! Published medians over 918 features: AUROC 0.9514 and 0.9534 (DeepSEA 0.9445), AUPRC 0.3726 and 0.3834 (0.3438), as
//! mean of both strands (evaluate --both-strands). The LSTM's gates are sigmoids, as in Keras since 2.3 and in PyTorch;
//! the Keras of 2016 took a piecewise linear one.

use anyhow::Result;
use tch::nn;

use super::{
    Activation, Graph, Io, Options, Paper, Recipe, USUAL, deepsea::DEEPSEA, graph::Builder,
    layers::Cell,
};
use crate::optim::{Decay, Rule};

/// Keras' RMSprop as it stands, at most 60 epochs, stopped after 5 without a better loss.
const RECIPE: Recipe = Recipe {
    optimizer: Rule::RmsProp,
    batch: 100,
    schedule: Decay::None,
    warmup: Some(0),
    ..USUAL
};

pub const DANQ: Paper = Paper {
    name: "danq",
    about: "DanQ (Quang & Xie 2016): a convolution and an LSTM in both directions, many features of a window",
    io: DEEPSEA.io,
    parameters: 46_926_479,
    build: danq,
    convolutional: false,
    batch_norm: false,
    up_activation: None,
    recipe: RECIPE,
};

pub const DANQ_JASPAR: Paper = Paper {
    name: "danq-jaspar",
    about: "DanQ-JASPAR (Quang & Xie 2016): wider, made to start from motifs (--start-motifs)",
    parameters: 67_892_175,
    build: danq_jaspar,
    ..DANQ
};

struct Sizes {
    filters: i64,
    kernel: i64,
    pool: i64,
    /// Of each direction.
    units: i64,
}

const HIDDEN: i64 = 925;

fn danq(path: &nn::Path, io: Io, options: Options) -> Result<Graph> {
    let sizes = Sizes {
        filters: 320,
        kernel: 26,
        pool: 13,
        units: 320,
    };
    build(DANQ.name, &sizes, path, io, options)
}

fn danq_jaspar(path: &nn::Path, io: Io, options: Options) -> Result<Graph> {
    let sizes = Sizes {
        filters: 1024,
        kernel: 30,
        pool: 15,
        units: 512,
    };
    build(DANQ_JASPAR.name, &sizes, path, io, options)
}

fn build(name: &str, sizes: &Sizes, path: &nn::Path, io: Io, options: Options) -> Result<Graph> {
    io.check_per_window(name)?;
    // Two places at least, between which the LSTM remembers something.
    let least = sizes.kernel - 1 + 2 * sizes.pool;
    io.check_least(name, least)?;
    let (mut graph, mut x) = Builder::new(path, io, options);
    let [filters, units, hidden] =
        [sizes.filters, sizes.units, HIDDEN].map(|published| graph.width(published));
    x = graph.valid_conv(x, filters, sizes.kernel, Activation::Relu);
    x = graph.max_pool_of(x, sizes.pool);
    x = graph.dropout(x, 0.2);
    x = graph.recurrent(x, Cell::Lstm, units, true, true);
    x = graph.dropout(x, 0.5);
    x = graph.dense(x, hidden, Activation::Relu);
    graph.hidden(x);
    graph.dense(x, io.outputs(), Activation::None);
    Ok(graph.finish())
}
