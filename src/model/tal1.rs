//! One convolution that counts motifs, as the class and the DragoNN tutorial train it on simulated TAL1 sites.
//! Input [B, 4, 1500]; 15 filters of 10 bases, maxima of 35 places, one dense unit.
//! Published accuracy 93.82 / 94.54 / 95.92 % and AUROC 0.98 / 0.98 / 0.991 on 1, 2, 4 GPUs.

use anyhow::{Result, ensure};
use tch::nn;

use super::{Activation, Graph, Io, Options, Paper, Recipe, USUAL, graph::Builder};

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
    recipe: Recipe { batch: 64, ..USUAL },
};

const FILTERS: i64 = 15;
const KERNEL: i64 = 10;
const POOL: i64 = 35;

fn tal1(path: &nn::Path, io: Io, options: Options) -> Result<Graph> {
    io.check_per_window("tal1")?;
    options.check_none_of_unet("tal1")?;
    let least = KERNEL - 1 + POOL;
    ensure!(
        io.length >= least,
        "tal1 reads windows of {least} bases at least, found {}",
        io.length
    );
    let (mut graph, mut x) = Builder::new(path, io, options);
    x = graph.valid_conv(x, FILTERS, KERNEL, Activation::Relu);
    x = graph.max_pool_of(x, POOL);
    graph.dense(x, io.outputs(), Activation::None);
    Ok(graph.finish())
}
