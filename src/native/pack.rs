//! Weights in the order in which kernels read them.

use super::{
    Native,
    conv::Packed,
    lanes::{Element, Lanes},
    program::Kind,
};

impl<L: Lanes> Native<L> {
    /// Puts the weights in the order in which kernels read them.
    pub(super) fn pack(&mut self, parameters: &[L::T], backward: bool) {
        for (stage, weights) in self.program.stages.iter().zip(&mut self.weights) {
            let Some(weights) = weights else { continue };
            let (inputs, outputs) = (stage.x.channels, stage.y.channels);
            let all = &parameters[stage.weight..];
            match stage.kind {
                Kind::Conv { taps, .. } => {
                    weights
                        .forward
                        .fill(|o, i, t| all[(o * inputs + i) * taps + t]);
                    turn(&mut weights.backward, backward, |i, o, t| {
                        all[(o * inputs + i) * taps + taps - 1 - t]
                    });
                }
                Kind::UpConv => {
                    // [inputs, outputs, 2] to outputs `phase * outputs + o`.
                    let of =
                        |o: usize, i: usize| all[(i * outputs + o % outputs) * 2 + o / outputs];
                    weights.forward.fill(|o, i, _| of(o, i));
                    turn(&mut weights.backward, backward, |i, o, _| of(o, i));
                    for (o, bias) in weights.bias.iter_mut().enumerate() {
                        *bias = parameters[stage.bias + o % outputs];
                    }
                }
                Kind::Pool => {}
            }
        }
    }
}

fn turn<T: Element>(
    packed: &mut Option<Packed<T>>,
    wanted: bool,
    weight: impl Fn(usize, usize, usize) -> T,
) {
    if let Some(packed) = packed.as_mut().filter(|_| wanted) {
        packed.fill(weight);
    }
}
