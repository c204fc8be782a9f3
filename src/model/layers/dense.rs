//! A dense layer on all numbers of a window.

use tch::{Tensor, nn};

use super::Block;
use crate::model::graph::{Activation, Builder, Value};

#[derive(Debug)]
struct Dense {
    /// [out, C * L], the numbers in the order of [C, L]
    weight: Tensor,
    bias: Tensor,
    activation: Activation,
}

impl Builder<'_> {
    /// [B, C, L] -> [B, units, 1]; a window is flattened channel by channel.
    pub fn dense(&mut self, x: Value, units: i64, activation: Activation) -> Value {
        let (channels, length) = self.shape(x);
        let inputs = channels * length;
        let name = self.number("dense");
        let path = self.path / &name;
        let limit = (6.0 / (inputs + units) as f64).sqrt();
        let (lo, up) = (-limit, limit);
        let dense = Dense {
            weight: path.var("weight", &[units, inputs], nn::Init::Uniform { lo, up }),
            bias: path.zeros("bias", &[units]),
            activation,
        };
        self.block(name, &[x], Box::new(dense), units, 1)
    }
}

impl Block for Dense {
    fn forward(&self, inputs: &[&Tensor], _: bool) -> Tensor {
        let flat = inputs[0].flatten(1, -1);
        let out = flat.linear(&self.weight, Some(&self.bias)).unsqueeze(2);
        self.activation.apply(out)
    }

    fn kind(&self) -> &'static str {
        "Dense"
    }

    fn parameters(&self) -> Vec<&Tensor> {
        vec![&self.weight, &self.bias]
    }

    fn operations(&self) -> f64 {
        2.0 * self.weight.numel() as f64
    }

    fn bias(&self) -> Option<&Tensor> {
        Some(&self.bias)
    }
}
