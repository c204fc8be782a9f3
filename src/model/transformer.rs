//! A plain transformer (Vaswani et al., "Attention is all you need", 2017, arXiv:1706.03762) on pooled tokens, as A*STAR
//! tried it in the 2022 APAC HPC-AI competition: theirs attended over bases and pooled by 4 behind that; no score was
//! published. Here two convolutions and pools by 4 make a token of 16 bases, 640 of 10,240, whose scores alone would not
//! fit for bases; transposed convolutions lead back.
//! Input [B, 4 + tracks, L], L divisible by 16; output one logit a base. 5 channels: 1,257,729 parameters.

use anyhow::Result;
use tch::nn;

use super::{
    Activation, Graph, Io, Options, Paper, USUAL, graph::Builder, transunet::ENCODER, unet::IO,
};

pub const TRANSFORMER: Paper = Paper {
    name: NAME,
    about: "plain transformer on tokens of 16 bases (A*STAR 2022)",
    io: IO,
    parameters: 1_257_729,
    build: transformer,
    convolutional: false,
    batch_norm: false,
    up_activation: Some(UP_ACTIVATION),
    recipe: USUAL,
};

const NAME: &str = "transformer";
/// (filters, kernel width), before each pool.
const STEM: [(i64, i64); 2] = [(64, 15), (ENCODER.width, 5)];
const POOL: i64 = 4;
const UP_ACTIVATION: Activation = Activation::Relu;
const STRIDE: i64 = POOL.pow(STEM.len() as u32);

fn transformer(path: &nn::Path, io: Io, options: Options) -> Result<Graph> {
    io.check_per_base(NAME)?;
    io.check_length(NAME, STRIDE)?;
    let up_activation = options.up_activation.unwrap_or(UP_ACTIVATION);
    let (mut graph, mut x) = Builder::new(path, io, options);
    for (filters, kernel) in STEM {
        x = graph.conv(x, filters, kernel, Activation::Relu);
        x = graph.max_pool_of(x, POOL);
    }
    x = graph.encoder(x, &ENCODER);
    let mut width = ENCODER.width;
    while graph.shape(x).1 < io.length {
        width /= 2;
        x = graph.up_conv(x, width, up_activation);
    }
    graph.conv(x, io.outputs(), 1, Activation::None);
    Ok(graph.finish())
}
