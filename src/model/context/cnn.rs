//! The talk's second network: six convolutions of widths 2, 3, 4, 6, 8, 10, 200 filters each (1,242,800 parameters), and
//! two dense layers; "about 2.7 mio" parameters, accuracy about 48 % on human DNA. The flank, the padding and the
//! first dense layer are not given: with 50 bases on each side, no padding (74 places are left), no pooling and 100
//! units it has 2,723,304.

use anyhow::Result;
use tch::nn;

use super::{IO, RECIPE, answer, check};
use crate::model::{
    Activation, Graph, Io, Options, Paper,
    graph::{Builder, Value},
};

pub const CONTEXT_CNN: Paper = Paper {
    name: "context-cnn",
    about: "a hidden base from 50 on each side: six convolutions, two dense layers (Copenhagen)",
    io: IO,
    parameters: 2_723_304,
    build: cnn,
    convolutional: false,
    batch_norm: false,
    up_activation: None,
    recipe: RECIPE,
};

const WIDTHS: [i64; 6] = [2, 3, 4, 6, 8, 10];
const FILTERS: i64 = 200;
const UNITS: i64 = 100;
/// The convolutions together take 27 places.
pub(super) const LEAST_FLANK: i64 = 14;

fn cnn(path: &nn::Path, io: Io, options: Options) -> Result<Graph> {
    check(io, "context-cnn", LEAST_FLANK)?;
    let (mut graph, input) = Builder::new(path, io, options);
    let x = trunk(&mut graph, input);
    answer(&mut graph, x, input, io, options)?;
    Ok(graph.finish())
}

/// All but the last layer: [B, 100, 1].
pub(super) fn trunk(graph: &mut Builder, mut x: Value) -> Value {
    let [filters, units] = [FILTERS, UNITS].map(|published| graph.width(published));
    for width in WIDTHS {
        x = graph.valid_conv(x, filters, width, Activation::Relu);
    }
    graph.dense(x, units, Activation::Relu)
}
