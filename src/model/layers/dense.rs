//! A dense layer on all numbers of a window.

use tch::Tensor;

use super::{Block, linear::Linear};
use crate::model::graph::{Activation, Builder, Value};

#[derive(Debug)]
struct Dense {
    /// [out, C * L], the numbers in the order of [C, L]
    linear: Linear,
    activation: Activation,
}

impl Builder<'_> {
    /// [B, C, L] -> [B, units, 1]; a window is flattened channel by channel.
    pub fn dense(&mut self, x: Value, units: i64, activation: Activation) -> Value {
        let (channels, length) = self.shape(x);
        let inputs = channels * length;
        let name = self.number("dense");
        let dense = Dense {
            linear: Linear::new(&(self.path / &name), inputs, units),
            activation,
        };
        self.block(name, &[x], Box::new(dense), units, 1)
    }
}

impl Block for Dense {
    fn forward(&self, inputs: &[&Tensor], _: bool) -> Tensor {
        let out = self.linear.apply(&inputs[0].flatten(1, -1));
        self.activation.apply(out.unsqueeze(2))
    }

    fn kind(&self) -> &'static str {
        "Dense"
    }

    fn parameters(&self) -> Vec<&Tensor> {
        vec![&self.linear.weight, &self.linear.bias]
    }

    fn operations(&self) -> f64 {
        self.linear.operations()
    }

    fn bias(&self) -> Option<&Tensor> {
        Some(&self.linear.bias)
    }
}
