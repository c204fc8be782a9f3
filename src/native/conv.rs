//! Convolution over rows: forward, and backward to the input, which is the same with turned weights.
//!
//! Vectors run along the sequence and weights are broadcast, so an odd number of channels costs nothing. A tile keeps
//! up to 8 output rows x 3 vectors in registers while all inputs and taps stream through it.

use super::{
    lanes::{Element, Kernel, Lanes},
    norm::ScaleShift,
};

/// Zeros on both sides of every row: a kernel may reach so far over its ends.
pub const HALO: usize = 16;
/// Bytes of input rows that a block of the sequence may have, to stay in the first cache beside the weights.
const BLOCK_BYTES: usize = 20_000;

/// What is done with a sum of products.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Finish {
    Store,
    /// Added to what is there.
    Add,
    Relu,
}

/// Rows of one sample: `rows` of them, `stride` apart; the pointer is at the first element of the first.
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
        self.at.add(row * self.stride)
    }
}

/// y[o][l] = bias[o] + sum over i, t of weight[o][i][t] x[i][l + t - taps/2], and its finish.
pub struct Conv<'a, T> {
    pub x: Rows<T>,
    pub y: Rows<T>,
    pub packed: &'a Packed<T>,
    pub bias: Option<&'a [T]>,
    pub finish: Finish,
    /// The norm that comes after the finish, where it is known already.
    pub norm: Option<&'a ScaleShift<T>>,
}

/// Weights in the order in which tiles read them: blocks of outputs, and in each [input][tap][output].
#[derive(Clone, Debug)]
pub struct Packed<T> {
    pub weights: Vec<T>,
    pub taps: usize,
    inputs: usize,
    outputs: usize,
    /// Outputs of each block.
    blocks: Vec<usize>,
}

impl<T: Element> Packed<T> {
    pub fn new(outputs: usize, inputs: usize, taps: usize, most: usize) -> Self {
        let blocks = shares(outputs, most);
        Self {
            weights: vec![T::default(); outputs * inputs * taps],
            taps,
            inputs,
            outputs,
            blocks,
        }
    }

    /// `weight(output, input, tap)`
    pub fn fill(&mut self, weight: impl Fn(usize, usize, usize) -> T) {
        let (mut place, mut first) = (0, 0);
        for &block in &self.blocks {
            for input in 0..self.inputs {
                for tap in 0..self.taps {
                    for output in first..first + block {
                        self.weights[place] = weight(output, input, tap);
                        place += 1;
                    }
                }
            }
            first += block;
        }
    }
}

/// `all` in the fewest nearly equal parts of at most `most`.
pub fn shares(all: usize, most: usize) -> Vec<usize> {
    let parts = all.div_ceil(most).max(1);
    (0..parts)
        .map(|part| all / parts + usize::from(part < all % parts))
        .collect()
}

impl<T: Element> Kernel for Conv<'_, T> {
    type T = T;
    type Output = ();

    #[inline(always)]
    unsafe fn run<L: Lanes<T = T>>(self) {
        let Packed { taps, inputs, .. } = *self.packed;
        debug_assert!(self.x.rows == inputs && self.y.rows == self.packed.outputs);
        debug_assert!(taps / 2 <= HALO && self.x.padded == self.y.padded);
        let positions = BLOCK_BYTES / (inputs * size_of::<T>());
        let positions = (positions / 48 * 48).max(48);
        let (mut from, all) = (0, self.x.padded);
        while from < all {
            let to = (from + positions).min(all);
            let (mut weights, mut first) = (self.packed.weights.as_ptr(), 0);
            for &block in &self.packed.blocks {
                match block {
                    1 => self.block::<L, 1>(weights, first, from, to),
                    2 => self.block::<L, 2>(weights, first, from, to),
                    3 => self.block::<L, 3>(weights, first, from, to),
                    4 => self.block::<L, 4>(weights, first, from, to),
                    5 if L::ROWS > 4 => self.block::<L, 5>(weights, first, from, to),
                    6 if L::ROWS > 4 => self.block::<L, 6>(weights, first, from, to),
                    7 if L::ROWS > 4 => self.block::<L, 7>(weights, first, from, to),
                    8 if L::ROWS > 4 => self.block::<L, 8>(weights, first, from, to),
                    _ => unreachable!("blocks have at most ROWS outputs"),
                }
                weights = weights.add(inputs * taps * block);
                first += block;
            }
            from = to;
        }
    }
}

impl<T: Element> Conv<'_, T> {
    /// A block of `R` outputs from `first`, over a block of the sequence.
    #[inline(always)]
    unsafe fn block<L: Lanes<T = T>, const R: usize>(
        &self,
        weights: *const T,
        first: usize,
        from: usize,
        to: usize,
    ) {
        let mut at = from;
        // Sums, inputs and a weight are in registers.
        if R * 4 + 4 < L::REGISTERS {
            while at + 4 * L::N <= to {
                self.tile::<L, R, 4>(weights, first, at);
                at += 4 * L::N;
            }
        }
        while at + 3 * L::N <= to {
            self.tile::<L, R, 3>(weights, first, at);
            at += 3 * L::N;
        }
        while at + 2 * L::N <= to {
            self.tile::<L, R, 2>(weights, first, at);
            at += 2 * L::N;
        }
        while at < to {
            self.tile::<L, R, 1>(weights, first, at);
            at += L::N;
        }
    }

    #[inline(always)]
    unsafe fn tile<L: Lanes<T = T>, const R: usize, const VECTORS: usize>(
        &self,
        mut weights: *const T,
        first: usize,
        at: usize,
    ) {
        let zero = L::splat(T::default());
        let mut sums = [[zero; VECTORS]; R];
        for r in 0..R {
            let start = self
                .bias
                .map_or(zero, |bias| L::splat(*bias.get_unchecked(first + r)));
            for v in 0..VECTORS {
                sums[r][v] = match self.finish {
                    Finish::Add => L::load(self.y.row(first + r).add(at + v * L::N)),
                    _ => start,
                };
            }
        }
        let taps = self.packed.taps;
        let mut row = self.x.at.add(at).sub(taps / 2) as *const T;
        for _ in 0..self.packed.inputs {
            for tap in 0..taps {
                let x: [L::V; VECTORS] = std::array::from_fn(|v| L::load(row.add(tap + v * L::N)));
                for r in 0..R {
                    let weight = L::splat(*weights.add(r));
                    for v in 0..VECTORS {
                        sums[r][v] = L::fma(weight, x[v], sums[r][v]);
                    }
                }
                weights = weights.add(R);
            }
            row = row.add(self.x.stride);
        }
        for r in 0..R {
            let to = self.y.row(first + r).add(at);
            for v in 0..VECTORS {
                let mut y = sums[r][v];
                if self.finish == Finish::Relu {
                    y = L::max(y, zero);
                }
                if let Some(ScaleShift { scale, shift }) = self.norm {
                    let scale = scale.get_unchecked(first + r);
                    let shift = shift.get_unchecked(first + r);
                    y = L::fma(y, L::splat(*scale), L::splat(*shift));
                }
                L::store(to.add(v * L::N), y);
            }
        }
    }
}
