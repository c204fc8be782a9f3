//! Convolution over rows in two phases: forward, and backward to the input, which is the same with turned weights.
//!
//! Vectors run along the sequence and weights are broadcast, so an odd number of channels costs nothing. A tile keeps
//! up to 8 output rows x 3 vectors in registers while all inputs and taps stream through it.

use super::{
    input::{Input, Phases, ScaleShift, room},
    lanes::{Element, Kernel, Lanes},
    norm::{Moments, NormSums, Sums},
    pack::{Form, Packed},
    phases::Reads,
};

/// Zeros on both sides of every row: a kernel may reach so far over its ends.
pub const HALO: usize = 16;
/// Bytes of input rows that a block of the sequence may have, to stay in the second cache.
const BLOCK_BYTES: usize = 100_000;

/// What is done with a sum of products.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Finish {
    Store,
    /// Added to what is there.
    Add,
    Relu,
}

/// Rows of one sample: `rows` of them, `stride` apart; the pointer is at the first element of the first. Of a channel the
/// even places are a row, and the odd places the next.
#[derive(Clone, Copy, Debug)]
pub struct Rows<T> {
    pub at: *mut T,
    pub stride: usize,
    pub rows: usize,
    /// Elements of a row, a multiple of 16.
    pub padded: usize,
}

impl<T> Rows<T> {
    /// # Safety
    /// `row` is one of the rows.
    #[inline(always)]
    pub unsafe fn row(&self, row: usize) -> *mut T {
        // Rows of a block are numbered by the places of the whole: the first place may be far before the block.
        self.at.wrapping_add(row * self.stride)
    }

    /// The even or the odd places of every channel.
    #[inline(always)]
    pub fn phase(&self, phase: usize) -> Self {
        Self {
            at: self.at.wrapping_add(phase * self.stride),
            stride: 2 * self.stride,
            rows: self.rows / 2,
            padded: self.padded,
        }
    }
}

/// y[o][l] = bias[o] + sum over i, t of weight[o][i][t] x[i][l + t - taps/2], and its finish.
pub struct Conv<'a, T> {
    pub x: Input<'a, T>,
    pub y: Rows<T>,
    pub packed: &'a Packed<T>,
    /// For a block of x: [`scratch`].
    pub scratch: *mut T,
    pub bias: Option<&'a [T]>,
    pub finish: Finish,
    /// The norm that comes after the finish, where it is known already.
    pub norm: Option<ScaleShift<'a, T>>,
    /// Places of a channel of y: behind them it becomes 0.
    pub length: usize,
    pub after: After<'a, T>,
}

