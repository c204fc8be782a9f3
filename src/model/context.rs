//! Models that name a hidden base from the bases around it: Grønbæk, Liang, Elliott & Krogh, "Context dependent
//! prediction in DNA sequence using neural networks", PeerJ 10:e13666 (2022), and a talk on the way to it ("Improving
//! context based prediction of DNA using deep learning"), which alone gives sizes.

pub(super) mod cnn;
pub(super) mod fusion;
pub(super) mod kmer;
pub(super) mod lstm;
pub(super) mod markov;
pub(super) mod mlp;
pub(super) mod transformer;

use anyhow::{Result, ensure};
use tch::nn;

use super::{
    Activation, Graph, Io, Options, Recipe, USUAL,
    graph::{Builder, Value},
};
use crate::counts::Counter;

/// 50 bases on each side, as most of the talk's models have it.
const IO: Io = Io {
    channels: 4,
    length: 101,
    targets: 1,
    per_base: false,
    classes: 4,
};

/// Steps of the talk are of 512 windows.
const RECIPE: Recipe = Recipe {
    batch: 512,
    ..USUAL
};

/// Windows around one base, of so many on each side at least.
fn check(io: Io, name: &str, flank: i64) -> Result<()> {
    io.check_per_window(name)?;
    ensure!(
        io.length % 2 == 1 && io.length > 2 * flank,
        "{name} names a base from {flank} or more on each side: windows of an odd length from {} on, found {}",
        2 * flank + 1,
        io.length
    );
    Ok(())
}

/// The last layer, which may also read what was counted of the same window.
fn answer(graph: &mut Builder, x: Value, input: Value, io: Io, options: Options) -> Result<()> {
    let x = match counts(graph, input, io, options)? {
        Some(counted) => graph.concat(x, counted),
        None => x,
    };
    graph.dense(x, io.outputs(), Activation::None);
    Ok(())
}

/// A model that only counts.
fn counting(path: &nn::Path, io: Io, options: Options) -> Result<Graph> {
    check(io, "a model that counts", 1)?;
    let (mut graph, x) = Builder::new(path, io, options);
    counts(&mut graph, x, io, options)?;
    Ok(graph.finish())
}

/// [B, K, 1], where something is to be counted.
fn counts(graph: &mut Builder, input: Value, io: Io, options: Options) -> Result<Option<Value>> {
    let Some(reading) = options.reading else {
        return Ok(None);
    };
    let (bases, flank) = (reading.neighbours.levels(), io.length / 2);
    ensure!(
        io.targets == 1 && flank >= bases as i64,
        "{bases} bases on a side are counted, of one target; the windows have {flank} of {}: fewer by --kmer or \
         --markov-order, or wider windows",
        io.targets
    );
    let counter = Counter::new(reading, io.classes, options.mirror);
    Ok(Some(graph.counted(input, counter, io.classes)))
}
