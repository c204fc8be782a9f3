//! Writes a graph down, layer by layer.

use std::collections::HashMap;

use tch::{
    Tensor,
    nn::{self, Init},
};

use super::{Activation, Graph, KERAS_NORM, Layer, Layout, NormConstants, Op, Value};
use crate::model::{BatchNorm, Io, Options, layers::Block};

/// Builds a [`Graph`] layer by layer.
pub struct Builder<'a> {
    pub(in crate::model) path: &'a nn::Path<'a>,
    layers: Vec<Layer>,
    numbers: HashMap<&'static str, usize>,
    options: Options,
    hidden: Option<usize>,
    scaled: bool,
}

impl<'a> Builder<'a> {
    pub fn new(path: &'a nn::Path<'a>, io: Io, options: Options) -> (Self, Value) {
        let mut builder = Self {
            path,
            layers: Vec::new(),
            numbers: HashMap::new(),
            options,
            hidden: None,
            scaled: false,
        };
        let input = builder.push("input_1".into(), Op::Input, vec![], io.channels, io.length);
        (builder, input)
    }

    /// Of so many filters or hidden units as published, those that --width leaves.
    pub fn width(&mut self, published: i64) -> i64 {
        self.scaled = true;
        let width = self.options.width.unwrap_or(1.0);
        ((published as f64 * width).round() as i64).max(1)
    }

    /// Convolution of stride 1, padded to keep the length; the activation is part of the layer. Of an even kernel's
    /// zeros the odd one comes last, as in Keras.
    pub fn conv(&mut self, x: Value, channels: i64, kernel: i64, activation: Activation) -> Value {
        let before = (kernel - 1) / 2;
        let padding = [before, kernel - 1 - before];
        self.padded_conv(x, channels, kernel, padding, activation)
    }

    /// Convolution without padding: the window loses `kernel` - 1 places.
    pub fn valid_conv(
        &mut self,
        x: Value,
        channels: i64,
        kernel: i64,
        activation: Activation,
    ) -> Value {
        self.padded_conv(x, channels, kernel, [0, 0], activation)
    }

    fn padded_conv(
        &mut self,
        x: Value,
        channels: i64,
        kernel: i64,
        padding: [i64; 2],
        activation: Activation,
    ) -> Value {
        let name = self.number("conv1d");
        let (inputs, length) = self.shape(x);
        let (weight, bias) = self.glorot(&name, [channels, inputs, kernel], channels);
        let op = Op::Conv {
            weight,
            bias,
            activation,
            padding,
        };
        let length = length + padding[0] + padding[1] - (kernel - 1);
        self.push(name, op, vec![x.0], channels, length)
    }

    /// Transposed convolution of width 2 and stride 2: doubles the length, windows do not overlap.
    pub fn up_conv(&mut self, x: Value, channels: i64, activation: Activation) -> Value {
        let name = self.number("conv1d_transpose");
        let (inputs, length) = self.shape(x);
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
        self.batch_norm_with(x, KERAS_NORM)
    }

    pub(in crate::model) fn batch_norm_with(
        &mut self,
        x: Value,
        constants: NormConstants,
    ) -> Value {
        let name = self.number("batch_normalization");
        let (channels, length) = self.shape(x);
        let path = self.path / &name;
        let op = Op::BatchNorm {
            weight: path.ones("weight", &[channels]),
            bias: path.zeros("bias", &[channels]),
            mean: path.zeros_no_train("running_mean", &[channels]),
            var: path.ones_no_train("running_var", &[channels]),
            constants,
        };
        self.push(name, op, vec![x.0], channels, length)
    }

    /// Maximum of each pair of neighbours: halves the length.
    pub fn max_pool(&mut self, x: Value) -> Value {
        self.max_pool_of(x, 2)
    }

    /// Maximum of each `width` neighbours.
    pub fn max_pool_of(&mut self, x: Value, width: i64) -> Value {
        let name = self.number("max_pooling1d");
        let (channels, length) = self.shape(x);
        let op = Op::MaxPool(width);
        self.push(name, op, vec![x.0], channels, length / width)
    }

    pub fn activation(&mut self, x: Value, activation: Activation) -> Value {
        let name = self.number("activation");
        let (channels, length) = self.shape(x);
        let op = Op::Activation(activation);
        self.push(name, op, vec![x.0], channels, length)
    }

    /// The last hidden layer, whose outputs --l1 penalises.
    pub fn hidden(&mut self, x: Value) {
        self.hidden = Some(x.0);
    }

    /// No layer at all where nothing is to be dropped.
    pub fn dropout(&mut self, x: Value, share: f64) -> Value {
        if self.options.no_dropout || share == 0.0 {
            return x;
        }
        let name = self.number("dropout");
        let (channels, length) = self.shape(x);
        self.push(name, Op::Dropout(share), vec![x.0], channels, length)
    }

    pub(in crate::model) fn block(
        &mut self,
        name: String,
        inputs: &[Value],
        block: Box<dyn Block>,
        channels: i64,
        length: i64,
    ) -> Value {
        let inputs = inputs.iter().map(|value| value.0).collect();
        self.push(name, Op::Block(block), inputs, channels, length)
    }

    /// Channels and length.
    pub(in crate::model) fn shape(&self, x: Value) -> (i64, i64) {
        (self.layers[x.0].channels, self.layers[x.0].length)
    }

    pub fn concat(&mut self, first: Value, second: Value) -> Value {
        let name = self.number("concatenate");
        let (a, b) = (&self.layers[first.0], &self.layers[second.0]);
        let (channels, length) = (a.channels + b.channels, a.length);
        self.push(name, Op::Concat, vec![first.0, second.0], channels, length)
    }

    /// The sum of two values of the same shape; the activation is part of the layer.
    pub fn add(&mut self, first: Value, second: Value, activation: Activation) -> Value {
        let name = self.number("add");
        let (channels, length) = self.shape(first);
        assert_eq!(self.shape(second), (channels, length), "{name}");
        self.push(
            name,
            Op::Add(activation),
            vec![first.0, second.0],
            channels,
            length,
        )
    }

    /// `x` [B, C, L] times the sigmoid of `score` [B, 1, L].
    pub fn gate(&mut self, x: Value, score: Value) -> Value {
        let name = self.number("gate");
        let (channels, length) = self.shape(x);
        assert_eq!(self.shape(score), (1, length), "{name}");
        self.push(name, Op::Gate, vec![x.0, score.0], channels, length)
    }

    pub fn finish(self) -> Graph {
        let mut last_use: Vec<usize> = (0..self.layers.len()).collect();
        for (place, layer) in self.layers.iter().enumerate() {
            for &input in &layer.inputs {
                last_use[input] = place;
            }
        }
        let is_norm = |layer: &Layer| matches!(layer.op, Op::BatchNorm { .. });
        Graph {
            // Without a norm there is nothing to synchronise, and a rank without rows need not come.
            batch_norm: match self.layers.iter().any(is_norm) {
                true => self.options.batch_norm,
                false => BatchNorm::Rank,
            },
            layers: self.layers,
            layout: Layout::Plain,
            last_use,
            hidden: self.hidden,
            l1: self.options.l1,
            scaled: self.scaled,
        }
    }

    pub(in crate::model) fn number(&mut self, kind: &'static str) -> String {
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
