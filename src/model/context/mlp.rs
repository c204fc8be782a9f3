//! The talk's first network: 50 bases on each side, three dense layers of 300. Input [B, 4, 101] without its centre;
//! 302,104 parameters. Published accuracy on human DNA 46 %. Flanks of 10 to 200, 1 to 4 layers, 50 to 350 units and
//! dropout of 0.15 to 0.35 were searched; which dropout was best is not said: none here.

use anyhow::Result;
use tch::nn;

use super::{IO, RECIPE, answer, check};
use crate::model::{Activation, Graph, Io, Options, Paper, graph::Builder};

pub const CONTEXT_MLP: Paper = Paper {
    name: "context-mlp",
    about: "a hidden base from 50 on each side: three dense layers (Copenhagen)",
    io: IO,
    parameters: 302_104,
    build: mlp,
    convolutional: false,
    batch_norm: false,
    up_activation: None,
    recipe: RECIPE,
};

const LAYERS: usize = 3;
const UNITS: i64 = 300;

fn mlp(path: &nn::Path, io: Io, options: Options) -> Result<Graph> {
    check(io, "context-mlp", 1)?;
    let (mut graph, input) = Builder::new(path, io, options);
    let [before, after] = graph.flanks(input);
    let mut x = graph.concat(before, after);
    let units = graph.width(UNITS);
    for _ in 0..LAYERS {
        x = graph.dense(x, units, Activation::Relu);
    }
    answer(&mut graph, x, input, io, options)?;
    Ok(graph.finish())
}
