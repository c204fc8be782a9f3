//! Layers that change the length: maximum of pairs, and the way back of a transposed convolution.

use super::{
    conv::Rows,
    input::Input,
    lanes::{Element, Kernel, Lanes},
    norm::STRETCH,
};

/// y[l] = max(x[2 l], x[2 l + 1])
pub struct Pool<'a, T> {
    pub x: Input<'a, T>,
    pub y: Rows<T>,
}

/// A vector of a channel through its norm, where it has one.
#[inline(always)]
pub unsafe fn normed<L: Lanes>(norm: Option<(L::V, L::V)>, from: *const L::T) -> L::V {
    match norm {
        Some((scale, shift)) => L::fma(L::load(from), scale, shift),
        None => L::load(from),
    }
}

impl<T: Element> Kernel for Pool<'_, T> {
    type T = T;
    type Output = ();

    #[inline(always)]
    unsafe fn run<L: Lanes<T = T>>(self) {
        for channel in 0..self.x.channels() {
            let row = 2 * channel;
            let norm = self.x.norm.as_ref().map(|norm| norm.splat::<L>(channel));
            let (even, odd) = (self.x.rows.row(row), self.x.rows.row(row + 1));
            let y = [self.y.row(row), self.y.row(row + 1)];
            for at in (0..self.y.padded).step_by(L::N) {
                let larger: [L::V; 2] = std::array::from_fn(|v| {
                    let at = 2 * at + v * L::N;
                    L::max(
                        normed::<L>(norm, even.add(at)),
                        normed::<L>(norm, odd.add(at)),
                    )
                });
                let (p, q) = L::even_odd(larger[0], larger[1]);
                L::store(y[0].add(at), p);
                L::store(y[1].add(at), q);
            }
        }
    }
}

/// The gradient of each pair's maximum goes to the larger of the two, the first if they are equal.
pub struct PoolBackward<'a, T> {
    pub x: Input<'a, T>,
    /// Of y.
    pub g: Rows<T>,
    pub dx: Rows<T>,
    /// To what is in dx already.
    pub add: bool,
}

impl<T: Element> Kernel for PoolBackward<'_, T> {
    type T = T;
    type Output = ();

    #[inline(always)]
    unsafe fn run<L: Lanes<T = T>>(self) {
        for channel in 0..self.x.channels() {
            let row = 2 * channel;
            let norm = self.x.norm.as_ref().map(|norm| norm.splat::<L>(channel));
            let (x, to) = (self.x.rows.row(row), self.dx.row(row));
            for at in (0..self.g.padded).step_by(L::N) {
                let (even, odd) = (self.g.row(row).add(at), self.g.row(row + 1).add(at));
                let (p, q) = L::interleave(L::load(even), L::load(odd));
                for (gradient, at) in [(p, 2 * at), (q, 2 * at + L::N)] {
                    // The output's row may be padded by more than half of the input's.
                    if at >= self.x.rows.padded {
                        continue;
                    }
                    let even = normed::<L>(norm, x.add(at));
                    let odd = normed::<L>(norm, x.add(self.x.rows.stride + at));
                    let mut first = L::where_le(odd, even, gradient);
                    let mut second = L::where_gt(odd, even, gradient);
                    let to = [to.add(at), to.add(self.dx.stride + at)];
                    if self.add {
                        first = L::add(first, L::load(to[0]));
                        second = L::add(second, L::load(to[1]));
                    }
                    L::store(to[0], first);
                    L::store(to[1], second);
                }
            }
        }
    }
}

/// The way back of a transposed convolution: the gradient g of y, through the ReLU that made y, to rows in which output
/// `phase * C + c` holds what that phase of channel c had; adds the sum of each channel of g, the gradient of the bias.
pub struct Split<'a, T> {
    pub y: Rows<T>,
    pub g: Rows<T>,
    pub relu: bool,
    pub dx: Rows<T>,
    pub sums: &'a mut [T],
}

impl<T: Element> Kernel for Split<'_, T> {
    type T = T;
    type Output = ();

    #[inline(always)]
    unsafe fn run<L: Lanes<T = T>>(self) {
        let zero = L::splat(T::default());
        for row in 0..self.y.rows {
            let (channel, phase) = (row / 2, row % 2);
            let (y, g) = (self.y.row(row), self.g.row(row));
            let to = 2 * (phase * self.y.rows / 2 + channel);
            let to = [self.dx.row(to), self.dx.row(to + 1)];
            let (mut all, mut sum) = (0.0, zero);
            for (turn, at) in (0..self.dx.padded).step_by(L::N).enumerate() {
                let [p, q]: [L::V; 2] = std::array::from_fn(|v| {
                    let at = 2 * at + v * L::N;
                    let gradient = L::load(g.add(at));
                    match self.relu {
                        true => L::where_gt(L::load(y.add(at)), zero, gradient),
                        false => gradient,
                    }
                });
                sum = L::add(sum, L::add(p, q));
                if (turn + 1) % STRETCH == 0 {
                    all += L::sum(sum).wide();
                    sum = zero;
                }
                let (p, q) = L::even_odd(p, q);
                L::store(to[0].add(at), p);
                L::store(to[1].add(at), q);
            }
            let to = self.sums.get_unchecked_mut(channel);
            *to = T::of((*to).wide() + all + L::sum(sum).wide());
        }
    }
}
