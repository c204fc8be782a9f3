//! The centre of a window, which is hidden, and what lies on either side of it.

use tch::Tensor;

use super::Block;
use crate::model::graph::{Builder, Value};

#[derive(Clone, Copy, Debug)]
enum Part {
    Before,
    /// From the far end to the centre
    After,
    Centre,
}

impl Builder<'_> {
    /// [B, C, 2K + 1] -> what is before the centre and what is after it, both from far to near: [B, C, K].
    pub fn flanks(&mut self, x: Value) -> [Value; 2] {
        let (channels, length) = self.shape(x);
        [Part::Before, Part::After].map(|flank| {
            let name = self.number("flank");
            self.block(name, &[x], Box::new(flank), channels, length / 2)
        })
    }

    /// [B, C, 2K + 1] -> what is known at the centre: [B, C, 1].
    pub fn centre(&mut self, x: Value) -> Value {
        let name = self.number("centre");
        let (channels, _) = self.shape(x);
        self.block(name, &[x], Box::new(Part::Centre), channels, 1)
    }
}

impl Block for Part {
    fn forward(&self, inputs: &[&Tensor], _: bool) -> Tensor {
        let bases = inputs[0].size()[2] / 2;
        match self {
            Part::Before => inputs[0].narrow(2, 0, bases),
            Part::After => inputs[0].narrow(2, bases + 1, bases).flip([2]),
            Part::Centre => inputs[0].narrow(2, bases, 1),
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
