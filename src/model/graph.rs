//! A model written once as a list of layers: run forward by libtorch, and printed as the table that papers print.
//!
//! Layers are named and numbered as Keras numbers them, so that a table can be laid beside a published one and a
//! weight keeps its name in checkpoints.

mod builder;
mod layout;
mod table;

pub use builder::Builder;
pub use layout::{Layout, Twin};
pub use table::thousands;

use anyhow::{Result, ensure};
use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use tch::{Tensor, nn::ModuleT};

use super::{BatchNorm, layers::Block};
use crate::counts::Counter;

/// Keras defaults, which most of the published models used: momentum 0.99 there is 0.01 here.
pub(crate) const BN_MOMENTUM: f64 = 0.01;
pub(crate) const BN_EPS: f64 = 1e-3;

/// Of a batch norm: what is added to a variance, and how far a running statistic moves to a new one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct NormConstants {
    pub(crate) eps: f64,
    pub(crate) momentum: f64,
}

pub(crate) const KERAS_NORM: NormConstants = NormConstants {
    eps: BN_EPS,
    momentum: BN_MOMENTUM,
};
/// Those of Torch7 and PyTorch.
pub(crate) const TORCH_NORM: NormConstants = NormConstants {
    eps: 1e-5,
    momentum: 0.1,
};

/// Torch7's Threshold(0, 1e-6) leaves this where ReLU leaves zero.
const BELOW_THRESHOLD: f64 = 1e-6;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Activation {
    Relu,
    None,
    /// ReLU that leaves 1e-6 in place of zero, in models that were Torch7's
    #[value(skip)]
    #[serde(skip)]
    Threshold,
}

impl Activation {
    pub(super) fn apply(self, x: Tensor) -> Tensor {
        match self {
            Activation::Relu => x.relu(),
            Activation::None => x,
            Activation::Threshold => x.threshold(0.0, BELOW_THRESHOLD),
        }
    }
}

/// A layer's output, by its place in the list.
#[derive(Clone, Copy, Debug)]
pub struct Value(usize);

#[derive(Debug)]
pub(crate) enum Op {
    Input,
    Conv {
        weight: Tensor,
        bias: Tensor,
        activation: Activation,
        /// Zeros added before and after.
        padding: [i64; 2],
    },
    UpConv {
        weight: Tensor,
        bias: Tensor,
        activation: Activation,
    },
    BatchNorm {
        weight: Tensor,
        bias: Tensor,
        mean: Tensor,
        var: Tensor,
        constants: NormConstants,
    },
    /// One that does not follow a convolution at once, which has its own.
    Activation(Activation),
    /// Of so many neighbours; what is left at the end is dropped.
    MaxPool(i64),
    /// This share of the numbers becomes zero while training, and the others grow to make up for it.
    Dropout(f64),
    Concat,
    /// The sum of two of the same shape.
    Add(Activation),
    /// The first input, times the sigmoid of the second's one channel.
    Gate,
    Block(Box<dyn Block>),
}

#[derive(Debug)]
pub(crate) struct Layer {
    pub(crate) name: String,
    pub(crate) op: Op,
    pub(crate) inputs: Vec<usize>,
    pub(crate) channels: i64,
    pub(crate) length: i64,
}

#[derive(Debug)]
pub struct Graph {
    layers: Vec<Layer>,
    batch_norm: BatchNorm,
    layout: Layout,
    /// For each layer, the last layer that reads it: its memory is given back there.
    last_use: Vec<usize>,
    /// The last hidden layer, where the model has one whose outputs may be penalised.
    hidden: Option<usize>,
    /// Weight of the absolute values of its outputs beside the loss; 0: none.
    l1: f64,
    scaled: bool,
}

/// What a model makes of a batch.
#[derive(Debug)]
pub struct Output {
    /// [B, T, L]
    pub logits: Tensor,
    /// Of each window, what is to be added to its mean loss [B].
    penalty: Option<Tensor>,
}

