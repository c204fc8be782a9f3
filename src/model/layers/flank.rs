//! What lies on either side of the centre of a window, which is hidden.

use tch::Tensor;

use super::Block;
use crate::model::graph::{Builder, Value};

#[derive(Clone, Copy, Debug)]
enum Flank {
    Before,
    /// From the far end to the centre
    After,
}

impl Builder<'_> {
    /// [B, C, 2K + 1] -> what is before the centre and what is after it, both from far to near: [B, C, K].
    pub fn flanks(&mut self, x: Value) -> [Value; 2] {
        let (channels, length) = self.shape(x);
        [Flank::Before, Flank::After].map(|flank| {
            let name = self.number("flank");
            self.block(name, &[x], Box::new(flank), channels, length / 2)
        })
    }
}

impl Block for Flank {
    fn forward(&self, inputs: &[&Tensor], _: bool) -> Tensor {
        let bases = inputs[0].size()[2] / 2;
        match self {
            Flank::Before => inputs[0].narrow(2, 0, bases),
            Flank::After => inputs[0].narrow(2, bases + 1, bases).flip([2]),
        }
    }

    fn kind(&self) -> &'static str {
        "Cropping1D"
    }

    fn parameters(&self) -> Vec<&Tensor> {
        Vec::new()
    }

    fn operations(&self) -> f64 {
        0.0
    }
}
