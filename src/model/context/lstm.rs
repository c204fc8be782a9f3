//! The talk's third and best network, "bi-directional (convo + LSTM) plus a final dense layer": about 2.3 mio
//! parameters, near 63 % in repeats and 40 % outside, above 50 % in all of human DNA; about 52 % with 200 bases on each
//! side and the same parameters. Its layers are not given. Here two convolutions along the window, an LSTM along each
//! flank towards the hidden base, of which the last states are kept, and two dense layers have 2,293,404, for any flank.

use anyhow::Result;
use tch::nn;

use super::{IO, RECIPE, answer, check};
use crate::model::{
    Activation, Graph, Io, Options, Paper,
    graph::{Builder, Value},
    layers::Cell,
};

pub const CONTEXT_LSTM: Paper = Paper {
    name: "context-lstm",
    about: "a hidden base from any number on each side: convolutions, an LSTM along each flank (Copenhagen)",
    io: IO,
    parameters: 2_293_404,
    build: lstm,
    convolutional: false,
    batch_norm: false,
    up_activation: None,
    recipe: RECIPE,
};

const FILTERS: i64 = 200;
const WIDTHS: [i64; 2] = [11, 5];
/// Of each LSTM.
const STATES: i64 = 400;
const UNITS: i64 = 200;

fn lstm(path: &nn::Path, io: Io, options: Options) -> Result<Graph> {
    check(io, "context-lstm", 1)?;
    let (mut graph, input) = Builder::new(path, io, options);
    let x = trunk(&mut graph, input);
    answer(&mut graph, x, input, io, options)?;
    Ok(graph.finish())
}

/// All but the last layer: [B, 200, 1].
pub(super) fn trunk(graph: &mut Builder, mut x: Value) -> Value {
    let [filters, states, units] = [FILTERS, STATES, UNITS].map(|published| graph.width(published));
    for width in WIDTHS {
        x = graph.conv(x, filters, width, Activation::Relu);
    }
    let [before, after] = graph.flanks(x).map(|flank| {
        let (both, sequence) = (false, false);
        graph.recurrent(flank, Cell::Lstm, states, both, sequence)
    });
    let x = graph.concat(before, after);
    graph.dense(x, units, Activation::Relu)
}
