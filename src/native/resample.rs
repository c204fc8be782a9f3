//! Layers that change the length: maximum of pairs, and the two phases of a transposed convolution.

use super::{
    conv::Rows,
    lanes::{Element, Kernel, Lanes},
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
        for row in 0..self.x.rows {
            let (x, y) = (self.x.row(row), self.y.row(row));
            for at in (0..self.y.padded).step_by(L::N) {
                let (p, q) = (L::load(x.add(2 * at)), L::load(x.add(2 * at + L::N)));
                let (even, odd) = L::even_odd(p, q);
                L::store(y.add(at), L::max(even, odd));
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
        for row in 0..self.x.rows {
            let (x, g, dx) = (self.x.row(row), self.g.row(row), self.dx.row(row));
            for at in (0..self.g.padded).step_by(L::N) {
                let (p, q) = (L::load(x.add(2 * at)), L::load(x.add(2 * at + L::N)));
                let (even, odd) = L::even_odd(p, q);
                let gradient = L::load(g.add(at));
                let first = L::where_le(odd, even, gradient);
                let second = L::where_gt(odd, even, gradient);
                let (mut p, mut q) = L::interleave(first, second);
                let to = dx.add(2 * at);
                if self.add {
                    p = L::add(p, L::load(to));
                    q = L::add(q, L::load(to.add(L::N)));
                }
                L::store(to, p);
                L::store(to.add(L::N), q);
            }
        }
    }
}

/// Rows c and C + c of x hold the even and the odd places of row c of y.
pub struct Interleave<T> {
    pub x: Rows<T>,
    pub y: Rows<T>,
}

impl<T: Element> Kernel for Interleave<T> {
    type T = T;
    type Output = ();

    #[inline(always)]
    unsafe fn run<L: Lanes<T = T>>(self) {
        for row in 0..self.y.rows {
            let (even, odd) = (self.x.row(row), self.x.row(self.y.rows + row));
            let y = self.y.row(row);
            for at in (0..self.x.padded).step_by(L::N) {
                let (p, q) = L::interleave(L::load(even.add(at)), L::load(odd.add(at)));
                L::store(y.add(2 * at), p);
                L::store(y.add(2 * at + L::N), q);
            }
        }
    }
}

/// The way back: the gradient g of y, through the ReLU that made y, to the rows of even and odd places; adds the sum of
/// each row of g, which is the gradient of the bias.
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
            let (y, g) = (self.y.row(row), self.g.row(row));
            let (even, odd) = (self.dx.row(row), self.dx.row(self.y.rows + row));
            let mut all = 0.0;
            for at in (0..self.dx.padded).step_by(L::N) {
                let from = |place: usize| {
                    let gradient = L::load(g.add(place));
                    match self.relu {
                        true => L::where_gt(L::load(y.add(place)), zero, gradient),
                        false => gradient,
                    }
                };
                let (p, q) = (from(2 * at), from(2 * at + L::N));
                all += L::sum(L::add(p, q)).wide();
                let (p, q) = L::even_odd(p, q);
                L::store(even.add(at), p);
                L::store(odd.add(at), q);
            }
            let to = self.sums.get_unchecked_mut(row);
            *to = T::of((*to).wide() + all);
        }
    }
}
