//! The talk's "two parallel LSTMs merged with repeat model": two of its best networks, weighed by one that tells
//! repeats from the rest; about 7.5 mio parameters, and no gain over one trained on repeats only. Here the six
//! convolutions weigh two `context-lstm`: 7,309,809. The talk trains the weighing network on repeat masks first; here it
//! is learned with the rest, as a mixture of experts whose labels are the hidden bases alone.

use anyhow::Result;
use tch::nn;

use super::{IO, RECIPE, check, cnn, lstm};
use crate::model::{Activation, Graph, Io, Options, Paper, graph::Builder};

pub const CONTEXT_FUSION: Paper = Paper {
    name: "context-fusion",
    about: "a hidden base from 50 on each side: two context-lstm weighed by a CNN (Copenhagen)",
    io: IO,
    parameters: 7_309_809,
    build: fusion,
    convolutional: false,
    batch_norm: false,
    up_activation: None,
    recipe: RECIPE,
};

fn fusion(path: &nn::Path, io: Io, options: Options) -> Result<Graph> {
    check(io, "context-fusion", cnn::LEAST_FLANK)?;
    let (mut graph, input) = Builder::new(path, io, options);
    let x = cnn::trunk(&mut graph, input);
    let gate = graph.dense(x, 1, Activation::None);
    let answers = [0; 2].map(|_| {
        let x = lstm::trunk(&mut graph, input);
        graph.dense(x, io.outputs(), Activation::None)
    });
    graph.mixture(gate, answers, io.classes);
    Ok(graph.finish())
}
