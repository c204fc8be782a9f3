//! Basset: Kelley, Snoek & Rinn, "Basset: learning the regulatory code of the accessible genome with deep convolutional
//! neural networks", Genome Res. 26:990 (2016). Input [B, 4, 600], DNase of 164 cell types; 4,140,464 parameters
//! (4,135,064 trained). Published mean AUROC: 0.895. Batch norm comes before each ReLU, with Torch7's constants.

use anyhow::Result;
use tch::nn;

use super::{
    Activation, Graph, Io, Options, Paper, Recipe, USUAL,
    graph::{Builder, TORCH_NORM},
};
use crate::optim::{Decay, Penalties, Rule};

pub const BASSET: Paper = Paper {
    name: "basset",
    about: "Basset (Kelley, Snoek & Rinn 2016): three convolutions and two dense layers, DNase of many cell types",
    io: Io {
        channels: 4,
        length: 600,
        targets: 164,
        per_base: false,
        classes: 1,
    },
    parameters: 4_140_464,
    build: basset,
    convolutional: false,
    batch_norm: true,
    up_activation: None,
    // The published job file: learning_rate 0.002, momentum (of RMSprop's mean) 0.98, weight_norm 7.
    recipe: Recipe {
        optimizer: Rule::RmsProp,
        lr: 0.002,
        rho: 0.98,
        batch: 128,
        schedule: Decay::None,
        warmup: Some(0),
        penalties: Penalties {
            max_norm: 7.0,
            ..Penalties::NONE
        },
        ..USUAL
    },
};

/// (filters, kernel width, pool width)
const LAYERS: [(i64, i64, i64); 3] = [(300, 19, 3), (200, 11, 4), (200, 7, 4)];
const HIDDEN: i64 = 1000;

fn basset(path: &nn::Path, io: Io, options: Options) -> Result<Graph> {
    io.check_per_window("basset")?;
    // What leaves one place after the last pool.
    let least = LAYERS
        .iter()
        .rev()
        .fold(1, |places, (_, kernel, pool)| places * pool + kernel - 1);
    io.check_least("basset", least)?;
    let (mut graph, mut x) = Builder::new(path, io, options);
    for (filters, kernel, pool) in LAYERS {
        let filters = graph.width(filters);
        x = graph.valid_conv(x, filters, kernel, Activation::None);
        x = graph.batch_norm_with(x, TORCH_NORM);
        x = graph.activation(x, Activation::Relu);
        x = graph.max_pool_of(x, pool);
    }
    for _ in 0..2 {
        let hidden = graph.width(HIDDEN);
        x = graph.dense(x, hidden, Activation::None);
        x = graph.batch_norm_with(x, TORCH_NORM);
        x = graph.activation(x, Activation::Relu);
        // Of what is passed on, not of what is dropped.
        graph.hidden(x);
        x = graph.dropout(x, 0.3);
    }
    graph.dense(x, io.outputs(), Activation::None);
    Ok(graph.finish())
}
