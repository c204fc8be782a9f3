//! NEON of 64-bit ARM: 8 numbers, in two registers.

use std::arch::aarch64::*;

use super::{Kernel, Lanes};

#[derive(Clone, Copy, Debug)]
pub struct Neon;

type Two = [float32x4_t; 2];

// SAFETY: every 64-bit ARM CPU that Rust's standard library runs on has NEON.
unsafe impl Lanes for Neon {
    type T = f32;
    type V = Two;
    type Bf16 = Self;
    const N: usize = 8;
    // Of the 32, two at a time.
    const REGISTERS: usize = 16;
    const ROWS: usize = 3;
    const TAPS: usize = 4;

    #[inline(never)]
    unsafe fn run<K: Kernel<T = f32>>(kernel: K) -> K::Output {
        kernel.run::<Self>()
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> Two {
        [vld1q_f32(from), vld1q_f32(from.add(4))]
    }
    #[inline(always)]
    unsafe fn store(to: *mut f32, v: Two) {
        vst1q_f32(to, v[0]);
        vst1q_f32(to.add(4), v[1]);
    }
    #[inline(always)]
    unsafe fn splat(x: f32) -> Two {
        [vdupq_n_f32(x); 2]
    }
    #[inline(always)]
    unsafe fn add(a: Two, b: Two) -> Two {
        [vaddq_f32(a[0], b[0]), vaddq_f32(a[1], b[1])]
    }
    #[inline(always)]
    unsafe fn sub(a: Two, b: Two) -> Two {
        [vsubq_f32(a[0], b[0]), vsubq_f32(a[1], b[1])]
    }
    #[inline(always)]
    unsafe fn mul(a: Two, b: Two) -> Two {
        [vmulq_f32(a[0], b[0]), vmulq_f32(a[1], b[1])]
    }
    #[inline(always)]
    unsafe fn fma(a: Two, b: Two, c: Two) -> Two {
        [vfmaq_f32(c[0], a[0], b[0]), vfmaq_f32(c[1], a[1], b[1])]
    }
    #[inline(always)]
    unsafe fn max(a: Two, b: Two) -> Two {
        [vmaxq_f32(a[0], b[0]), vmaxq_f32(a[1], b[1])]
    }
    #[inline(always)]
    unsafe fn where_gt(a: Two, b: Two, v: Two) -> Two {
        std::array::from_fn(|i| {
            bits(vandq_u32(
                vcgtq_f32(a[i], b[i]),
                vreinterpretq_u32_f32(v[i]),
            ))
        })
    }
    #[inline(always)]
    unsafe fn where_le(a: Two, b: Two, v: Two) -> Two {
        std::array::from_fn(|i| {
            bits(vbicq_u32(
                vreinterpretq_u32_f32(v[i]),
                vcgtq_f32(a[i], b[i]),
            ))
        })
    }
    #[inline(always)]
    unsafe fn sum(v: Two) -> f32 {
        vaddvq_f32(vaddq_f32(v[0], v[1]))
    }
    #[inline(always)]
    unsafe fn sums(from: *const f32) -> Two {
        [four(from), four(from.add(32))]
    }
    #[inline(always)]
    unsafe fn shifted<const S: i32>(_: Two, _: Two, at: *const f32) -> Two {
        Self::load(at.add(S as usize))
    }
    #[inline(always)]
    unsafe fn interleave(a: Two, b: Two) -> (Two, Two) {
        let zipped = |i: usize| [vzip1q_f32(a[i], b[i]), vzip2q_f32(a[i], b[i])];
        (zipped(0), zipped(1))
    }
    #[inline(always)]
    unsafe fn even_odd(p: Two, q: Two) -> (Two, Two) {
        (
            [vuzp1q_f32(p[0], p[1]), vuzp1q_f32(q[0], q[1])],
            [vuzp2q_f32(p[0], p[1]), vuzp2q_f32(q[0], q[1])],
        )
    }
}

#[inline(always)]
unsafe fn bits(v: uint32x4_t) -> float32x4_t {
    vreinterpretq_f32_u32(v)
}

/// The sums of four vectors of eight.
#[inline(always)]
unsafe fn four(from: *const f32) -> float32x4_t {
    let half = |i: usize| vaddq_f32(vld1q_f32(from.add(8 * i)), vld1q_f32(from.add(8 * i + 4)));
    vpaddq_f32(vpaddq_f32(half(0), half(1)), vpaddq_f32(half(2), half(3)))
}
