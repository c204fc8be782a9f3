//! Weights in the order in which kernels read them.

use super::{
    Native,
    lanes::{Element, Lanes},
    phases::{Part, parts},
    program::Kind,
};

/// What a convolution does with the phases of its input.
#[derive(Clone, Debug)]
pub enum Form {
    /// One tap: each phase for itself.
    Each,
    Parts([Part; 3]),
    /// A transposed convolution of stride 2 and 2 taps: output `phase * channels + o` makes that phase of channel o.
    Up,
}

/// Weights in the order in which tiles read them: blocks of outputs, and in each [part][input][tap][output].
#[derive(Clone, Debug)]
pub struct Packed<T> {
    pub weights: Vec<T>,
    pub form: Form,
    /// Whether two inputs are a pair of bf16.
    pairs: bool,
    pub inputs: usize,
    pub outputs: usize,
    /// Outputs of each block.
    pub blocks: Vec<usize>,
}

impl<T: Element> Packed<T> {
    pub fn new(outputs: usize, inputs: usize, taps: usize, most: usize) -> Self {
        let form = match taps {
            1 => Form::Each,
            _ => Form::Parts(parts(taps)),
        };
        Self::of(form, outputs, inputs, most)
    }

    pub fn of(form: Form, outputs: usize, inputs: usize, most: usize) -> Self {
        let mut packed = Self {
            weights: Vec::new(),
            form,
            pairs: false,
            inputs,
            outputs,
            blocks: shares(outputs, most).collect(),
        };
        packed.weights = vec![T::default(); outputs * packed.of_an_output()];
        packed
    }

    /// From now on as pairs of bf16.
    pub fn in_pairs(&mut self) {
        self.pairs = true;
        self.weights.truncate(self.outputs * self.of_an_output());
    }

    /// Rows that the kernel reads: channels, or pairs of them.
    pub fn rows(&self) -> usize {
        match self.pairs {
            true => self.inputs.div_ceil(2),
            false => self.inputs,
        }
    }

    /// Weights of an output.
    pub fn of_an_output(&self) -> usize {
        let taps = match &self.form {
            Form::Each | Form::Up => 1,
            Form::Parts(parts) => parts.iter().map(|part| part.taps).sum(),
        };
        self.rows() * taps
    }

    /// `weight(output, input, tap)`
    pub fn fill(&mut self, weight: impl Fn(usize, usize, usize) -> T) {
        let (mut place, mut first) = (0, 0);
        let (rows, inputs, pairs) = (self.rows(), self.inputs, self.pairs);
        let each = self.of_an_output();
        // `of` an input; of a row that is a pair both, the last alone where the number is odd.
        let of_row = |row: usize, of: &dyn Fn(usize) -> T| match pairs {
            false => of(row),
            true if 2 * row + 1 == inputs => T::pair(of(2 * row), T::default()),
            true => T::pair(of(2 * row), of(2 * row + 1)),
        };
        for &block in &self.blocks {
            let mut rest = self.weights[place..].iter_mut();
            let mut next = |value| *rest.next().expect("a place for each weight") = value;
            match &self.form {
                Form::Each | Form::Up => {
                    for row in 0..rows {
                        for output in first..first + block {
                            next(of_row(row, &|input| weight(output, input, 0)));
                        }
                    }
                }
                Form::Parts(parts) => {
                    for part in parts {
                        for row in 0..rows {
                            for tap in 0..part.taps {
                                for output in first..first + block {
                                    next(of_row(row, &|input| {
                                        part.weight(tap, |tap| weight(output, input, tap))
                                    }));
                                }
                            }
                        }
                    }
                }
            }
            first += block;
            place += block * each;
        }
    }
}

/// `all` in the fewest nearly equal parts of at most `most`.
pub fn shares(all: usize, most: usize) -> impl Iterator<Item = usize> {
    let parts = all.div_ceil(most).max(1);
    (0..parts).map(move |part| all / parts + usize::from(part < all % parts))
}

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
                Kind::Pool | Kind::Dropout(_) | Kind::Add | Kind::Gate => {}
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
