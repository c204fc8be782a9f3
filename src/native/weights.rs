//! Gradients of a convolution's weights: products of a gradient row and a shifted input row, summed over the sequence.
//!
//! Sums of a tile stay in registers over several windows where rows are short: adding them up costs as much as hundreds
//! of products.

use super::{
    conv::{HALO, Rows},
    input::{Input, halved, room},
    lanes::{Element, Kernel, Lanes},
    pack::shares,
    phases::{Reads, parts},
};

/// Bytes of a phase of both sides that a block of a window may have. A few rows of all that is gathered are read again
/// and again while the rest streams by.
const BLOCK_BYTES: usize = 1 << 18;
/// Taps x rows, and lanes of each, that a tile holds at most.
const MOST_SUMS: usize = 32;
const MOST_LANES: usize = 16;

/// Neighbouring windows.
#[derive(Clone, Copy, Debug)]
pub struct Windows<'a, T> {
    pub first: Input<'a, T>,
    pub number: usize,
    /// Elements from a window to the next.
    pub step: usize,
}

impl<T: Element> Windows<'_, T> {
    /// Phases of a block of the first window, and elements from a window to the next in each of them; halves of the block
    /// as pairs where numbers are multiplied so. `own` is for a channel on its way.
    #[inline(always)]
    unsafe fn gather<L: Lanes<T = T>>(
        &self,
        from: usize,
        to: usize,
        into: *mut T,
        own: *mut T,
    ) -> [(Rows<T>, usize); 3] {
        let step = room(self.first.channels(), to - from);
        let mut window = self.first;
        let mut all = [window.rows; 3];
        for number in 0..self.number {
            let into = into.add(number * step);
            let phases = match L::PAIRS {
                true => window.gather_halves::<L>(from, to, into, own),
                false => window.gather::<L>(true, from, to, into),
            };
            if number == 0 {
                all = phases;
            }
            // Behind the last window it is not read.
            window.rows.at = window.rows.at.wrapping_add(self.step);
        }
        let of_phases = if L::PAIRS || self.first.norm.is_some() {
            step
        } else {
            self.step
        };
        [(all[0], of_phases), (all[1], of_phases), (all[2], step)]
    }
}

/// Places of a phase that are worked on at once.
fn block_places<T>(inputs: usize, outputs: usize, padded: usize) -> usize {
    let places = BLOCK_BYTES / (size_of::<T>() * (inputs + outputs));
    // Whole vectors in both halves of all blocks but the last, behind which a gradient is 0.
    (places / (2 * HALO) * 2 * HALO).max(320).min(padded)
}

/// Elements of scratch for so many windows of padded rows.
pub fn scratch<T>(inputs: usize, outputs: usize, padded: usize, windows: usize) -> usize {
    let places = block_places::<T>(inputs, outputs, padded);
    windows * room(inputs + outputs, places) + room(1, 2 * halved(places))
}

