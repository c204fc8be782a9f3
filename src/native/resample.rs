//! Layers that change the length: maximum of pairs, and the way back of a transposed convolution.

use super::{
    conv::Rows,
    lanes::{Element, Kernel, Lanes},
    norm::STRETCH,
};

/// y[l] = max(x[2 l], x[2 l + 1])
pub struct Pool<T> {
    pub x: Rows<T>,
    pub y: Rows<T>,
}

impl<T: Element> Kernel for Pool<T> {
    type T = T;
    type Output = ();

    #[inline(always)]
    unsafe fn run<L: Lanes<T = T>>(self) {
        for row in (0..self.x.rows).step_by(2) {
            let (even, odd) = (self.x.row(row), self.x.row(row + 1));
            let y = [self.y.row(row), self.y.row(row + 1)];
            for at in (0..self.y.padded).step_by(L::N) {
                let larger: [L::V; 2] = std::array::from_fn(|v| {
                    let at = 2 * at + v * L::N;
                    L::max(L::load(even.add(at)), L::load(odd.add(at)))
                });
                let (p, q) = L::even_odd(larger[0], larger[1]);
                L::store(y[0].add(at), p);
                L::store(y[1].add(at), q);
            }
        }
    }
}

/// The gradient of each pair's maximum goes to the larger of the two, the first if they are equal.
pub struct PoolBackward<T> {
    pub x: Rows<T>,
    /// Of y.
    pub g: Rows<T>,
    pub dx: Rows<T>,
    /// To what is in dx already.
    pub add: bool,
}

impl<T: Element> Kernel for PoolBackward<T> {
    type T = T;
    type Output = ();

    #[inline(always)]
    unsafe fn run<L: Lanes<T = T>>(self) {
        for row in (0..self.x.rows).step_by(2) {
            let (x, to) = (self.x.row(row), self.dx.row(row));
            for at in (0..self.g.padded).step_by(L::N) {
                let (even, odd) = (self.g.row(row).add(at), self.g.row(row + 1).add(at));
                let (p, q) = L::interleave(L::load(even), L::load(odd));
                for (gradient, at) in [(p, 2 * at), (q, 2 * at + L::N)] {
                    // The output's row may be padded by more than half of the input's.
                    if at >= self.x.padded {
                        continue;
                    }
                    let (even, odd) = (L::load(x.add(at)), L::load(x.add(self.x.stride + at)));
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
