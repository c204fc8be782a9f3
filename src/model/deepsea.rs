//! DeepSEA: Zhou & Troyanskaya, "Predicting effects of noncoding variants with deep learning-based sequence model", Nat.
//! Methods 12:931 (2015). Input [B, 4, 1000], 919 chromatin features of the 200 bases in the middle; 52,843,119
//! parameters. Published median AUROC: 0.958 of 690 factors, 0.923 of 125 DNase, 0.856 of 104 histone marks.
//!
//! Torch7's Threshold(0, 1e-6) stands where others write ReLU, as in the authors' own model: weights that were trained
//! with it give the same outputs here to the last digits.

use anyhow::Result;
use tch::nn;

use super::{Activation, Graph, Io, Options, Paper, Recipe, USUAL, graph::Builder};
use crate::optim::{Decay, Penalties, Rule};

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
    batch_norm: false,
    up_activation: None,
    // The training code with the paper's data: rate 1 / (1 + 8e-7 step), momentum 0.9, weight decay 1e-6, norm 0.9. Its
    // optim.sgd takes only 1 - momentum of a new gradient (Torch7's dampening), where --optimizer sgd takes all of it: the
    // same path at a tenth of the rate. L1 1e-8 is the paper's, 0 the code's default; there it sums over the 16 windows
    // of a step, here it averages.
    recipe: Recipe {
        optimizer: Rule::Sgd,
        lr: 0.1,
        batch: 16,
        schedule: Decay::Inverse,
        warmup: Some(0),
        decay_rate: 8e-7,
        penalties: Penalties {
            l1: 1e-8,
            l2: 5e-7,
            max_norm: 0.9,
        },
        ..USUAL
    },
};

const KERNEL: i64 = 8;
/// (filters, pool width, share dropped)
const LAYERS: [(i64, i64, f64); 3] = [(320, 4, 0.2), (480, 4, 0.2), (960, 1, 0.5)];
const HIDDEN: i64 = 925;

fn deepsea(path: &nn::Path, io: Io, options: Options) -> Result<Graph> {
    io.check_per_window("deepsea")?;
    // What leaves one place after the last convolution.
    let least = LAYERS
        .iter()
        .rev()
        .fold(1, |places, (_, pool, _)| places * pool + KERNEL - 1);
    io.check_least("deepsea", least)?;
    let (mut graph, mut x) = Builder::new(path, io, options);
    for (filters, pool, dropout) in LAYERS {
        let filters = graph.width(filters);
        x = graph.valid_conv(x, filters, KERNEL, Activation::Threshold);
        if pool > 1 {
            x = graph.max_pool_of(x, pool);
        }
        x = graph.dropout(x, dropout);
    }
    let hidden = graph.width(HIDDEN);
    x = graph.dense(x, hidden, Activation::Threshold);
    graph.hidden(x);
    graph.dense(x, io.outputs(), Activation::None);
    Ok(graph.finish())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::optim::Optimizer;
    use tch::{Device, Kind, Tensor, nn::VarStore};

    /// torch/optim, sgd.lua: the first gradient whole, of each later one 1 - momentum.
    #[test]
    fn the_rate_is_that_of_torch7_whose_momentum_dampens() {
        let (published, momentum) = (1.0, 0.9);
        let Recipe {
            lr, momentum: own, ..
        } = DEEPSEA.recipe;
        assert_eq!(own, momentum);
        let weight = Tensor::zeros([1], (Kind::Double, Device::Cpu));
        let mut optimizer = Optimizer::new(Rule::Sgd, own, &weight);
        let (mut theirs, mut kept) = (0.0, None);
        for step in 1..=200u64 {
            let gradient = 1.0 + 0.5 * (step as f64).sin();
            let moved = match kept {
                None => gradient,
                Some(kept) => momentum * kept + (1.0 - momentum) * gradient,
            };
            kept = Some(moved);
            theirs -= published * moved;
            optimizer.step(&weight, &Tensor::from_slice(&[gradient]), lr, step);
        }
        let ratio = weight.double_value(&[0]) / theirs;
        assert!((ratio - 1.0).abs() < 0.1, "{ratio}");
    }

    #[test]
    fn the_shortest_window_leaves_one_place() {
        let built = |length| {
            let io = Io {
                length,
                targets: 1,
                ..DEEPSEA.io
            };
            let options = Options {
                width: Some(0.01),
                ..Options::default()
            };
            deepsea(&VarStore::new(Device::Cpu).root(), io, options)
        };
        assert!(built(163).is_ok());
        let error = built(162).unwrap_err().to_string();
        assert!(
            error.contains("163 bases at least, found 162: tfbind-prep make --length 163"),
            "{error}"
        );
    }
}
