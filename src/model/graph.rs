//! A model written once as a list of layers: run forward by libtorch, and printed as the table that papers print.
//!
//! Layers are named and numbered as Keras numbers them, so that a table can be laid beside a published one and a
//! weight keeps its name in checkpoints.

mod layout;

pub use layout::{Layout, Twin};

use std::collections::HashMap;

use anyhow::{Result, ensure};
use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use tch::{
    Tensor,
    nn::{self, Init, ModuleT},
};

use super::{BatchNorm, Io, Options};

/// Keras defaults, which the published models used: momentum 0.99 there is 0.01 here.
pub(crate) const BN_MOMENTUM: f64 = 0.01;
pub(crate) const BN_EPS: f64 = 1e-3;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Activation {
    Relu,
    None,
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
    },
    MaxPool,
    Concat,
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
}

/// Builds a [`Graph`] layer by layer.
pub struct Builder<'a> {
    path: &'a nn::Path<'a>,
    layers: Vec<Layer>,
    numbers: HashMap<&'static str, usize>,
    batch_norm: BatchNorm,
}

impl<'a> Builder<'a> {
    pub fn new(path: &'a nn::Path<'a>, io: Io, options: Options) -> (Self, Value) {
        let mut builder = Self {
            path,
            layers: Vec::new(),
            numbers: HashMap::new(),
            batch_norm: options.batch_norm,
        };
        let input = builder.push("input_1".into(), Op::Input, vec![], io.channels, io.length);
        (builder, input)
    }

    /// Convolution of odd width, stride 1, padded to keep the length; the activation is part of the layer.
    pub fn conv(&mut self, x: Value, channels: i64, kernel: i64, activation: Activation) -> Value {
        let name = self.number("conv1d");
        let (inputs, length) = (self.layers[x.0].channels, self.layers[x.0].length);
        let (weight, bias) = self.glorot(&name, [channels, inputs, kernel], channels);
        self.push(
            name,
            Op::Conv {
                weight,
                bias,
                activation,
            },
            vec![x.0],
            channels,
            length,
        )
    }

    /// Transposed convolution of width 2 and stride 2: doubles the length, windows do not overlap.
    pub fn up_conv(&mut self, x: Value, channels: i64, activation: Activation) -> Value {
        let name = self.number("conv1d_transpose");
        let (inputs, length) = (self.layers[x.0].channels, self.layers[x.0].length);
        let (weight, bias) = self.glorot(&name, [inputs, channels, 2], channels);
        self.push(
            name,
            Op::UpConv {
                weight,
                bias,
                activation,
            },
            vec![x.0],
            channels,
            2 * length,
        )
    }

    pub fn batch_norm(&mut self, x: Value) -> Value {
        let name = self.number("batch_normalization");
        let (channels, length) = (self.layers[x.0].channels, self.layers[x.0].length);
        let path = self.path / &name;
        let op = Op::BatchNorm {
            weight: path.ones("weight", &[channels]),
            bias: path.zeros("bias", &[channels]),
            mean: path.zeros_no_train("running_mean", &[channels]),
            var: path.ones_no_train("running_var", &[channels]),
        };
        self.push(name, op, vec![x.0], channels, length)
    }

    /// Maximum of each pair of neighbours: halves the length.
    pub fn max_pool(&mut self, x: Value) -> Value {
        let name = self.number("max_pooling1d");
        let (channels, length) = (self.layers[x.0].channels, self.layers[x.0].length);
        self.push(name, Op::MaxPool, vec![x.0], channels, length / 2)
    }

    pub fn concat(&mut self, first: Value, second: Value) -> Value {
        let name = self.number("concatenate");
        let (a, b) = (&self.layers[first.0], &self.layers[second.0]);
        let (channels, length) = (a.channels + b.channels, a.length);
        self.push(name, Op::Concat, vec![first.0, second.0], channels, length)
    }

    pub fn finish(self) -> Graph {
        let mut last_use: Vec<usize> = (0..self.layers.len()).collect();
        for (place, layer) in self.layers.iter().enumerate() {
            for &input in &layer.inputs {
                last_use[input] = place;
            }
        }
        Graph {
            layers: self.layers,
            batch_norm: self.batch_norm,
            layout: Layout::Plain,
            last_use,
        }
    }

    fn number(&mut self, kind: &'static str) -> String {
        let number = self.numbers.entry(kind).or_insert(0);
        let name = if *number == 0 {
            kind.to_string()
        } else {
            format!("{kind}_{number}")
        };
        *number += 1;
        name
    }

    /// Glorot-uniform weights and zero biases: the Keras default, under which the published scores were reached.
    fn glorot(&self, name: &str, dims: [i64; 3], bias: i64) -> (Tensor, Tensor) {
        let limit = (6.0 / ((dims[0] + dims[1]) * dims[2]) as f64).sqrt();
        let path = self.path / name;
        (
            path.var(
                "weight",
                &dims,
                Init::Uniform {
                    lo: -limit,
                    up: limit,
                },
            ),
            path.zeros("bias", &[bias]),
        )
    }

    fn push(
        &mut self,
        name: String,
        op: Op,
        inputs: Vec<usize>,
        channels: i64,
        length: i64,
    ) -> Value {
        self.layers.push(Layer {
            name,
            op,
            inputs,
            channels,
            length,
        });
        Value(self.layers.len() - 1)
    }
}

