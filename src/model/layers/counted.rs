//! What was counted as a layer: a table in place of weights, which no gradient reaches.

use tch::{Device, Kind, Tensor};

use super::Block;
use crate::{
    counts::Counter,
    model::graph::{Builder, Value},
};

#[derive(Debug)]
struct Counted {
    counter: Counter,
    classes: i64,
}

impl Builder<'_> {
    /// Bases [B, 4.., L] -> log-probabilities of what stands at the centre [B, K, 1].
    pub fn counted(&mut self, x: Value, counter: Counter, classes: i64) -> Value {
        let name = self.number("counts");
        self.block(
            name,
            &[x],
            Box::new(Counted { counter, classes }),
            classes,
            1,
        )
    }
}

impl Block for Counted {
    fn forward(&self, inputs: &[&Tensor], _: bool) -> Tensor {
        let x = inputs[0];
        let (batch, length) = (x.size()[0], x.size()[2]);
        let on = (Kind::Int64, x.device());
        // Of an unknown base all four are zero.
        let bases = x.narrow(1, 0, 4).detach().gt(0.5).to_kind(Kind::Int64);
        let numbers = Tensor::arange(4, on).view([1, 4, 1]) - 4;
        let codes = (bases * numbers).sum_dim_intlist(1, false, Kind::Int64) + 4;
        let codes = codes.to_device(Device::Cpu).to_kind(Kind::Uint8);
        let codes = Vec::<u8>::try_from(codes.flatten(0, -1)).expect("codes are bytes");
        let mut logits = Vec::new();
        for window in codes.chunks_exact(length as usize) {
            let found = self.counter.logits(window, None, &mut logits);
            found.expect("only a window left out may be missing");
        }
        let logits = Tensor::from_slice(&logits).view([batch, self.classes, 1]);
        logits.to_device(x.device()).to_kind(x.kind())
    }

    fn kind(&self) -> &'static str {
        "Counts"
    }

    fn parameters(&self) -> Vec<&Tensor> {
        Vec::new()
    }

    fn num_parameters(&self) -> i64 {
        self.counter.num_parameters()
    }

    fn operations(&self) -> f64 {
        0.0
    }

    fn counter(&self) -> Option<&Counter> {
        Some(&self.counter)
    }

    fn counter_mut(&mut self) -> Option<&mut Counter> {
        Some(&mut self.counter)
    }
}
