//! The talk's fourth network, a transformer, of which it gives neither sizes nor a result: "training/validation looks
//! strange so far". Here a convolution makes a token of each base and its neighbours, an encoder with rotary positions
//! (`layers/attention.rs`) looks from each to all, and what it finds at the hidden base is the answer: any flank has the
//! same parameters.

use anyhow::Result;
use tch::nn;

use super::{IO, RECIPE, answer, check};
use crate::model::{Activation, Graph, Io, Options, Paper, graph::Builder, transunet::ENCODER};

pub const CONTEXT_TRANSFORMER: Paper = Paper {
    name: "context-transformer",
    about: "a hidden base from any number on each side: transformer with rotary positions (Copenhagen)",
    io: IO,
    parameters: 1_196_164,
    build: transformer,
    convolutional: false,
    batch_norm: false,
    up_activation: None,
    recipe: RECIPE,
};

const KERNEL: i64 = 11;

fn transformer(path: &nn::Path, io: Io, options: Options) -> Result<Graph> {
    check(io, "context-transformer", 1)?;
    let (mut graph, input) = Builder::new(path, io, options);
    let mut x = graph.conv(input, ENCODER.width, KERNEL, Activation::Relu);
    x = graph.encoder(x, &ENCODER);
    x = graph.centre(x);
    answer(&mut graph, x, input, io, options)?;
    Ok(graph.finish())
}