fn activate(x: Tensor, activation: Activation) -> Tensor {
    match activation {
        Activation::Relu => x.relu(),
        Activation::None => x,
    }
}

impl ModuleT for Graph {
    /// x [B, C, L], or as the layout has it -> logits [B, T, L]
    fn forward_t(&self, x: &Tensor, train: bool) -> Tensor {
        let batch_statistics = train && self.batch_norm != BatchNorm::Frozen;
        self.run(x, |op, x| {
            let Op::BatchNorm {
                weight,
                bias,
                mean,
                var,
            } = op
            else {
                unreachable!("only batch norm is normalised")
            };
            let (w, b, m, v) = (Some(weight), Some(bias), Some(mean), Some(var));
            x.batch_norm(w, b, m, v, batch_statistics, BN_MOMENTUM, BN_EPS, true)
        })
    }
}

impl Graph {
    pub fn batch_norm(&self) -> BatchNorm {
        self.batch_norm
    }

    pub(crate) fn layers(&self) -> &[Layer] {
        &self.layers
    }

    /// The layers in order; `normalise` says what batch norm is.
    pub(super) fn run(
        &self,
        x: &Tensor,
        mut normalise: impl FnMut(&Op, &Tensor) -> Tensor,
    ) -> Tensor {
        let last = self.layout == Layout::ChannelsLast;
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
                } => {
                    let x = input(0);
                    let padding = weight.size()[weight.dim() - 1] / 2;
                    let x = match last {
                        true => x.conv2d(weight, Some(bias), [1, 1], [0, padding], [1, 1], 1),
                        false => x.conv1d(weight, Some(bias), 1, padding, 1, 1),
                    };
                    activate(x, *activation)
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
                    activate(x, *activation)
                }
                op @ Op::BatchNorm { .. } => normalise(op, input(0)),
                Op::MaxPool if last => input(0).max_pool2d([1, 2], [1, 2], [0, 0], [1, 1], false),
                Op::MaxPool => input(0).max_pool1d(2, 2, 0, 1, false),
                Op::Concat => Tensor::cat(&[input(0), input(1)], 1),
            };
            values[place] = Some(out);
            for &used in &layer.inputs {
                if self.last_use[used] == place {
                    values[used] = None;
                }
            }
        }
        let logits = values.pop().flatten().expect("a graph has a last layer");
        match last {
            true => logits.squeeze_dim(2),
            false => logits,
        }
    }

    /// Starts the output at the share of positives, so that training need not spend its first epoch finding it.
    pub fn start_at_prior(&self, positive_share: f64) -> Result<()> {
        ensure!(
            positive_share > 0.0 && positive_share < 1.0,
            "no prior for a share of {positive_share}"
        );
        if let Some(Layer {
            op: Op::Conv { bias, .. },
            ..
        }) = self.layers.last()
        {
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
            let (weight, positions) = match &layer.op {
                Op::Conv { weight, .. } => (weight, layer.length),
                Op::UpConv { weight, .. } => (weight, layer.length / 2),
                _ => continue,
            };
            let once = 2.0 * weight.numel() as f64 * positions as f64;
            let of_data = matches!(self.layers[layer.inputs[0]].op, Op::Input);
            forward += once;
            step += if of_data { 2.0 * once } else { 3.0 * once };
        }
        (forward, step)
    }

    /// The layer table in the form that Keras prints, with shapes as (batch, length, channels).
    pub fn table(&self) -> String {
        let mut out = format!(
            "{:<46}{:<22}{:>10}  connected to\n",
            "layer (type)", "output shape", "params"
        );
        let (mut total, mut trainable) = (0, 0);
        for layer in &self.layers {
            let (kind, learned, running) = layer.summary();
            (total, trainable) = (total + learned + running, trainable + learned);
            let inputs: Vec<&str> = layer
                .inputs
                .iter()
                .map(|&i| self.layers[i].name.as_str())
                .collect();
            let named = format!("{} ({kind})", layer.name);
            let shape = format!("(None, {}, {})", layer.length, layer.channels);
            let row = format!(
                "{named:<46}{shape:<22}{:>10}  {}",
                learned + running,
                inputs.join(", ")
            );
            out += row.trim_end();
            out.push('\n');
        }
        let count = |n: i64| thousands(n as u64);
        out + &format!(
            "total parameters: {}\ntrainable parameters: {}\nnon-trainable parameters: {}\n",
            count(total),
            count(trainable),
            count(total - trainable)
        )
    }
}

impl Layer {
    /// Keras' name of the layer's type, and its numbers of trained and of running parameters.
    fn summary(&self) -> (&'static str, i64, i64) {
        let numel = |a: &Tensor, b: &Tensor| (a.numel() + b.numel()) as i64;
        match &self.op {
            Op::Input => ("InputLayer", 0, 0),
            Op::Conv { weight, bias, .. } => ("Conv1D", numel(weight, bias), 0),
            Op::UpConv { weight, bias, .. } => ("Conv1DTranspose", numel(weight, bias), 0),
            Op::BatchNorm {
                weight,
                bias,
                mean,
                var,
            } => ("BatchNormalization", numel(weight, bias), numel(mean, var)),
            Op::MaxPool => ("MaxPooling1D", 0, 0),
            Op::Concat => ("Concatenate", 0, 0),
        }
    }
}

/// 475969 -> "475,969"
pub fn thousands(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}
