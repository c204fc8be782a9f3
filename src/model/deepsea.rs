//! DeepSEA: Zhou & Troyanskaya, "Predicting effects of noncoding variants with deep learning-based sequence model", Nat.
//! Methods 12:931 (2015). Input [B, 4, 1000], 919 chromatin features of the 200 bases in the middle; 52,843,119
//! parameters. Published median AUROC: 0.958 of 690 factors, 0.923 of 125 DNase, 0.856 of 104 histone marks.

use anyhow::{Result, ensure};
use tch::nn;

use super::{Activation, Graph, Io, Options, Paper, Recipe, USUAL, graph::Builder};

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
    recipe: Recipe { batch: 64, ..USUAL },
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
        x = graph.valid_conv(x, filters, KERNEL, Activation::Relu);
        if pool > 1 {
            x = graph.max_pool_of(x, pool);
        }
        x = graph.dropout(x, dropout);
    }
    x = graph.dense(x, HIDDEN, Activation::Relu);
    graph.dense(x, io.outputs(), Activation::None);
    Ok(graph.finish())
}
