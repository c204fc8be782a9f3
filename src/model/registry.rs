//! Which models there are: one line here, one file each.

use std::fmt;

use anyhow::{Result, ensure};
use clap::{ValueEnum, builder::PossibleValue};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};
use tch::nn;

use super::{
    Graph, Io, Options, basset, cnn, context, danq, deepsea, tal1, toys, transformer, transunet,
    unet, unet_attention, unet_wide,
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{counts::Counter, engine::masked_loss, flat::FlatTensors, optim::Optimizer};
    use tch::{Device, Kind, Tensor, nn::ModuleT, nn::VarStore};

    #[test]
    fn every_model_has_the_parameters_it_was_published_with() {
        for arch in Arch::ALL {
            let paper = arch.paper();
            let store = VarStore::new(Device::Cpu);
            let graph = arch
                .build(&store.root(), paper.io, Options::default())
                .unwrap();
            let learned = store.variables().values().map(Tensor::numel).sum::<usize>() as i64;
            let counted = graph.counter().map_or(0, Counter::num_parameters);
            assert_eq!(learned + counted, paper.parameters, "{arch}");
        }
    }

    #[test]
    fn every_parameter_of_every_model_has_a_finite_gradient() {
        for arch in with_weights() {
            tch::manual_seed(1);
            let (mut store, graph, io) = match arch.paper().parameters {
                1_000_000.. => small(arch),
                _ => {
                    let (store, published) = (VarStore::new(Device::Cpu), arch.paper().io);
                    // A longer window of bases shows a layer nothing new.
                    let length = match published.per_base {
                        true => 1024,
                        false => published.length,
                    };
                    let io = Io {
                        length,
                        ..published
                    };
                    let graph = arch.build(&store.root(), io, Options::default()).unwrap();
                    (store, graph, io)
                }
            };
            // In single precision batch norm alone may leave a bias with rounding for a gradient.
            store.set_kind(Kind::Double);
            let on = (Kind::Double, Device::Cpu);
            let x = Tensor::randn([3, io.channels, io.length], on);
            let logits = graph.forward_t(&x, true);
            let width = if io.per_base { io.length } else { 1 };
            assert_eq!(logits.size(), [3, io.outputs(), width], "{arch}");
            (logits * Tensor::randn([3, io.outputs(), width], on))
                .sum(Kind::Double)
                .backward();
            assert_eq!(
                graph.plain_layer().is_none(),
                arch.paper().convolutional,
                "{arch}"
            );
            for (name, tensor) in store.variables() {
                if tensor.requires_grad() {
                    let largest = tensor.grad().abs().max().double_value(&[]);
                    assert!(
                        largest.is_finite() && largest > 0.0,
                        "{arch} {name}: {largest}"
                    );
                }
            }
        }
    }

    #[test]
    fn names_are_read_back() {
        for arch in Arch::ALL {
            let text = serde_json::to_string(arch).unwrap();
            assert_eq!(serde_json::from_str::<Arch>(&text).unwrap(), *arch);
        }
        let error = serde_json::from_str::<Arch>("\"resnet\"").unwrap_err();
        assert!(
            error
                .to_string()
                .contains("no model is called `resnet`: unet, cnn"),
            "{error}"
        );
    }

    /// Models that follow gradients.
    fn with_weights() -> impl Iterator<Item = Arch> {
        let all = Arch::ALL.iter().copied();
        all.filter(|arch| arch.paper().recipe.counts.is_none())
    }

    /// The paper's model for few targets; one of many parameters narrower if it can be, and for the shortest windows it
    /// can read.
    fn small(arch: Arch) -> (VarStore, Graph, Io) {
        let paper = arch.paper();
        let lengths = match paper.parameters {
            // Room for sixteen windows in a dense layer of a number a place.
            0..200 => vec![100],
            200..10_000 => vec![paper.io.length],
            _ => vec![32, 9, 29, 48, 64, 96, 128, 192, 256, 384, 512, 1024],
        };
        for length in lengths {
            for width in [Some(0.1), None] {
                let io = Io {
                    length,
                    targets: 1,
                    ..paper.io
                };
                let options = Options {
                    width,
                    no_dropout: true,
                    ..Options::default()
                };
                let store = VarStore::new(Device::Cpu);
                if let Ok(graph) = arch.build(&store.root(), io, options) {
                    return (store, graph, io);
                }
            }
        }
        panic!("{arch} reads no window of up to 1024 bases");
    }

    #[test]
    fn every_model_learns_sixteen_windows_by_heart() {
        for arch in with_weights() {
            tch::manual_seed(5);
            let (store, graph, io) = small(arch);
            let flat = FlatTensors::new(&store);
            let mut optimizer = Optimizer::new(Rule::Adam, 0.9, &flat.parameters);
            let on = (Kind::Float, Device::Cpu);
            let letters = Tensor::randint(4, [16, io.length], (Kind::Int64, Device::Cpu));
            let bases = letters.one_hot(4).transpose(1, 2).to_kind(Kind::Float);
            let signal = Tensor::rand([16, io.channels - 4, io.length], on);
            let x = Tensor::cat(&[bases, signal], 1);
            let width = if io.per_base { io.length } else { 1 };
            let labels =
                Tensor::randint(io.classes.max(2), [16, 1, width], (Kind::Int8, Device::Cpu));
            let mut losses = Vec::new();
            // Most need 100; those of a hundred parameters, whose steps are short, need more.
            for step in 1..=1000 {
                let _ = flat.gradients.shallow_clone().zero_();
                let logits = graph.forward_t(&x, true);
                let (loss, valid) = masked_loss(arch.paper().recipe.loss, &logits, &labels, io);
                (loss.shallow_clone() / valid.shallow_clone()).backward();
                losses.push(loss.double_value(&[]) / valid.double_value(&[]));
                optimizer.step(&flat.parameters, &flat.gradients, 3e-3, step);
                if losses[losses.len() - 1] < 0.25 * losses[0] {
                    break;
                }
            }
            let (first, last) = (losses[0], losses[losses.len() - 1]);
            assert!(last < 0.3 * first, "{arch}: loss {first} -> {last}");
        }
    }
}
