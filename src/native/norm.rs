//! Batch norm row by row: moments, and the way back through norm and ReLU.
//!
//! Sums leave single precision every `STRETCH` vectors, and moments are taken around the mean of the first
//! values of a block:
//! E[x^2] - E[x]^2 in single precision loses the variance of a row whose mean is large.

use super::{
    conv::Rows,
    lanes::{Element, Kernel, Lanes},
    phases::phase_length,
};

/// Vectors summed in the precision of the weights before their sum goes on in double.
pub const STRETCH: usize = 64;

/// Sums of the places of a channel.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sums {
    pub x: f64,
    /// Of squares, in double, where mean^2 can be taken off again without loss.
    pub squares: f64,
}

/// Adds the sums of the places `from` to `to` of each phase, of the first `length` places of each channel.
pub struct Moments<'a, T> {
    pub x: Rows<T>,
    pub length: usize,
    pub from: usize,
    pub to: usize,
    pub of_channels: &'a mut [Sums],
}

impl<T: Element> Kernel for Moments<'_, T> {
    type T = T;
    type Output = ();

    #[inline(always)]
    unsafe fn run<L: Lanes<T = T>>(self) {
        let lengths = [0, 1]
            .map(|phase| phase_length(self.length, phase).clamp(self.from, self.to) - self.from);
        // The odd places are as many as the even ones or one fewer.
        let whole = lengths[1] / L::N * L::N;
        for channel in 0..self.x.rows / 2 {
            let even = self.x.row(2 * channel).add(self.from) as *const T;
            let odd = self.x.row(2 * channel + 1).add(self.from) as *const T;
            // Behind the end there are zeros at worst.
            let near = L::sum(L::load(even)).wide() / L::N as f64;
            let near = T::of(near);
            let (mut sum, mut squares) = (0.0, 0.0);
            let mut from = 0;
            while from < whole {
                let to = (from + STRETCH * L::N).min(whole);
                let (center, zero) = (L::splat(near), L::splat(T::default()));
                let (mut sums, mut squared) = ([zero; 2], [zero; 2]);
                for at in (from..to).step_by(L::N) {
                    let off = [
                        L::sub(L::load(even.add(at)), center),
                        L::sub(L::load(odd.add(at)), center),
                    ];
                    for phase in 0..2 {
                        sums[phase] = L::add(sums[phase], off[phase]);
                        squared[phase] = L::fma(off[phase], off[phase], squared[phase]);
                    }
                }
                sum += L::sum(L::add(sums[0], sums[1])).wide();
                squares += L::sum(L::add(squared[0], squared[1])).wide();
                from = to;
            }
            for (row, length) in [even, odd].into_iter().zip(lengths) {
                for at in whole..length {
                    let off = (*row.add(at)).wide() - near.wide();
                    sum += off;
                    squares += off * off;
                }
            }
            // Back from around `near`: sum (near + off) and sum (near + off)^2.
            let (near, number) = (near.wide(), (lengths[0] + lengths[1]) as f64);
            let to = self.of_channels.get_unchecked_mut(channel);
            to.x += near * number + sum;
            to.squares += near * near * number + 2.0 * near * sum + squares;
        }
    }
}

/// Adds the sums of g and of g (x - mean) of each channel.
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
    unsafe fn run<L: Lanes<T = T>>(mut self) {
        self.block::<L>(0, self.g.padded);
    }
}

impl<T: Element> NormSums<'_, T> {
    #[inline(always)]
    pub unsafe fn block<L: Lanes<T = T>>(&mut self, from: usize, to: usize) {
        let (first, last) = (from, to);
        for row in 0..self.g.rows {
            let (g, x) = (self.g.row(row), self.x.row(row));
            let mean = L::splat(*self.mean.get_unchecked(row / 2));
            let to = self.sums.get_unchecked_mut(row / 2);
            let mut from = first;
            while from < last {
                let end = (from + STRETCH * L::N).min(last);
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

/// What batch norm does to the gradient of a channel: g -> scale (g - mean_g - (x - mean) slope).
pub struct ThroughNorm<'a, T> {
    pub mean: &'a [T],
    pub scale: &'a [T],
    pub mean_g: &'a [T],
    pub slope: &'a [T],
}

/// In place, the gradient g of an output x of ReLU or of nothing, behind which batch norm may stand, becomes that of
/// the sum that went into ReLU; adds the sum of each channel, which is the gradient of the bias.
pub struct Backward<'a, T> {
    pub g: Rows<T>,
    pub x: Rows<T>,
    /// Places of a channel: behind them g becomes 0.
    pub length: usize,
    pub norm: Option<ThroughNorm<'a, T>>,
    pub relu: bool,
    pub sums: &'a mut [T],
}

impl<T: Element> Kernel for Backward<'_, T> {
    type T = T;
    type Output = ();

    #[inline(always)]
    unsafe fn run<L: Lanes<T = T>>(mut self) {
        let zero = L::splat(T::default());
        let relu = self.relu;
        let through_relu = |x, g| if relu { L::where_gt(x, zero, g) } else { g };
        let Some(norm) = self.norm.take() else {
            return self.change_rows::<L>(|_, x, g| through_relu(x, g));
        };
        let of = |values: &[T], channel: usize| L::splat(*values.get_unchecked(channel));
        self.change_rows::<L>(|channel, x, g| {
            let off = L::sub(x, of(norm.mean, channel));
            let g = L::sub(g, of(norm.mean_g, channel));
            let g = L::sub(g, L::mul(off, of(norm.slope, channel)));
            through_relu(x, L::mul(g, of(norm.scale, channel)))
        });
    }
}

impl<T: Element> Backward<'_, T> {
    /// `change(channel, x, g)` of every vector of g, in place.
    #[inline(always)]
    unsafe fn change_rows<L: Lanes<T = T>>(&mut self, change: impl Fn(usize, L::V, L::V) -> L::V) {
        let zero = T::default();
        for channel in 0..self.g.rows / 2 {
            let rows = [0, 1].map(|phase| {
                let row = 2 * channel + phase;
                (self.g.row(row), self.x.row(row))
            });
            let (mut from, mut all) = (0, 0.0);
            while from < self.g.padded {
                let end = (from + STRETCH * L::N).min(self.g.padded);
                let mut sum = L::splat(zero);
                for at in (from..end).step_by(L::N) {
                    let mut changed = L::splat(zero);
                    // One call: the compiler would not inline two.
                    for (g, x) in rows {
                        let new = change(channel, L::load(x.add(at)), L::load(g.add(at)));
                        L::store(g.add(at), new);
                        changed = L::add(changed, new);
                    }
                    sum = L::add(sum, changed);
                }
                all += L::sum(sum).wide();
                from = end;
            }
            for (phase, (g, _)) in rows.iter().enumerate() {
                for at in phase_length(self.length, phase)..self.g.padded {
                    all -= (*g.add(at)).wide();
                    g.add(at).write(zero);
                }
            }
            let sum = self.sums.get_unchecked_mut(channel);
            *sum = T::of((*sum).wide() + all);
        }
    }
}
