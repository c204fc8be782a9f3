//! The small models of a class on recurrent and convolutional networks ("Deep Learning by Example on Biowulf", 2: G.
//! Denisov), which read one track of numbers. Layers of a number a place have 2n + n^2 parameters (SimpleRNN), 4(2n +
//! n^2) (LSTM), (f + 1)n (Conv1D).
//!
//! Motif among ten bits: SGD at 0.01, steps of 32, 500 epochs. The next bit of 0^n 1^n (after Joulin & Mikolov,
//! arXiv:1503.01007): dropout 0.2, Adam, mean squared error; accuracy 91.81 / 91.89 / 92.90 / 92.94 % of the SimpleRNN
//! (104 parameters) and 97.92 / 98.84 / 98.99 / 99.05 % of the LSTM (113) after 100 / 300 / 500 / 700 epochs.

use anyhow::{Result, ensure};
use tch::nn;

use super::{
    Activation, Graph, Io, Options, Paper, Recipe, USUAL,
    graph::{Builder, Value},
    layers::Cell,
};
use crate::{
    loss::Loss,
    optim::{Decay, Rule},
};

const fn bits(length: i64) -> Io {
    Io {
        channels: 5,
        length,
        targets: 1,
        per_base: false,
        classes: 1,
    }
}

const DETECTION: Recipe = Recipe {
    optimizer: Rule::Sgd,
    lr: 0.01,
    momentum: 0.0,
    batch: 32,
    schedule: Decay::None,
    warmup: Some(0),
    ..USUAL
};

const MEMORY: Recipe = Recipe {
    batch: 32,
    schedule: Decay::None,
    warmup: Some(0),
    loss: Loss::Mse,
    ..USUAL
};

pub const RNN: Paper = Paper {
    name: "toy-rnn",
    about: "a SimpleRNN of 2 units finds a motif in a track of bits (Biowulf class 2)",
    io: bits(10),
    parameters: 8 + 21,
    build: rnn,
    convolutional: false,
    batch_norm: false,
    up_activation: None,
    recipe: DETECTION,
};

pub const CONV: Paper = Paper {
    name: "toy-conv",
    about: "a Conv1D of 2 filters finds a motif in a track of bits (Biowulf class 2)",
    parameters: 8 + 17,
    build: conv,
    ..RNN
};

pub const MEMORY_RNN: Paper = Paper {
    name: "toy-memory-rnn",
    about: "a SimpleRNN of 1 unit tries to count 0^n 1^n (Biowulf class 2)",
    io: bits(100),
    parameters: 104,
    build: memory_rnn,
    recipe: MEMORY,
    ..RNN
};

pub const MEMORY_LSTM: Paper = Paper {
    name: "toy-memory-lstm",
    about: "an LSTM of 1 unit counts 0^n 1^n (Biowulf class 2)",
    parameters: 113,
    build: memory_lstm,
    ..MEMORY_RNN
};

const UNITS: i64 = 2;
const KERNEL: i64 = 3;
const DROPOUT: f64 = 0.2;

fn rnn(path: &nn::Path, io: Io, options: Options) -> Result<Graph> {
    let (mut graph, track) = start("toy-rnn", path, io, options)?;
    let x = graph.recurrent(track, Cell::Simple, UNITS, false, true);
    graph.dense(x, 1, Activation::None);
    Ok(graph.finish())
}

fn conv(path: &nn::Path, io: Io, options: Options) -> Result<Graph> {
    let (mut graph, track) = start("toy-conv", path, io, options)?;
    io.check_least("toy-conv", KERNEL)?;
    let x = graph.valid_conv(track, UNITS, KERNEL, Activation::Relu);
    graph.dense(x, 1, Activation::None);
    Ok(graph.finish())
}

fn memory_rnn(path: &nn::Path, io: Io, options: Options) -> Result<Graph> {
    memory("toy-memory-rnn", Cell::Simple, path, io, options)
}

fn memory_lstm(path: &nn::Path, io: Io, options: Options) -> Result<Graph> {
    memory("toy-memory-lstm", Cell::Lstm, path, io, options)
}

fn memory(name: &str, cell: Cell, path: &nn::Path, io: Io, options: Options) -> Result<Graph> {
    let (mut graph, track) = start(name, path, io, options)?;
    let mut x = graph.recurrent(track, cell, 1, false, true);
    x = graph.dropout(x, DROPOUT);
    graph.dense(x, 1, Activation::None);
    Ok(graph.finish())
}

/// The graph and, of its input, the one track.
fn start<'a>(
    name: &str,
    path: &'a nn::Path<'a>,
    io: Io,
    options: Options,
) -> Result<(Builder<'a>, Value)> {
    io.check_per_window(name)?;
    ensure!(
        io.channels == 5 && io.outputs() == 1,
        "{name} reads one signal track and predicts one target; the data file has {} and {}",
        io.channels - 4,
        io.targets
    );
    let (mut graph, x) = Builder::new(path, io, options);
    let track = graph.tracks(x);
    Ok((graph, track))
}
