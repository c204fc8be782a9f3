//! Two answers weighed by a third.

use tch::Tensor;

use super::Block;
use crate::model::graph::{Builder, Value};

#[derive(Debug)]
struct Mixture {
    /// As in [`Io`](crate::model::Io).
    classes: i64,
}

impl Builder<'_> {
    /// Logits of a gate [B, 1, 1] and of two answers [B, T K, 1] -> those of p first + (1 - p) second.
    pub fn mixture(&mut self, gate: Value, answers: [Value; 2], classes: i64) -> Value {
        let name = self.number("mixture");
        let [first, second] = answers;
        let (channels, length) = self.shape(first);
        let mixture = Box::new(Mixture { classes });
        self.block(name, &[gate, first, second], mixture, channels, length)
    }
}

impl Block for Mixture {
    fn forward(&self, inputs: &[&Tensor], _: bool) -> Tensor {
        let [gate, first, second] = inputs else {
            unreachable!("a gate and two answers")
        };
        // In logarithms, where a small share is not lost.
        let share = [gate.log_sigmoid(), (-*gate).log_sigmoid()];
        let mixed = |of: [Tensor; 2]| {
            let [first, second] = of;
            (first + &share[0]).logaddexp(&(second + &share[1]))
        };
        if self.classes > 1 {
            return mixed([first, second].map(|logits| {
                let size = logits.size();
                let by_class =
                    logits.view([size[0], size[1] / self.classes, self.classes, size[2]]);
                by_class.log_softmax(2, logits.kind()).view(size.as_slice())
            }));
        }
        let one = mixed([first, second].map(|logits| logits.log_sigmoid()));
        let zero = mixed([first, second].map(|logits| (-*logits).log_sigmoid()));
        one - zero
    }

    fn kind(&self) -> &'static str {
        "Mixture"
    }

    fn parameters(&self) -> Vec<&Tensor> {
        Vec::new()
    }

    fn operations(&self) -> f64 {
        0.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::{Device, Kind};

    #[test]
    fn probabilities_are_weighed() {
        tch::manual_seed(4);
        let on = (Kind::Double, Device::Cpu);
        for classes in [1, 4] {
            let gate = Tensor::randn([3, 1, 1], on);
            let answers = [0, 1].map(|_| Tensor::randn([3, 2 * classes, 1], on));
            let out = Mixture { classes }.forward(&[&gate, &answers[0], &answers[1]], true);
            let probabilities = |logits: &Tensor| match classes {
                1 => logits.sigmoid(),
                _ => logits
                    .view([3, 2, classes])
                    .softmax(2, Kind::Double)
                    .view([3, -1, 1]),
            };
            let p = gate.sigmoid();
            let [first, second] = answers.each_ref().map(probabilities);
            let expected: Tensor = &p * first + (1.0 - &p) * second;
            let off: Tensor = probabilities(&out) - expected;
            let off = off.abs().max().double_value(&[]);
            assert!(off < 1e-12, "{classes} classes: off by {off}");
        }
    }
}
