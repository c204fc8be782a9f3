//! Batch norm row by row: moments, normalisation, and the way back through norm and ReLU.
//!
//! Sums leave single precision every `STRETCH` vectors, and moments are taken around a value of the row itself:
//! E[x^2] - E[x]^2 in single precision loses the variance of a row whose mean is large.

use super::{
    conv::Rows,
    lanes::{Element, Kernel, Lanes},
};

/// Vectors summed in the precision of the weights before their sum goes on in double.
const STRETCH: usize = 64;

/// Mean and sum of squared deviations of the first `length` elements of each row.
pub struct Moments<'a, T> {
    pub x: Rows<T>,
    pub length: usize,
    pub of_rows: &'a mut [(f64, f64)],
}

impl<T: Element> Kernel for Moments<'_, T> {
    type T = T;
    type Output = ();

    #[inline(always)]
    unsafe fn run<L: Lanes<T = T>>(self) {
        let whole = self.length / L::N * L::N;
        for row in 0..self.x.rows {
            let x = self.x.row(row) as *const T;
            let near = (0..self.length.min(L::N))
                .map(|l| (*x.add(l)).wide())
                .sum::<f64>();
            let near = T::of(near / self.length.min(L::N) as f64);
            let (mut sum, mut squares) = (0.0, 0.0);
            let mut from = 0;
            while from < whole {
                let to = (from + STRETCH * L::N).min(whole);
                let (center, zero) = (L::splat(near), L::splat(T::default()));
                let (mut sums, mut squared) = ([zero; 2], [zero; 2]);
                for (turn, at) in (from..to).step_by(L::N).enumerate() {
                    let off = L::sub(L::load(x.add(at)), center);
                    sums[turn % 2] = L::add(sums[turn % 2], off);
                    squared[turn % 2] = L::fma(off, off, squared[turn % 2]);
                }
                sum += L::sum(L::add(sums[0], sums[1])).wide();
                squares += L::sum(L::add(squared[0], squared[1])).wide();
                from = to;
            }
            for at in whole..self.length {
                let off = (*x.add(at)).wide() - near.wide();
                sum += off;
                squares += off * off;
            }
            let length = self.length as f64;
            *self.of_rows.get_unchecked_mut(row) =
                (near.wide() + sum / length, squares - sum * sum / length);
        }
    }
}

/// A batch norm as y = x scale + shift, a row each.
pub struct ScaleShift<T> {
    pub scale: Vec<T>,
    pub shift: Vec<T>,
}

pub struct Affine<'a, T> {
    pub x: Rows<T>,
    pub y: Rows<T>,
    pub norm: &'a ScaleShift<T>,
}

impl<T: Element> Kernel for Affine<'_, T> {
    type T = T;
    type Output = ();

    #[inline(always)]
    unsafe fn run<L: Lanes<T = T>>(self) {
        for row in 0..self.x.rows {
            let (x, y) = (self.x.row(row), self.y.row(row));
            let scale = L::splat(*self.norm.scale.get_unchecked(row));
            let shift = L::splat(*self.norm.shift.get_unchecked(row));
            for at in (0..self.x.padded).step_by(L::N) {
                L::store(y.add(at), L::fma(L::load(x.add(at)), scale, shift));
            }
        }
    }
}

/// Adds the sums of g and of g (x - mean) of each row.
pub struct NormSums<'a, T> {
    pub g: Rows<T>,
    pub x: Rows<T>,
    pub mean: &'a [T],
    pub sums: &'a mut [(f64, f64)],
}

impl<T: Element> Kernel for NormSums<'_, T> {
    type T = T;
    type Output = ();

    #[inline(always)]
    unsafe fn run<L: Lanes<T = T>>(self) {
        for row in 0..self.g.rows {
            let (g, x) = (self.g.row(row), self.x.row(row));
            let mean = L::splat(*self.mean.get_unchecked(row));
            let to = self.sums.get_unchecked_mut(row);
            let mut from = 0;
            while from < self.g.padded {
                let end = (from + STRETCH * L::N).min(self.g.padded);
                let zero = L::splat(T::default());
                let (mut sums, mut along) = ([zero; 2], [zero; 2]);
                for (turn, at) in (from..end).step_by(L::N).enumerate() {
                    let gradient = L::load(g.add(at));
                    let off = L::sub(L::load(x.add(at)), mean);
                    sums[turn % 2] = L::add(sums[turn % 2], gradient);
                    along[turn % 2] = L::fma(gradient, off, along[turn % 2]);
                }
                to.0 += L::sum(L::add(sums[0], sums[1])).wide();
                to.1 += L::sum(L::add(along[0], along[1])).wide();
                from = end;
            }
        }
    }
}

/// What batch norm does to the gradient of a row: g -> scale (g - mean_g - (x - mean) slope).
pub struct ThroughNorm<'a, T> {
    pub mean: &'a [T],
    pub scale: &'a [T],
    pub mean_g: &'a [T],
    pub slope: &'a [T],
}

/// In place, the gradient g of an output x of ReLU or of nothing, behind which batch norm may stand, becomes that of
/// the sum that went into ReLU; adds the sum of each row, which is the gradient of the bias.
pub struct Backward<'a, T> {
    pub g: Rows<T>,
    pub x: Rows<T>,
    pub norm: Option<ThroughNorm<'a, T>>,
    pub relu: bool,
    pub sums: &'a mut [T],
}

impl<T: Element> Kernel for Backward<'_, T> {
    type T = T;
    type Output = ();

    #[inline(always)]
    unsafe fn run<L: Lanes<T = T>>(self) {
        let Self {
            g,
            x,
            norm,
            relu,
            sums,
        } = self;
        let zero = L::splat(T::default());
        let through_relu = |x, g| if relu { L::where_gt(x, zero, g) } else { g };
        let Some(norm) = norm else {
            return change_rows::<L>(g, x, sums, |_, x, g| through_relu(x, g));
        };
        let of = |values: &[T], row: usize| L::splat(*values.get_unchecked(row));
        change_rows::<L>(g, x, sums, |row, x, g| {
            let off = L::sub(x, of(norm.mean, row));
            let g = L::sub(g, of(norm.mean_g, row));
            let g = L::sub(g, L::mul(off, of(norm.slope, row)));
            through_relu(x, L::mul(g, of(norm.scale, row)))
        });
    }
}

/// `change(row, x, g)` of every vector of g, in place; adds the sum of each row.
#[inline(always)]
unsafe fn change_rows<L: Lanes>(
    g: Rows<L::T>,
    x: Rows<L::T>,
    sums: &mut [L::T],
    change: impl Fn(usize, L::V, L::V) -> L::V,
) {
    for row in 0..g.rows {
        let (to, x) = (g.row(row), x.row(row));
        let (mut from, mut all) = (0, 0.0);
        while from < g.padded {
            let end = (from + STRETCH * L::N).min(g.padded);
            let mut sum = L::splat(L::T::default());
            for at in (from..end).step_by(L::N) {
                let changed = change(row, L::load(x.add(at)), L::load(to.add(at)));
                sum = L::add(sum, changed);
                L::store(to.add(at), changed);
            }
            all += L::sum(sum).wide();
            from = end;
        }
        let sum = sums.get_unchecked_mut(row);
        *sum = L::T::of(sum.wide() + all);
    }
}
