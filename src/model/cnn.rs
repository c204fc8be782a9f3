//! Baseline of the 2022 APAC HPC-AI competition: three convolutions and a dense layer at every base.
//! 5 channels: 66,561 parameters. Published on CTCF in K562: PR-AUC 0.456871, loss 8.50e-4 (two V100, 1,357 s).

use anyhow::Result;
use tch::nn;

use super::{Activation, Graph, Io, Options, Paper, USUAL, graph::Builder};

pub const CNN: Paper = Paper {
    name: "cnn",
    about: "baseline of three convolutions (APAC HPC-AI competition 2022)",
    io: Io {
        channels: 5,
        length: 10_240,
        targets: 1,
        per_base: true,
        classes: 1,
    },
    parameters: 66_561,
    build: cnn,
    convolutional: true,
    batch_norm: false,
    up_activation: None,
    recipe: USUAL,
};

/// (filters, kernel width)
const LAYERS: [(i64, i64); 3] = [(32, 17), (64, 11), (128, 5)];

fn cnn(path: &nn::Path, io: Io, options: Options) -> Result<Graph> {
    io.check_per_base("cnn")?;
    let (mut graph, mut x) = Builder::new(path, io, options);
    for (filters, kernel) in LAYERS {
        x = graph.conv(x, filters, kernel, Activation::Relu);
    }
    graph.conv(x, io.outputs(), 1, Activation::None);
    Ok(graph.finish())
}
