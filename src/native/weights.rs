//! Gradients of a convolution's weights: products of a gradient row and a shifted input row, summed over the sequence.

use super::{
    conv::{Rows, shares},
    lanes::{Element, Kernel, Lanes},
};

/// Bytes of both sides that a block of the sequence may have, to stay in the second cache.
const BLOCK_BYTES: usize = 1 << 18;

/// sums[o][i][t] += sum over l of g[o][l] x[i][l + t - taps/2]
pub struct WeightGradient<'a, T> {
    pub x: Rows<T>,
    pub g: Rows<T>,
    pub taps: usize,
    /// [outputs, inputs, taps]
    pub sums: &'a mut [T],
}

impl<T: Element> Kernel for WeightGradient<'_, T> {
    type T = T;
    type Output = ();

    #[inline(always)]
    unsafe fn run<L: Lanes<T = T>>(mut self) {
        let (inputs, outputs) = (self.x.rows, self.g.rows);
        debug_assert_eq!(self.sums.len(), outputs * inputs * self.taps);
        if self.taps == 1 {
            return self.products::<L>();
        }
        let positions = BLOCK_BYTES / (size_of::<T>() * (inputs + outputs));
        let positions = (positions / 16 * 16).max(320);
        let mut from = 0;
        while from < self.x.padded {
            let to = (from + positions).min(self.x.padded);
            let mut tap = 0;
            for taps in shares(self.taps, L::TAPS) {
                match taps {
                    1 => self.taps_of::<L, 1>(tap, from, to),
                    2 => self.taps_of::<L, 2>(tap, from, to),
                    3 => self.taps_of::<L, 3>(tap, from, to),
                    4 => self.taps_of::<L, 4>(tap, from, to),
                    5 if L::TAPS > 4 => self.taps_of::<L, 5>(tap, from, to),
                    6 if L::TAPS > 4 => self.taps_of::<L, 6>(tap, from, to),
                    7 if L::TAPS > 4 => self.taps_of::<L, 7>(tap, from, to),
                    8 if L::TAPS > 4 => self.taps_of::<L, 8>(tap, from, to),
                    _ => unreachable!("parts have at most TAPS taps"),
                }
                tap += taps;
            }
            from = to;
        }
    }
}

impl<T: Element> WeightGradient<'_, T> {
    /// `K` neighbouring taps from `tap` on, of all pairs of rows, over a block of the sequence.
    #[inline(always)]
    unsafe fn taps_of<L: Lanes<T = T>, const K: usize>(
        &mut self,
        tap: usize,
        from: usize,
        to: usize,
    ) {
        let mut output = 0;
        // K sums and a gradient for each row, an input, and one to spare.
        for outputs in shares(self.g.rows, ((L::REGISTERS - 2) / (K + 1)).min(4)) {
            for input in 0..self.x.rows {
                match outputs {
                    1 => L::run(Tile::<T, K, 1> {
                        all: self,
                        tap,
                        output,
                        input,
                        from,
                        to,
                    }),
                    2 => L::run(Tile::<T, K, 2> {
                        all: self,
                        tap,
                        output,
                        input,
                        from,
                        to,
                    }),
                    3 => L::run(Tile::<T, K, 3> {
                        all: self,
                        tap,
                        output,
                        input,
                        from,
                        to,
                    }),
                    _ => L::run(Tile::<T, K, 4> {
                        all: self,
                        tap,
                        output,
                        input,
                        from,
                        to,
                    }),
                }
            }
            output += outputs;
        }
    }
}

/// `K` taps of one input row and `R` gradient rows; a function of its own, as within a larger one the compiler runs out
/// of registers.
struct Tile<'a, 'b, T, const K: usize, const R: usize> {
    all: &'a mut WeightGradient<'b, T>,
    tap: usize,
    output: usize,
    input: usize,
    from: usize,
    to: usize,
}

impl<T: Element, const K: usize, const R: usize> Kernel for Tile<'_, '_, T, K, R> {
    type T = T;
    type Output = ();

    #[inline(always)]
    unsafe fn run<L: Lanes<T = T>>(self) {
        let Self {
            all,
            tap,
            output,
            input,
            from,
            to,
        } = self;
        let mut sums = [[L::splat(T::default()); R]; K];
        let mut x = all.x.row(input).add(from + tap).sub(all.taps / 2) as *const T;
        let mut g = all.g.row(output).add(from) as *const T;
        let end = all.g.row(output).add(to) as *const T;
        let mut p = L::load(x);
        while g < end {
            let q = L::load(x.add(L::N));
            let rows: [L::V; R] = std::array::from_fn(|r| L::load(g.add(r * all.g.stride)));
            macro_rules! tap {
                ($($t:literal)*) => { $(if K > $t {
                    let shifted = L::shifted::<$t>(p, q, x);
                    for r in 0..R {
                        sums[$t][r] = L::fma(rows[r], shifted, sums[$t][r]);
                    }
                })* };
            }
            tap!(0 1 2 3 4 5 6 7);
            p = q;
            x = x.add(L::N);
            g = g.add(L::N);
        }
        for r in 0..R {
            let place = ((output + r) * all.x.rows + input) * all.taps + tap;
            for k in 0..K {
                let sum = all.sums.get_unchecked_mut(place + k);
                *sum = T::of(sum.wide() + L::sum(sums[k][r]).wide());
            }
        }
    }
}

impl<T: Element> WeightGradient<'_, T> {
    /// One tap: products of all pairs of rows, four by four.
    #[inline(always)]
    unsafe fn products<L: Lanes<T = T>>(&mut self) {
        const SIDE: usize = 3;
        let (inputs, outputs) = (self.x.rows, self.g.rows);
        for output in (0..outputs).step_by(SIDE) {
            for input in (0..inputs).step_by(SIDE) {
                // At the edge the last row stands in for those that are missing; their sums are dropped.
                let g: [*const T; SIDE] =
                    std::array::from_fn(|r| self.g.row((output + r).min(outputs - 1)) as *const T);
                let x: [*const T; SIDE] =
                    std::array::from_fn(|r| self.x.row((input + r).min(inputs - 1)) as *const T);
                let mut sums = [[L::splat(T::default()); SIDE]; SIDE];
                for at in (0..self.x.padded).step_by(L::N) {
                    let rows: [L::V; SIDE] = std::array::from_fn(|r| L::load(x[r].add(at)));
                    for r in 0..SIDE {
                        let gradient = L::load(g[r].add(at));
                        for i in 0..SIDE {
                            sums[r][i] = L::fma(gradient, rows[i], sums[r][i]);
                        }
                    }
                }
                for r in 0..SIDE.min(outputs - output) {
                    for i in 0..SIDE.min(inputs - input) {
                        let sum = self
                            .sums
                            .get_unchecked_mut((output + r) * inputs + input + i);
                        *sum = T::of(sum.wide() + L::sum(sums[r][i]).wide());
                    }
                }
            }
        }
    }
}