/// What is computed of each block of y while it is in the cache.
pub enum After<'a, T> {
    Nothing,
    /// Added to the sums of each channel.
    Moments(&'a mut [Sums]),
    /// Where y holds the gradient of a norm.
    Norm(NormSums<'a, T>),
}

/// Places of a phase that are worked on at once.
fn block_places<T>(inputs: usize) -> usize {
    // Both phases and their sum.
    let places = BLOCK_BYTES / (3 * inputs * size_of::<T>());
    (places / 48 * 48).max(48)
}

/// Elements of scratch that a convolution needs.
pub fn scratch<T>(inputs: usize) -> usize {
    room(inputs, block_places::<T>(inputs))
}

impl<T: Element> Kernel for Conv<'_, T> {
    type T = T;
    type Output = ();

    #[inline(always)]
    unsafe fn run<L: Lanes<T = T>>(mut self) {
        let Packed {
            inputs, outputs, ..
        } = *self.packed;
        debug_assert!(self.x.channels() == inputs);
        debug_assert!(match self.packed.form {
            Form::Up => self.y.rows == outputs,
            _ => self.y.rows == 2 * outputs && self.x.rows.padded == self.y.padded,
        });
        let places = block_places::<T>(inputs);
        let (mut from, all) = (0, self.x.rows.padded);
        while from < all {
            let to = (from + places).min(all);
            let sum = matches!(self.packed.form, Form::Parts(_));
            let x = match L::PAIRS {
                true => self.x.gather_pairs::<L>(sum, from, to, self.scratch),
                false => self.x.gather::<L>(sum, from, to, self.scratch),
            };
            let (mut weights, mut first) = (self.packed.weights.as_ptr(), 0);
            for &block in &self.packed.blocks {
                match block {
                    1 => self.block::<L, 1>(weights, first, &x, from, to),
                    2 => self.block::<L, 2>(weights, first, &x, from, to),
                    3 => self.block::<L, 3>(weights, first, &x, from, to),
                    4 => self.block::<L, 4>(weights, first, &x, from, to),
                    5 if L::ROWS > 4 => self.block::<L, 5>(weights, first, &x, from, to),
                    6 if L::ROWS > 4 => self.block::<L, 6>(weights, first, &x, from, to),
                    7 if L::ROWS > 4 => self.block::<L, 7>(weights, first, &x, from, to),
                    8 if L::ROWS > 4 => self.block::<L, 8>(weights, first, &x, from, to),
                    _ => unreachable!("blocks have at most ROWS outputs"),
                }
                weights = weights.add(block * self.packed.of_an_output());
                first += block;
            }
            if to == all {
                self.y.clear_tails(self.length);
            }
            match &mut self.after {
                After::Nothing => {}
                After::Moments(of_channels) => {
                    let moments = Moments {
                        x: self.y,
                        length: self.length,
                        from,
                        to,
                        of_channels,
                    };
                    moments.run::<L>();
                }
                After::Norm(sums) => sums.block::<L>(from, to),
            }
            from = to;
        }
    }
}

/// Sums of products of a tile: R rows of V vectors.
type TileSums<L, const R: usize, const V: usize> = [[<L as Lanes>::V; V]; R];

