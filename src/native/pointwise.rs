//! Layers that treat every place alone: dropout, the sum of two, a gate. As all readers they take the norm along.

use super::{
    Native,
    arena::Place,
    conv::Rows,
    input::Input,
    lanes::{Element, Kernel, Lanes},
    program::{Kind, Stage, Write},
    resample::normed,
};
use crate::sampler::SplitMix;

/// Places that are worked on at once: what is made for them stays in registers or the first cache. Rows are padded to
/// multiples of 16.
const CHUNK: usize = 16;

impl<L: Lanes> Native<L> {
    /// The gradient that a window's output has, to the inputs; where it ends in zeros, so do theirs.
    pub(super) unsafe fn pointwise_backward(&self, stage: usize, window: usize) {
        let Stage {
            kind,
            x,
            y,
            relu,
            dx,
            second,
            ..
        } = &self.program.stages[stage];
        let g = self.gradients.rows(*y, window);
        let target = |place: Place, dx: Write| {
            let target = |add| Target {
                rows: self.gradients.rows(place, window),
                add,
            };
            (dx != Write::Nowhere).then(|| target(dx == Write::Add))
        };
        let second = || second.expect("a stage of two inputs");
        let both = || [target(*x, *dx), target(second().x, second().dx)];
        match kind {
            Kind::Dropout(share) => {
                let mask = Mask::new(self.key, stage, window, *share);
                if let Some(dx) = target(*x, *dx) {
                    L::run(DroppedBackward { g, dx, mask });
                }
            }
            Kind::Add => L::run(AddedBackward {
                y: self.values.rows(*y, window),
                g,
                relu: *relu,
                dx: both(),
            }),
            Kind::Gate => L::run(GatedBackward {
                x: self.input(*x, window),
                score: self.input(second().x, window),
                g,
                dx: both(),
            }),
            Kind::Conv { .. } | Kind::UpConv | Kind::Pool => unreachable!("not pointwise"),
        }
    }
}

/// What dropout leaves of a window: a function of the step's key, so that the way back need not be told.
#[derive(Clone, Copy, Debug)]
pub struct Mask {
    seed: u64,
    share: f64,
}

impl Mask {
    pub fn new(key: u64, stage: usize, window: usize, share: f64) -> Self {
        let seed = SplitMix::keyed(&[key, stage as u64, window as u64]).next_u64();
        Self { seed, share }
    }

    /// 0 or 1 / (1 - share) for the places of a row from `from` on.
    #[inline(always)]
    fn factors<T: Element>(&self, row: usize, from: usize) -> [T; CHUNK] {
        let seed = (self.seed ^ row as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let (first, second) = (seed as u32, (seed >> 32) as u32);
        let limit = (self.share * 2f64.powi(32)) as u32;
        let kept = T::of(1.0 / (1.0 - self.share));
        std::array::from_fn(|at| {
            // The finish of MurmurHash3 over a Weyl sequence.
            let mut bits = ((from + at) as u32).wrapping_mul(0x9E37_79B1) ^ first;
            bits = (bits ^ bits >> 16).wrapping_mul(0x85EB_CA6B) ^ second;
            bits = (bits ^ bits >> 13).wrapping_mul(0xC2B2_AE35);
            bits ^= bits >> 16;
            if bits < limit { T::default() } else { kept }
        })
    }
}

/// Where a gradient goes: to its rows, or on top of what they hold.
#[derive(Clone, Copy, Debug)]
pub struct Target<T> {
    pub rows: Rows<T>,
    pub add: bool,
}

impl<T: Element> Target<T> {
    #[inline(always)]
    unsafe fn give<L: Lanes<T = T>>(&self, row: usize, at: usize, gradient: L::V) {
        let to = self.rows.row(row).add(at);
        let all = match self.add {
            true => L::add(gradient, L::load(to)),
            false => gradient,
        };
        L::store(to, all);
    }
}

impl<T: Element> Input<'_, T> {
    #[inline(always)]
    unsafe fn vector<L: Lanes<T = T>>(&self, row: usize, at: usize) -> L::V {
        let norm = self.norm.as_ref().map(|norm| norm.splat::<L>(row / 2));
        normed::<L>(norm, self.rows.row(row).add(at))
    }
}

/// y = x times its mask, where there is one.
pub struct Dropped<'a, T> {
    pub x: Input<'a, T>,
    pub y: Rows<T>,
    pub mask: Option<Mask>,
}

impl<T: Element> Kernel for Dropped<'_, T> {
    type T = T;
    type Output = ();

    #[inline(always)]
    unsafe fn run<L: Lanes<T = T>>(self) {
        for row in 0..self.y.rows {
            for from in (0..self.y.padded).step_by(CHUNK) {
                let factors = self.mask.map(|mask| mask.factors::<T>(row, from));
                for at in (0..CHUNK).step_by(L::N) {
                    let mut x = self.x.vector::<L>(row, from + at);
                    if let Some(factors) = &factors {
                        x = L::mul(x, L::load(factors.as_ptr().add(at)));
                    }
                    L::store(self.y.row(row).add(from + at), x);
                }
            }
        }
    }
}

pub struct DroppedBackward<T> {
    pub g: Rows<T>,
    pub dx: Target<T>,
    pub mask: Mask,
}

impl<T: Element> Kernel for DroppedBackward<T> {
    type T = T;
    type Output = ();

    #[inline(always)]
    unsafe fn run<L: Lanes<T = T>>(self) {
        for row in 0..self.g.rows {
            for from in (0..self.g.padded).step_by(CHUNK) {
                let factors = self.mask.factors::<T>(row, from);
                for at in (0..CHUNK).step_by(L::N) {
                    let g = L::load(self.g.row(row).add(from + at));
                    let g = L::mul(g, L::load(factors.as_ptr().add(at)));
                    self.dx.give::<L>(row, from + at, g);
                }
            }
        }
    }
}