/// Adds to `sums` the gradients of all parts of a convolution, in an order of its own: see [`WeightGradient::unpack`].
pub struct WeightGradient<'a, T> {
    pub x: Windows<'a, T>,
    pub g: Windows<'a, T>,
    pub taps: usize,
    /// For a block of x and of g: [`scratch`].
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
        let (inputs, outputs) = (self.x.first.channels(), self.g.first.channels());
        debug_assert_eq!(self.sums.len(), products(outputs, inputs, self.taps));
        let padded = self.x.first.rows.padded;
        let places = block_places::<T>(inputs, outputs, padded);
        let mut from = 0;
        while from < padded {
            let to = (from + places).min(padded);
            let of_g = self.scratch.add(self.x.number * room(inputs, to - from));
            let own = of_g.add(self.g.number * room(outputs, to - from));
            let x = self.x.gather::<L>(from, to, self.scratch, own);
            let g = self.g.gather::<L>(from, to, of_g, own);
            let end = match L::PAIRS {
                true => from + halved(to - from),
                false => to,
            };
            let mut sums = self.sums.as_mut_ptr();
            for part in parts(self.taps) {
                let ((x, x_step), (g, g_step)) = match part.reads {
                    Reads::Sum => (x[2], g[2]),
                    Reads::Odd => (x[1], g[0]),
                    Reads::Even => (x[0], g[1]),
                };
                tiles::<L>(part.taps, outputs, inputs, |tile| {
                    let at = Tile::<T> {
                        x: x.row(tile.input)
                            .wrapping_offset(part.first)
                            .wrapping_add(tile.tap),
                        g: g.row(tile.output),
                        g_stride: g.stride,
                        windows: self.x.number,
                        steps: [x_step, g_step],
                        from,
                        to: end,
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
struct SizedTile<T, const K: usize, const R: usize>(Tile<T>);

impl<T: Element> Tile<T> {
    #[inline(always)]
    unsafe fn run<L: Lanes<T = T>>(self, taps: usize, outputs: usize) {
        macro_rules! sizes {
            ($($k:literal: $($r:literal)*),*) => {
                match (taps, outputs) {
                    $($(($k, $r) if const { ($k + 1) * $r + 3 <= L::REGISTERS && $k <= L::TAPS } => {
                        L::run(SizedTile::<T, $k, $r>(self))
                    })*)*
                    _ => unreachable!("a tile fits the registers"),
                }
            };
        }
        sizes!(1: 1 2 3 4 5 6, 2: 1 2 3 4 5 6, 3: 1 2 3 4 5 6, 4: 1 2 3 4 5, 5: 1 2 3 4, 6: 1 2 3 4, 7: 1 2 3, 8: 1 2 3)
    }
}

impl<T: Element, const K: usize, const R: usize> Kernel for SizedTile<T, K, R> {
    type T = T;
    type Output = ();

    #[inline(always)]
    unsafe fn run<L: Lanes<T = T>>(self) {
        let tile = self.0;
        let mut sums = [[L::splat(T::default()); R]; K];
        for window in 0..tile.windows {
            let mut x = tile.x.wrapping_add(window * tile.steps[0] + tile.from);
            let mut g = tile.g.wrapping_add(window * tile.steps[1] + tile.from);
            let end = g.add(tile.to - tile.from);
            let mut p = L::load(x);
            while g < end {
                let q = L::load(x.add(L::N));
                let rows: [L::V; R] = std::array::from_fn(|r| L::load(g.add(r * tile.g_stride)));
                macro_rules! tap {
                    ($($t:literal)*) => { $(if K > $t {
                        let shifted = L::shifted::<$t>(p, q, x);
                        for r in 0..R {
                            sums[$t][r] = L::dot(rows[r], shifted, sums[$t][r]);
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

/// Adds to `sums` [rows of g, rows of x] the products of all pairs: the gradient of weights of one tap.
pub struct Products<'a, T> {
    pub x: Input<'a, T>,
    pub g: Input<'a, T>,
    /// For a block of both: [`products_scratch`].
    pub scratch: *mut T,
    pub sums: &'a mut [T],
}

/// Rows of each side that a tile of [`Products`] holds.
const SIDE: usize = 3;
/// Places of a block of them.
const PLACES: usize = 480;

/// Elements of scratch for so many channels of both sides.
pub fn products_scratch(channels: usize) -> usize {
    room(channels, PLACES)
}

impl<T: Element> Kernel for Products<'_, T> {
    type T = T;
    type Output = ();

    #[inline(always)]
    unsafe fn run<L: Lanes<T = T>>(self) {
        let (inputs, outputs) = (self.x.channels(), self.g.channels());
        debug_assert_eq!(self.sums.len(), outputs * inputs);
        let padded = self.x.rows.padded;
        for from in (0..padded).step_by(PLACES) {
            let to = (from + PLACES).min(padded);
            let x = self.x.gather::<L>(false, from, to, self.scratch);
            let behind = self.scratch.add(room(inputs, to - from));
            let g = self.g.gather::<L>(false, from, to, behind);
            for output in (0..outputs).step_by(SIDE) {
                for input in (0..inputs).step_by(SIDE) {
                    let mut sums = [[L::splat(T::default()); SIDE]; SIDE];
                    for phase in 0..2 {
                        // At the edge the last row stands in for those that are missing; their sums are dropped.
                        let rows: [(*const T, *const T); SIDE] = std::array::from_fn(|r| {
                            let g = g[phase].row((output + r).min(outputs - 1));
                            let x = x[phase].row((input + r).min(inputs - 1));
                            (g as *const T, x as *const T)
                        });
                        for at in (from..to).step_by(L::N) {
                            let x: [L::V; SIDE] =
                                std::array::from_fn(|i| L::load(rows[i].1.wrapping_add(at)));
                            for r in 0..SIDE {
                                let g = L::load(rows[r].0.wrapping_add(at));
                                for i in 0..SIDE {
                                    sums[r][i] = L::fma(g, x[i], sums[r][i]);
                                }
                            }
                        }
                    }
                    for r in 0..SIDE.min(outputs - output) {
                        for i in 0..SIDE.min(inputs - input) {
                            let place = (output + r) * inputs + input + i;
                            let sum = self.sums.get_unchecked_mut(place);
                            *sum = T::of(sum.wide() + L::sum(sums[r][i]).wide());
                        }
                    }
                }
            }
        }
    }
}