impl<T: Element> Conv<'_, T> {
    /// A block of `R` outputs from `first`, over a block of the sequence.
    #[inline(always)]
    unsafe fn block<L: Lanes<T = T>, const R: usize>(
        &self,
        weights: *const T,
        first: usize,
        x: &Phases<T>,
        from: usize,
        to: usize,
    ) {
        let mut at = from;
        // While the first outputs are computed, the next block of the input comes nearer.
        let ahead = |at: usize, vectors: usize| {
            if first == 0 {
                self.x.fetch(to + at - from, vectors * L::N);
            }
        };
        // Sums, inputs and a weight are in registers.
        if R * 4 + 4 < L::REGISTERS {
            while at + 4 * L::N <= to {
                ahead(at, 4);
                self.tile::<L, R, 4>(weights, first, x, at);
                at += 4 * L::N;
            }
        }
        while at + 3 * L::N <= to {
            ahead(at, 3);
            self.tile::<L, R, 3>(weights, first, x, at);
            at += 3 * L::N;
        }
        while at + 2 * L::N <= to {
            ahead(at, 2);
            self.tile::<L, R, 2>(weights, first, x, at);
            at += 2 * L::N;
        }
        while at < to {
            ahead(at, 1);
            self.tile::<L, R, 1>(weights, first, x, at);
            at += L::N;
        }
    }

    #[inline(always)]
    unsafe fn tile<L: Lanes<T = T>, const R: usize, const VECTORS: usize>(
        &self,
        mut weights: *const T,
        first: usize,
        x: &Phases<T>,
        at: usize,
    ) {
        let mut start = [[L::splat(T::default()); VECTORS]; R];
        if let Some(bias) = self.bias {
            start = std::array::from_fn(|r| [L::splat(*bias.get_unchecked(first + r)); VECTORS]);
        }
        match &self.packed.form {
            Form::Each => {
                for phase in 0..2 {
                    let x = &x[phase];
                    let sums = self.products::<L, R, VECTORS>(&mut { weights }, x, at, 1, start);
                    self.finish::<L, R, VECTORS>(sums, first, phase, at);
                }
            }
            Form::Parts(parts) => {
                let mut both = start;
                for part in parts {
                    let (x, phase) = match part.reads {
                        Reads::Sum => (&x[2], None),
                        Reads::Odd => (&x[1], Some(0)),
                        Reads::Even => (&x[0], Some(1)),
                    };
                    let at_x = at.wrapping_add_signed(part.first);
                    let taps = part.taps;
                    let sums = self.products::<L, R, VECTORS>(&mut weights, x, at_x, taps, both);
                    match phase {
                        None => both = sums,
                        Some(phase) => self.finish::<L, R, VECTORS>(sums, first, phase, at),
                    }
                }
            }
            Form::Up => {
                let [even, odd, _] = x;
                let even = self.products::<L, R, VECTORS>(&mut { weights }, even, at, 1, start);
                let odd = self.products::<L, R, VECTORS>(&mut weights, odd, at, 1, start);
                self.weave::<L, R, VECTORS>(even, odd, first, at);
            }
        }
    }

    /// `sums` and the products of all inputs and `taps` taps from `at` on; moves on behind the weights it read.
    #[inline(always)]
    unsafe fn products<L: Lanes<T = T>, const R: usize, const VECTORS: usize>(
        &self,
        weights: &mut *const T,
        x: &Rows<T>,
        at: usize,
        taps: usize,
        mut sums: TileSums<L, R, VECTORS>,
    ) -> TileSums<L, R, VECTORS> {
        // `at` may be before the row, in its zeros.
        let mut row = x.at.wrapping_add(at) as *const T;
        for _ in 0..self.packed.rows() {
            for tap in 0..taps {
                let x: [L::V; VECTORS] = std::array::from_fn(|v| L::load(row.add(tap + v * L::N)));
                for r in 0..R {
                    let weight = L::splat(*weights.add(r));
                    for v in 0..VECTORS {
                        sums[r][v] = L::dot(weight, x[v], sums[r][v]);
                    }
                }
                *weights = weights.add(R);
            }
            row = row.wrapping_add(x.stride);
        }
        sums
    }

    #[inline(always)]
    unsafe fn finish<L: Lanes<T = T>, const R: usize, const VECTORS: usize>(
        &self,
        sums: TileSums<L, R, VECTORS>,
        first: usize,
        phase: usize,
        at: usize,
    ) {
        let rows = self.y.phase(phase);
        for r in 0..R {
            let to = rows.row(first + r).add(at);
            for v in 0..VECTORS {
                let mut y = sums[r][v];
                match self.finish {
                    Finish::Store => {}
                    Finish::Add => y = L::add(y, L::load(to.add(v * L::N))),
                    Finish::Relu => y = L::max(y, L::splat(T::default())),
                }
                if let Some(norm) = &self.norm {
                    let (scale, shift) = norm.splat::<L>(first + r);
                    y = L::fma(y, scale, shift);
                }
                L::store(to.add(v * L::N), y);
            }
        }
    }

    /// Stores what even and odd places of the input became as neighbours of one phase of the result.
    #[inline(always)]
    unsafe fn weave<L: Lanes<T = T>, const R: usize, const VECTORS: usize>(
        &self,
        even: TileSums<L, R, VECTORS>,
        odd: TileSums<L, R, VECTORS>,
        first: usize,
        at: usize,
    ) {
        let channels = self.packed.outputs / 2;
        let zero = L::splat(T::default());
        for r in 0..R {
            let (phase, channel) = ((first + r) / channels, (first + r) % channels);
            let to = self.y.row(2 * channel + phase);
            for v in 0..VECTORS {
                let (p, q) = match self.finish {
                    Finish::Relu => (L::max(even[r][v], zero), L::max(odd[r][v], zero)),
                    Finish::Store => (even[r][v], odd[r][v]),
                    Finish::Add => {
                        unreachable!("a transposed convolution is the only writer of its output")
                    }
                };
                let (p, q) = L::interleave(p, q);
                let at = 2 * (at + v * L::N);
                // The input's row may be padded by more than half of the output's.
                if at < self.y.padded {
                    L::store(to.add(at), p);
                }
                if at + L::N < self.y.padded {
                    L::store(to.add(at + L::N), q);
                }
            }
        }
    }
}
