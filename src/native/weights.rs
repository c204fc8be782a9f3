//! Gradients of a convolution's weights: products of a gradient row and a shifted input row, summed over the sequence.
//!
//! Sums of a tile stay in registers over several windows where rows are short: adding them up costs as much as hundreds
//! of products.

use super::{
    conv::{Rows, shares},
    lanes::{Element, Kernel, Lanes},
    phases::{Reads, add_phases, parts, room},
};

/// Bytes of both sides that a block of the sequence may have, to stay in the second cache.
const BLOCK_BYTES: usize = 1 << 18;
/// Taps x rows, and lanes of each, that a tile holds at most.
const MOST_SUMS: usize = 32;
const MOST_LANES: usize = 16;

/// Rows of neighbouring windows.
#[derive(Clone, Copy, Debug)]
pub struct Windows<T> {
    /// Of the first.
    pub rows: Rows<T>,
    pub number: usize,
    /// Elements from a window to the next.
    pub step: usize,
}

impl<T: Element> Windows<T> {
    fn phase(&self, phase: usize) -> Self {
        Self {
            rows: self.rows.phase(phase),
            number: self.number,
            step: self.step,
        }
    }

    /// Both phases of a block of every window added up.
    #[inline(always)]
    unsafe fn add_phases<L: Lanes<T = T>>(&self, from: usize, to: usize, into: *mut T) -> Self {
        let step = room(self.rows.rows / 2, to - from);
        let mut rows = self.rows;
        for window in 0..self.number {
            let mut of = self.rows;
            of.at = of.at.add(window * self.step);
            let sums = add_phases::<L>(of, from, to, into.add(window * step));
            if window == 0 {
                rows = sums;
            }
        }
        Self {
            rows,
            number: self.number,
            step,
        }
    }
}

/// Places of a phase that are worked on at once.
fn block_places<T>(inputs: usize, outputs: usize, padded: usize) -> usize {
    let places = BLOCK_BYTES / (size_of::<T>() * (inputs + outputs));
    (places / 16 * 16).max(320).min(padded)
}

/// Elements of scratch for so many windows of padded rows.
pub fn scratch<T>(inputs: usize, outputs: usize, padded: usize, windows: usize) -> usize {
    windows * room(inputs + outputs, block_places::<T>(inputs, outputs, padded))
}

/// Adds to `sums` the gradients of all parts of a convolution, in an order of its own: see [`WeightGradient::unpack`].
pub struct WeightGradient<'a, T> {
    pub x: Windows<T>,
    pub g: Windows<T>,
    pub taps: usize,
    /// For both phases of a block of x and of g added up: [`scratch`].
    pub scratch: *mut T,
    pub sums: &'a mut [T],
}

/// `K` taps of a row of x and `R` rows of g.
struct TileAt {
    tap: usize,
    taps: usize,
    output: usize,
    outputs: usize,
    input: usize,
}

/// All tiles of a part in their order.
fn tiles<L: Lanes>(taps: usize, outputs: usize, inputs: usize, mut visit: impl FnMut(TileAt)) {
    let mut tap = 0;
    for taps in shares(taps, L::TAPS) {
        let mut output = 0;
        // taps x outputs sums, a gradient of each output, two inputs and the shifted one are in registers.
        for outputs in shares(outputs, ((L::REGISTERS - 3) / (taps + 1)).clamp(1, 6)) {
            for input in 0..inputs {
                visit(TileAt {
                    tap,
                    taps,
                    output,
                    outputs,
                    input,
                });
            }
            output += outputs;
        }
        tap += taps;
    }
}

/// Numbers that a convolution's sums are.
pub fn products(outputs: usize, inputs: usize, taps: usize) -> usize {
    let taps: usize = parts(taps).iter().map(|part| part.taps).sum();
    // The last tile's sums are added with whole vectors.
    outputs * inputs * taps + MOST_LANES
}

impl<T: Element> WeightGradient<'_, T> {
    /// Adds what `sums` hold to the gradient [outputs, inputs, taps].
    pub fn unpack<L: Lanes<T = T>>(
        sums: &[T],
        outputs: usize,
        inputs: usize,
        taps: usize,
        gradient: &mut [T],
    ) {
        let mut sums = sums.iter();
        for part in parts(taps) {
            tiles::<L>(part.taps, outputs, inputs, |tile| {
                for tap in tile.tap..tile.tap + tile.taps {
                    for output in tile.output..tile.output + tile.outputs {
                        let sum = sums.next().expect("a sum for each product").wide();
                        let all = &mut gradient[(output * inputs + tile.input) * taps..][..taps];
                        part.gradient(tap, sum, |tap, sum| {
                            all[tap] = T::of(all[tap].wide() + sum);
                        });
                    }
                }
            });
        }
    }
}

