//! Double precision in plain code, for proofs.

use super::{Kernel, Lanes};

#[derive(Clone, Copy, Debug)]
pub struct Double;

// SAFETY: plain code runs on every CPU.
unsafe impl Lanes for Double {
    type T = f64;
    type V = [f64; 8];
    type Bf16 = Self;
    const N: usize = 8;
    const REGISTERS: usize = 16;
    const ROWS: usize = 4;
    const TAPS: usize = 4;

    unsafe fn run<K: Kernel<T = f64>>(kernel: K) -> K::Output {
        kernel.run::<Self>()
    }
    #[inline(always)]
    unsafe fn load(from: *const f64) -> [f64; 8] {
        from.cast::<[f64; 8]>().read_unaligned()
    }
    #[inline(always)]
    unsafe fn store(to: *mut f64, v: [f64; 8]) {
        to.cast::<[f64; 8]>().write_unaligned(v)
    }
    #[inline(always)]
    unsafe fn splat(x: f64) -> [f64; 8] {
        [x; 8]
    }
    #[inline(always)]
    unsafe fn add(a: [f64; 8], b: [f64; 8]) -> [f64; 8] {
        std::array::from_fn(|i| a[i] + b[i])
    }
    #[inline(always)]
    unsafe fn sub(a: [f64; 8], b: [f64; 8]) -> [f64; 8] {
        std::array::from_fn(|i| a[i] - b[i])
    }
    #[inline(always)]
    unsafe fn mul(a: [f64; 8], b: [f64; 8]) -> [f64; 8] {
        std::array::from_fn(|i| a[i] * b[i])
    }
    #[inline(always)]
    unsafe fn fma(a: [f64; 8], b: [f64; 8], c: [f64; 8]) -> [f64; 8] {
        std::array::from_fn(|i| a[i] * b[i] + c[i])
    }
    #[inline(always)]
    unsafe fn max(a: [f64; 8], b: [f64; 8]) -> [f64; 8] {
        std::array::from_fn(|i| {
            if a[i] > b[i] || a[i].is_nan() {
                a[i]
            } else {
                b[i]
            }
        })
    }
    #[inline(always)]
    unsafe fn where_gt(a: [f64; 8], b: [f64; 8], v: [f64; 8]) -> [f64; 8] {
        std::array::from_fn(|i| if a[i] > b[i] { v[i] } else { 0.0 })
    }
    #[inline(always)]
    unsafe fn where_le(a: [f64; 8], b: [f64; 8], v: [f64; 8]) -> [f64; 8] {
        std::array::from_fn(|i| if a[i] > b[i] { 0.0 } else { v[i] })
    }
    #[inline(always)]
    unsafe fn sum(v: [f64; 8]) -> f64 {
        v.iter().sum()
    }
    #[inline(always)]
    unsafe fn sums(from: *const f64) -> [f64; 8] {
        std::array::from_fn(|i| Self::sum(Self::load(from.add(8 * i))))
    }
    #[inline(always)]
    unsafe fn shifted<const S: i32>(_: [f64; 8], _: [f64; 8], at: *const f64) -> [f64; 8] {
        Self::load(at.add(S as usize))
    }
    #[inline(always)]
    unsafe fn interleave(a: [f64; 8], b: [f64; 8]) -> ([f64; 8], [f64; 8]) {
        let both = |i: usize| {
            if i.is_multiple_of(2) {
                a[i / 2]
            } else {
                b[i / 2]
            }
        };
        (
            std::array::from_fn(both),
            std::array::from_fn(|i| both(i + 8)),
        )
    }
    #[inline(always)]
    unsafe fn even_odd(p: [f64; 8], q: [f64; 8]) -> ([f64; 8], [f64; 8]) {
        let both = |i: usize| if i < 8 { p[i] } else { q[i - 8] };
        (
            std::array::from_fn(|i| both(2 * i)),
            std::array::from_fn(|i| both(2 * i + 1)),
        )
    }
}
