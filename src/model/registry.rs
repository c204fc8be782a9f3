//! Which models there are: one line here, one file each.

#[cfg(test)]
mod tests;

use std::fmt;

use anyhow::{Result, ensure};
use clap::{ValueEnum, builder::PossibleValue};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};
use tch::nn;

use super::{
    Activation, Graph, Io, Options, basset, cnn, context, danq, deepsea, tal1, toys, transformer,
    transunet, unet, unet_attention, unet_wide,
};
use crate::{
    counts::Reading,
    loss::Loss,
    optim::{Decay, Penalties, Rule},
};

/// A published model.
#[derive(Debug)]
pub struct Paper {
    pub name: &'static str,
    /// What it is and where it was published, for a list.
    pub about: &'static str,
    /// The sizes it was published for.
    pub io: Io,
    /// Its parameters at these sizes, running statistics included.
    pub parameters: i64,
    pub build: fn(&nn::Path, Io, Options) -> Result<Graph>,
    /// Made of layers that have every layout and precision; a model with others computes as it is written.
    pub convolutional: bool,
    pub batch_norm: bool,
    /// After its transposed convolutions unless typed otherwise; none where it has no such convolution.
    pub up_activation: Option<Activation>,
    pub recipe: Recipe,
}

/// How a model is trained unless typed otherwise.
#[derive(Clone, Copy, Debug)]
pub struct Recipe {
    pub optimizer: Rule,
    pub lr: f64,
    /// Of sgd and nesterov.
    pub momentum: f64,
    /// Of rmsprop.
    pub rho: f64,
    /// Windows of a step on all ranks.
    pub batch: usize,
    pub schedule: Decay,
    /// Steps over which the rate rises, where the paper's recipe is known; none: a twentieth of the run.
    pub warmup: Option<u64>,
    pub loss: Loss,
    /// What the model counts, once, in place of following gradients.
    pub counts: Option<Reading>,
    /// Of the schedule inverse.
    pub decay_rate: f64,
    pub penalties: Penalties,
}

/// What serves most models where their papers say nothing else.
pub const USUAL: Recipe = Recipe {
    optimizer: Rule::Adam,
    lr: 1e-3,
    momentum: 0.9,
    rho: 0.9,
    batch: 16,
    schedule: Decay::Cosine,
    warmup: None,
    loss: Loss::CrossEntropy,
    counts: None,
    // Leopard's.
    decay_rate: 1e-5,
    penalties: Penalties::NONE,
};

macro_rules! registry {
    ($($arch:ident: $paper:path,)*) => {
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Arch {
            $($arch,)*
        }

        impl Arch {
            pub const ALL: &'static [Arch] = &[$(Arch::$arch,)*];

            pub fn paper(self) -> &'static Paper {
                match self {
                    $(Arch::$arch => &$paper,)*
                }
            }
        }
    };
}

registry! {
    Unet: unet::UNET,
    Cnn: cnn::CNN,
    UnetWide: unet_wide::UNET_WIDE,
    UnetAttention: unet_attention::UNET_ATTENTION,
    Transunet: transunet::TRANSUNET,
    Transformer: transformer::TRANSFORMER,
    Deepsea: deepsea::DEEPSEA,
    Danq: danq::DANQ,
    DanqJaspar: danq::DANQ_JASPAR,
    Basset: basset::BASSET,
    Tal1: tal1::TAL1,
    Tal1One: tal1::TAL1_ONE,
    Tal1Norm: tal1::TAL1_NORM,
    Tal1Three: tal1::TAL1_THREE,
    Tal1ThreeDropout: tal1::TAL1_THREE_DROPOUT,
    ContextMlp: context::mlp::CONTEXT_MLP,
    ContextCnn: context::cnn::CONTEXT_CNN,
    ContextLstm: context::lstm::CONTEXT_LSTM,
    ContextFusion: context::fusion::CONTEXT_FUSION,
    ContextTransformer: context::transformer::CONTEXT_TRANSFORMER,
    Kmer: context::kmer::KMER,
    Markov: context::markov::MARKOV,
    ToyRnn: toys::RNN,
    ToyConv: toys::CONV,
    ToyMemoryRnn: toys::MEMORY_RNN,
    ToyMemoryLstm: toys::MEMORY_LSTM,
}

impl Arch {
    pub fn name(self) -> &'static str {
        self.paper().name
    }

    pub fn build(self, path: &nn::Path, io: Io, options: Options) -> Result<Graph> {
        let paper = self.paper();
        let name = paper.name;
        ensure!(
            options
                .width
                .is_none_or(|width| width > 0.0 && width <= 1.0),
            "--width must be more than 0 and at most 1"
        );
        ensure!(
            paper.batch_norm || !options.batch_norm_typed,
            "--batch-norm: {name} has no batch norm; leave it out"
        );
        ensure!(
            paper.up_activation.is_some() || options.up_activation.is_none(),
            "--up-activation: {name} has no transposed convolution; leave it out"
        );
        let reading = options.reading.or(paper.recipe.counts);
        let graph = (paper.build)(path, io, Options { reading, ..options })?;
        ensure!(
            reading.is_none() || graph.counter().is_some(),
            "--kmer-input: {name} does not take it"
        );
        ensure!(
            options.width.is_none() || graph.is_scaled(),
            "--width: {name} has one width"
        );
        ensure!(
            options.l1 == 0.0 || graph.has_hidden(),
            "--l1 penalises the last hidden layer of dense units, and {name} has none"
        );
        Ok(graph)
    }
}

impl fmt::Display for Arch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl ValueEnum for Arch {
    fn value_variants<'a>() -> &'a [Self] {
        Self::ALL
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        Some(PossibleValue::new(self.name()).help(self.paper().about))
    }
}

impl Serialize for Arch {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

impl<'de> Deserialize<'de> for Arch {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        let found = Self::ALL.iter().find(|arch| arch.name() == name);
        found.copied().ok_or_else(|| {
            let names: Vec<&str> = Self::ALL.iter().map(|arch| arch.name()).collect();
            D::Error::custom(format!("no model is called `{name}`: {}", names.join(", ")))
        })
    }
}