impl<T: Element> Kernel for WeightGradient<'_, T> {
    type T = T;
    type Output = ();

    #[inline(always)]
    unsafe fn run<L: Lanes<T = T>>(self) {
        let (inputs, outputs) = (self.x.rows.rows / 2, self.g.rows.rows / 2);
        debug_assert_eq!(self.sums.len(), products(outputs, inputs, self.taps));
        let padded = self.x.rows.padded;
        let places = block_places::<T>(inputs, outputs, padded);
        let mut from = 0;
        while from < padded {
            let to = (from + places).min(padded);
            let x_sum = self.x.add_phases::<L>(from, to, self.scratch);
            let behind = self.scratch.add(self.x.number * room(inputs, to - from));
            let g_sum = self.g.add_phases::<L>(from, to, behind);
            let mut sums = self.sums.as_mut_ptr();
            for part in parts(self.taps) {
                let (x, g) = match part.reads {
                    Reads::Sum => (x_sum, g_sum),
                    Reads::Odd => (self.x.phase(1), self.g.phase(0)),
                    Reads::Even => (self.x.phase(0), self.g.phase(1)),
                };
                tiles::<L>(part.taps, outputs, inputs, |tile| {
                    let at = Tile::<T> {
                        x: x.rows
                            .row(tile.input)
                            .wrapping_offset(part.first)
                            .wrapping_add(tile.tap),
                        g: g.rows.row(tile.output),
                        g_stride: g.rows.stride,
                        windows: x.number,
                        steps: [x.step, g.step],
                        from,
                        to,
                        sums,
                    };
                    at.run::<L>(tile.taps, tile.outputs);
                    sums = sums.add(tile.taps * tile.outputs);
                });
            }
            from = to;
        }
    }
}

/// A tile over a block of the sequence of all windows.
#[derive(Clone, Copy)]
struct Tile<T> {
    x: *const T,
    g: *const T,
    g_stride: usize,
    windows: usize,
    steps: [usize; 2],
    from: usize,
    to: usize,
    sums: *mut T,
}

/// With its size; a function of its own, as within a larger one the compiler runs out of registers.
struct Sized<T, const K: usize, const R: usize>(Tile<T>);

impl<T: Element> Tile<T> {
    #[inline(always)]
    unsafe fn run<L: Lanes<T = T>>(self, taps: usize, outputs: usize) {
        macro_rules! sizes {
            ($($k:literal: $($r:literal)*),*) => {
                match (taps, outputs) {
                    $($(($k, $r) if const { ($k + 1) * $r + 3 <= L::REGISTERS && $k <= L::TAPS } => {
                        L::run(Sized::<T, $k, $r>(self))
                    })*)*
                    _ => unreachable!("a tile fits the registers"),
                }
            };
        }
        sizes!(1: 1 2 3 4 5 6, 2: 1 2 3 4 5 6, 3: 1 2 3 4 5 6, 4: 1 2 3 4 5, 5: 1 2 3 4, 6: 1 2 3 4, 7: 1 2 3, 8: 1 2 3)
    }
}

impl<T: Element, const K: usize, const R: usize> Kernel for Sized<T, K, R> {
    type T = T;
    type Output = ();

    #[inline(always)]
    unsafe fn run<L: Lanes<T = T>>(self) {
        let tile = self.0;
        let mut sums = [[L::splat(T::default()); R]; K];
        for window in 0..tile.windows {
            let mut x = tile.x.add(window * tile.steps[0] + tile.from);
            let mut g = tile.g.add(window * tile.steps[1] + tile.from);
            let end = g.add(tile.to - tile.from);
            let mut p = L::load(x);
            while g < end {
                let q = L::load(x.add(L::N));
                let rows: [L::V; R] = std::array::from_fn(|r| L::load(g.add(r * tile.g_stride)));
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
        }
        let mut lanes = [T::default(); MOST_SUMS * MOST_LANES];
        for k in 0..K {
            for r in 0..R {
                L::store(lanes.as_mut_ptr().add((k * R + r) * L::N), sums[k][r]);
            }
        }
        for at in (0..K * R).step_by(L::N) {
            let totals = L::sums(lanes.as_ptr().add(at * L::N));
            let to = tile.sums.add(at);
            L::store(to, L::add(L::load(to), totals));
        }
    }
}

/// Adds to `sums` [outputs, inputs] the products of all pairs of rows: the gradient of weights of one tap.
pub struct Products<'a, T> {
    pub x: Rows<T>,
    pub g: Rows<T>,
    pub sums: &'a mut [T],
}

impl<T: Element> Kernel for Products<'_, T> {
    type T = T;
    type Output = ();

    #[inline(always)]
    unsafe fn run<L: Lanes<T = T>>(self) {
        const SIDE: usize = 3;
        let (inputs, outputs) = (self.x.rows / 2, self.g.rows / 2);
        debug_assert_eq!(self.sums.len(), outputs * inputs);
        for output in (0..outputs).step_by(SIDE) {
            for input in (0..inputs).step_by(SIDE) {
                let mut sums = [[L::splat(T::default()); SIDE]; SIDE];
                for phase in 0..2 {
                    // At the edge the last row stands in for those that are missing; their sums are dropped.
                    let row =
                        |of: &Rows<T>, at: usize, last: usize| of.row(2 * at.min(last) + phase);
                    let g: [*mut T; SIDE] =
                        std::array::from_fn(|r| row(&self.g, output + r, outputs - 1));
                    let x: [*mut T; SIDE] =
                        std::array::from_fn(|i| row(&self.x, input + i, inputs - 1));
                    for at in (0..self.x.padded).step_by(L::N) {
                        let rows: [L::V; SIDE] = std::array::from_fn(|i| L::load(x[i].add(at)));
                        for r in 0..SIDE {
                            let gradient = L::load(g[r].add(at));
                            for i in 0..SIDE {
                                sums[r][i] = L::fma(gradient, rows[i], sums[r][i]);
                            }
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
