//! A convolution of rows kept as even and odd places, with fewer products: for 7 taps 11 instead of 14.
//!
//! Taps of even reach (T) lead from a phase to itself, those of odd reach from each to the other: U from odd to even
//! places, V from even to odd ones. Then, as U = (U - T) + T,
//!     even result = (U - T) odd + T (even + odd)
//!     odd result  = (V - T) even + T (even + odd)
//! where the last sums are the same ones (a Toeplitz product in the manner of Karatsuba; Mou & Duhamel 1991). With 5, 9 or
//! 17 taps T reaches a place further than U or V: an infinity there becomes a NaN one place outside the convolution's reach.

use super::lanes::Element;

/// Rows that a part reads; [`Reads::Sum`] adds to both phases of the result, the others to the other phase.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reads {
    Sum,
    Odd,
    Even,
}

/// A part of a convolution: `taps` neighbouring places of its rows, from `first` on.
#[derive(Clone, Copy, Debug)]
pub struct Part {
    pub reads: Reads,
    pub first: isize,
    pub taps: usize,
    /// Reach of the whole to each side.
    half: isize,
}

/// The parts of a convolution of `taps` taps, an odd number.
pub fn parts(taps: usize) -> [Part; 3] {
    let half = (taps / 2) as isize;
    [Reads::Sum, Reads::Odd, Reads::Even].map(|reads| {
        let all = Part {
            reads,
            first: -half,
            taps,
            half,
        };
        let places = |at: &isize| all.of_places((at + half) as usize);
        let used = || (-half..=half).filter(|at| places(at).iter().any(Option::is_some));
        Part {
            first: used().next().expect("each part has a tap"),
            taps: used().count(),
            ..all
        }
    })
}

impl Part {
    /// Of the part's tap, those of the whole that it adds and takes off.
    fn of_places(&self, tap: usize) -> [Option<usize>; 2] {
        let at = self.first + tap as isize;
        let whole =
            |reach: isize| (reach.abs() <= self.half).then_some((reach + self.half) as usize);
        match self.reads {
            Reads::Sum => [whole(2 * at), None],
            Reads::Odd => [whole(2 * at + 1), whole(2 * at)],
            Reads::Even => [whole(2 * at - 1), whole(2 * at)],
        }
    }

    /// The part's weight, of those of the whole.
    pub fn weight<T: Element>(&self, tap: usize, of: impl Fn(usize) -> T) -> T {
        let [plus, minus] = self
            .of_places(tap)
            .map(|tap| tap.map_or(0.0, |tap| of(tap).wide()));
        T::of(plus - minus)
    }

    /// The way back: `add(tap of the whole, its share of the gradient)`.
    pub fn gradient(&self, tap: usize, gradient: f64, mut add: impl FnMut(usize, f64)) {
        let [plus, minus] = self.of_places(tap);
        plus.into_iter().for_each(|tap| add(tap, gradient));
        minus.into_iter().for_each(|tap| add(tap, -gradient));
    }
}

/// Elements of a phase of a row of `length`.
pub fn phase_length(length: usize, phase: usize) -> usize {
    (length + 1 - phase) / 2
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Products of both results, with the phases in the place of whole rows.
    #[test]
    fn parts_are_the_convolution() {
        for (taps, expected) in [(3usize, 5), (5, 9), (7, 11), (9, 15), (15, 23)] {
            let length = 16isize;
            let weights: Vec<f64> = (0..taps).map(|t| (t * t % 7) as f64 - 2.5).collect();
            let x = |at: isize| match (0..2 * length).contains(&at) {
                true => ((at * at) % 11) as f64 - 4.0,
                false => 0.0,
            };
            let parts = parts(taps);
            let products: usize = parts.iter().map(|part| part.taps).sum();
            assert_eq!(products, expected, "{taps} taps");
            for l in 0..length {
                let of = |part: &Part| -> f64 {
                    let terms = (0..part.taps).map(|tap| {
                        let at = l + part.first + tap as isize;
                        let read = match part.reads {
                            Reads::Sum => x(2 * at) + x(2 * at + 1),
                            Reads::Odd => x(2 * at + 1),
                            Reads::Even => x(2 * at),
                        };
                        part.weight(tap, |tap| weights[tap]) * read
                    });
                    terms.sum()
                };
                let [sum, odd, even] = parts.each_ref().map(of);
                for (phase, result) in [(0, sum + odd), (1, sum + even)] {
                    let direct = |tap: usize| {
                        weights[tap] * x(2 * l + phase + tap as isize - taps as isize / 2)
                    };
                    let direct: f64 = (0..taps).map(direct).sum();
                    assert!((result - direct).abs() < 1e-12, "{taps} taps at {l}");
                }
            }
        }
    }
}
