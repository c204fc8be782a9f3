//! A model that reads no bases.

use tch::Tensor;

use super::Block;
use crate::model::graph::{Builder, Value};

/// The one-hot bases come first.
const BASES: i64 = 4;

#[derive(Debug)]
struct Tracks;

impl Builder<'_> {
    /// Of the input [B, 4 + S, L] the signal tracks [B, S, L].
    pub fn tracks(&mut self, x: Value) -> Value {
        let name = self.number("tracks");
        let (channels, length) = self.shape(x);
        self.block(name, &[x], Box::new(Tracks), channels - BASES, length)
    }
}

impl Block for Tracks {
    fn forward(&self, inputs: &[&Tensor], _: bool) -> Tensor {
        inputs[0].narrow(1, BASES, inputs[0].size()[1] - BASES)
    }

    fn kind(&self) -> &'static str {
        "Lambda"
    }

    fn parameters(&self) -> Vec<&Tensor> {
        Vec::new()
    }

    fn operations(&self) -> f64 {
        0.0
    }
}