impl Output {
    /// What is differentiated where `loss` is the sum over the known `labels` [B, T, M]: a window's penalty counts once
    /// for each of its known labels, as what is divided by their number is the sum of both.
    pub fn objective(&self, loss: &Tensor, labels: &Tensor) -> Tensor {
        let Some(penalty) = &self.penalty else {
            return loss.shallow_clone();
        };
        let known = labels.ge(0).to_kind(penalty.kind());
        let known = known.sum_dim_intlist([1i64, 2].as_slice(), false, penalty.kind());
        loss + penalty.dot(&known)
    }
}

impl ModuleT for Graph {
    /// x [B, C, L], or as the layout has it -> logits [B, T, L]
    fn forward_t(&self, x: &Tensor, train: bool) -> Tensor {
        self.forward(x, train).logits
    }
}

impl Graph {
    pub fn forward(&self, x: &Tensor, train: bool) -> Output {
        let batch_statistics = train && self.batch_norm != BatchNorm::Frozen;
        self.run(x, train, |op, x| {
            let Op::BatchNorm {
                weight,
                bias,
                mean,
                var,
                constants: NormConstants { eps, momentum },
            } = op
            else {
                unreachable!("only batch norm is normalised")
            };
            // A number alone, such as a dense layer's of the last window of an epoch, has no variance that running
            // statistics could follow.
            let alone = batch_statistics && x.numel() as i64 == x.size()[1];
            let running = |of| (!alone).then_some(of);
            let (w, b, m, v) = (Some(weight), Some(bias), running(mean), running(var));
            x.batch_norm(w, b, m, v, batch_statistics, *momentum, *eps, true)
        })
    }

    pub fn batch_norm(&self) -> BatchNorm {
        self.batch_norm
    }

    /// Whether its widths follow --width.
    pub(super) fn is_scaled(&self) -> bool {
        self.scaled
    }

    pub(super) fn has_hidden(&self) -> bool {
        self.hidden.is_some()
    }

    /// Whether training draws random numbers.
    pub fn has_dropout(&self) -> bool {
        let mut ops = self.layers.iter().map(|layer| &layer.op);
        ops.any(|op| matches!(op, Op::Dropout(_)))
    }

    /// The first layer that can only be computed in the plain layout and in the precision of the weights.
    pub fn plain_layer(&self) -> Option<&str> {
        let mut layers = self.layers.iter();
        let found = layers.find(|layer| matches!(layer.op, Op::Block(_)));
        found.map(|layer| layer.name.as_str())
    }

    /// The table of the first layer that counts.
    pub fn counter(&self) -> Option<&Counter> {
        self.layers.iter().find_map(|layer| match &layer.op {
            Op::Block(block) => block.counter(),
            _ => None,
        })
    }

    pub fn counter_mut(&mut self) -> Option<&mut Counter> {
        self.layers
            .iter_mut()
            .find_map(|layer| match &mut layer.op {
                Op::Block(block) => block.counter_mut(),
                _ => None,
            })
    }

    pub(crate) fn layers(&self) -> &[Layer] {
        &self.layers
    }