/// y = a + b, or its positive part.
pub struct Added<'a, T> {
    pub both: [Input<'a, T>; 2],
    pub y: Rows<T>,
    pub relu: bool,
}

impl<T: Element> Kernel for Added<'_, T> {
    type T = T;
    type Output = ();

    #[inline(always)]
    unsafe fn run<L: Lanes<T = T>>(self) {
        let zero = L::splat(T::default());
        for row in 0..self.y.rows {
            for at in (0..self.y.padded).step_by(L::N) {
                let [a, b] = [0, 1].map(|of| self.both[of].vector::<L>(row, at));
                let sum = L::add(a, b);
                let y = if self.relu { L::max(sum, zero) } else { sum };
                L::store(self.y.row(row).add(at), y);
            }
        }
    }
}

pub struct AddedBackward<T> {
    pub y: Rows<T>,
    pub g: Rows<T>,
    pub relu: bool,
    /// None of data.
    pub dx: [Option<Target<T>>; 2],
}

impl<T: Element> Kernel for AddedBackward<T> {
    type T = T;
    type Output = ();

    #[inline(always)]
    unsafe fn run<L: Lanes<T = T>>(self) {
        let zero = L::splat(T::default());
        for row in 0..self.g.rows {
            for at in (0..self.g.padded).step_by(L::N) {
                let g = L::load(self.g.row(row).add(at));
                let g = match self.relu {
                    true => L::where_gt(L::load(self.y.row(row).add(at)), zero, g),
                    false => g,
                };
                for dx in self.dx.iter().flatten() {
                    dx.give::<L>(row, at, g);
                }
            }
        }
    }
}

/// y = x sigmoid(score), whose one channel serves all of x.
pub struct Gated<'a, T> {
    pub x: Input<'a, T>,
    pub score: Input<'a, T>,
    pub y: Rows<T>,
}

#[inline(always)]
unsafe fn sigmoid<L: Lanes>(score: &Input<L::T>, phase: usize, at: usize) -> L::V {
    let mut values = [L::T::default(); CHUNK];
    L::store(values.as_mut_ptr(), score.vector::<L>(phase, at));
    for value in &mut values[..L::N] {
        *value = L::T::of(1.0 / (1.0 + (-value.wide()).exp()));
    }
    L::load(values.as_ptr())
}

impl<T: Element> Kernel for Gated<'_, T> {
    type T = T;
    type Output = ();

    #[inline(always)]
    unsafe fn run<L: Lanes<T = T>>(self) {
        for phase in 0..2 {
            for at in (0..self.y.padded).step_by(L::N) {
                let open = sigmoid::<L>(&self.score, phase, at);
                for row in (phase..self.y.rows).step_by(2) {
                    let y = L::mul(open, self.x.vector::<L>(row, at));
                    L::store(self.y.row(row).add(at), y);
                }
            }
        }
    }
}

pub struct GatedBackward<'a, T> {
    pub x: Input<'a, T>,
    pub score: Input<'a, T>,
    pub g: Rows<T>,
    /// Of x and of the score; none of data.
    pub dx: [Option<Target<T>>; 2],
}

impl<T: Element> Kernel for GatedBackward<'_, T> {
    type T = T;
    type Output = ();

    #[inline(always)]
    unsafe fn run<L: Lanes<T = T>>(self) {
        let one = L::splat(T::of(1.0));
        for phase in 0..2 {
            for at in (0..self.g.padded).step_by(L::N) {
                let open = sigmoid::<L>(&self.score, phase, at);
                let mut along = L::splat(T::default());
                for row in (phase..self.g.rows).step_by(2) {
                    let g = L::load(self.g.row(row).add(at));
                    along = L::fma(g, self.x.vector::<L>(row, at), along);
                    if let Some(dx) = &self.dx[0] {
                        dx.give::<L>(row, at, L::mul(open, g));
                    }
                }
                if let Some(dx) = &self.dx[1] {
                    let slope = L::mul(open, L::sub(one, open));
                    dx.give::<L>(phase, at, L::mul(slope, along));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mask_drops_its_share_and_keeps_the_mean() {
        let dropped = |mask: Mask, row| -> Vec<bool> {
            let chunks = (0..40_000).step_by(CHUNK);
            let all = chunks.flat_map(|from| mask.factors::<f64>(row, from));
            all.map(|factor| {
                assert!(factor == 0.0 || (factor - 1.0 / 0.85).abs() < 1e-12);
                factor == 0.0
            })
            .collect()
        };
        let mask = |key, stage, window| Mask::new(key, stage, window, 0.15);
        let first = dropped(mask(1, 0, 0), 0);
        let share = |of: &[bool]| of.iter().filter(|&&dropped| dropped).count() as f64 / 40_000.0;
        // Five deviations of a share of so many.
        assert!((share(&first) - 0.15).abs() < 0.009, "{}", share(&first));
        assert_eq!(first, dropped(mask(1, 0, 0), 0));
        for other in [
            dropped(mask(2, 0, 0), 0),
            dropped(mask(1, 1, 0), 0),
            dropped(mask(1, 0, 1), 0),
            dropped(mask(1, 0, 0), 1),
        ] {
            let both: Vec<bool> = first.iter().zip(&other).map(|(a, b)| a & b).collect();
            assert!(
                (share(&both) - 0.15 * 0.15).abs() < 0.004,
                "{}",
                share(&both)
            );
        }
    }
}