    /// The layers in order; `normalise` says what batch norm is.
    pub(super) fn run(
        &self,
        x: &Tensor,
        train: bool,
        mut normalise: impl FnMut(&Op, &Tensor) -> Tensor,
    ) -> Output {
        let last = self.layout == Layout::ChannelsLast;
        let mut penalty = None;
        let mut values: Vec<Option<Tensor>> = self.layers.iter().map(|_| None).collect();
        for (place, layer) in self.layers.iter().enumerate() {
            let input = |i: usize| {
                values[layer.inputs[i]]
                    .as_ref()
                    .expect("layers stand in order of use")
            };
            let out = match &layer.op {
                Op::Input => x.shallow_clone(),
                Op::Conv {
                    weight,
                    bias,
                    activation,
                    padding,
                } => {
                    let bias = Some(bias);
                    let (x, both) = match padding {
                        [before, after] if before == after => (input(0).shallow_clone(), *before),
                        uneven => (input(0).constant_pad_nd(uneven), 0),
                    };
                    let x = match last {
                        true => x.conv2d(weight, bias, [1, 1], [0, both], [1, 1], 1),
                        false => x.conv1d(weight, bias, 1, both, 1, 1),
                    };
                    activation.apply(x)
                }
                Op::UpConv {
                    weight,
                    bias,
                    activation,
                } => {
                    let (x, bias) = (input(0), Some(bias));
                    let x = match last {
                        true => x.conv_transpose2d(weight, bias, [1, 2], [0, 0], [0, 0], 1, [1, 1]),
                        false => x.conv_transpose1d(weight, bias, 2, 0, 0, 1, 1),
                    };
                    activation.apply(x)
                }
                op @ Op::BatchNorm { .. } => normalise(op, input(0)),
                Op::Activation(activation) => activation.apply(input(0).shallow_clone()),
                Op::MaxPool(n) if last => {
                    input(0).max_pool2d([1, *n], [1, *n], [0, 0], [1, 1], false)
                }
                Op::MaxPool(n) => input(0).max_pool1d(*n, *n, 0, 1, false),
                Op::Dropout(share) => input(0).dropout(*share, train),
                Op::Concat => Tensor::cat(&[input(0), input(1)], 1),
                Op::Add(activation) => activation.apply(input(0) + input(1)),
                // Of padded channels the first is the one.
                Op::Gate => input(0) * input(1).narrow(1, 0, 1).sigmoid(),
                Op::Block(block) => {
                    let inputs: Vec<&Tensor> = (0..layer.inputs.len()).map(input).collect();
                    block.forward(&inputs, train)
                }
            };
            if self.hidden == Some(place) && self.l1 > 0.0 && train {
                let units = [1i64, 2].as_slice();
                penalty = Some(out.abs().sum_dim_intlist(units, false, out.kind()) * self.l1);
            }
            values[place] = Some(out);
            for &used in &layer.inputs {
                if self.last_use[used] == place {
                    values[used] = None;
                }
            }
        }
        let logits = values.pop().flatten().expect("a graph has a last layer");
        let logits = match last {
            true => logits.squeeze_dim(2),
            false => logits,
        };
        Output { logits, penalty }
    }

    /// Starts the output at the share of positives, so that training need not spend its first epoch finding it.
    pub fn start_at_prior(&self, positive_share: f64) -> Result<()> {
        ensure!(
            positive_share > 0.0 && positive_share < 1.0,
            "of the known training labels a share of {positive_share} is positive: there have to be both kinds"
        );
        let bias = match self.layers.last().map(|layer| &layer.op) {
            Some(Op::Conv { bias, .. }) => Some(bias),
            Some(Op::Block(block)) => block.bias(),
            _ => None,
        };
        if let Some(bias) = bias {
            let logit = (positive_share / (1.0 - positive_share)).ln();
            let _ = tch::no_grad(|| bias.shallow_clone().fill_(logit));
        }
        Ok(())
    }

    /// Floating-point operations of the convolutions for one window, a multiplication and an addition counting two:
    /// forward, and a whole step, which also needs the gradients of the weights and of all inputs but the model's own.
    /// All else (batch norm, ReLU, optimizer) is under 2 % of the U-Net's.
    pub fn operations(&self) -> (f64, f64) {
        let (mut forward, mut step) = (0.0, 0.0);
        for layer in &self.layers {
            let of =
                |weight: &Tensor, positions: i64| 2.0 * (weight.numel() as i64 * positions) as f64;
            let once = match &layer.op {
                Op::Conv { weight, .. } => of(weight, layer.length),
                Op::UpConv { weight, .. } => of(weight, layer.length / 2),
                Op::Block(block) => block.operations(),
                _ => continue,
            };
            let of_data = matches!(self.layers[layer.inputs[0]].op, Op::Input);
            forward += once;
            step += if of_data { 2.0 * once } else { 3.0 * once };
        }
        (forward, step)
    }
}
