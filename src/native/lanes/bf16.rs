//! Products of bf16 numbers summed in f32, two at a time: for convolutions and for the gradients of their weights. All
//! else, and everything that is kept, stays f32.

use std::{arch::x86_64::*, mem::transmute};

use super::{Avx512, Kernel, Lanes};

/// AVX-512 whose convolutions multiply pairs of bf16.
#[derive(Clone, Copy, Debug)]
pub struct Avx512Bf16;

macro_rules! as_avx512 {
    ($($name:ident($($of:ident: $kind:ty),*) $(-> $to:ty)?;)*) => {
        $(#[inline(always)]
        unsafe fn $name($($of: $kind),*) $(-> $to)? {
            Avx512::$name($($of),*)
        })*
    };
}

// SAFETY: as Avx512, and `Native::in_bf16` asks for avx512bf16.
unsafe impl Lanes for Avx512Bf16 {
    type T = f32;
    type V = __m512;
    type Bf16 = Self;
    const N: usize = Avx512::N;
    const REGISTERS: usize = Avx512::REGISTERS;
    const ROWS: usize = Avx512::ROWS;
    const TAPS: usize = Avx512::TAPS;
    const PAIRS: bool = true;

    #[inline(never)]
    #[target_feature(enable = "avx512f,avx512vl,avx512dq,avx512bw,avx512bf16,avx2,fma")]
    unsafe fn run<K: Kernel<T = f32>>(kernel: K) -> K::Output {
        kernel.run::<Self>()
    }

    as_avx512! {
        load(from: *const f32) -> __m512;
        store(to: *mut f32, v: __m512);
        splat(x: f32) -> __m512;
        add(a: __m512, b: __m512) -> __m512;
        sub(a: __m512, b: __m512) -> __m512;
        mul(a: __m512, b: __m512) -> __m512;
        fma(a: __m512, b: __m512, c: __m512) -> __m512;
        max(a: __m512, b: __m512) -> __m512;
        where_gt(a: __m512, b: __m512, v: __m512) -> __m512;
        where_le(a: __m512, b: __m512, v: __m512) -> __m512;
        sum(v: __m512) -> f32;
        sums(from: *const f32) -> __m512;
        interleave(a: __m512, b: __m512) -> (__m512, __m512);
        even_odd(p: __m512, q: __m512) -> (__m512, __m512);
    }

    #[inline(always)]
    unsafe fn shifted<const S: i32>(p: __m512, q: __m512, at: *const f32) -> __m512 {
        Avx512::shifted::<S>(p, q, at)
    }
    #[inline(always)]
    unsafe fn pair(a: __m512, b: __m512) -> __m512 {
        words(a, b)
    }
    #[inline(always)]
    unsafe fn dot(a: __m512, b: __m512, c: __m512) -> __m512 {
        products(a, b, c)
    }
}

/// a0 b0 a1 b1 ..., rounded to the nearest bf16.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
fn words(a: __m512, b: __m512) -> __m512 {
    #[rustfmt::skip]
    let order = _mm512_setr_epi32(
        0x10_0000, 0x11_0001, 0x12_0002, 0x13_0003, 0x14_0004, 0x15_0005, 0x16_0006, 0x17_0007,
        0x18_0008, 0x19_0009, 0x1a_000a, 0x1b_000b, 0x1c_000c, 0x1d_000d, 0x1e_000e, 0x1f_000f,
    );
    // SAFETY: both are 64 bytes of plain numbers.
    let rounded = unsafe { transmute::<__m512bh, __m512i>(_mm512_cvtne2ps_pbh(b, a)) };
    _mm512_castsi512_ps(_mm512_permutexvar_epi16(order, rounded))
}

/// c and both products of each pair.
#[inline]
#[target_feature(enable = "avx512f,avx512bf16")]
fn products(a: __m512, b: __m512, c: __m512) -> __m512 {
    // SAFETY: both are 64 bytes of plain numbers.
    let a = unsafe { transmute::<__m512, __m512bh>(a) };
    // SAFETY: as above.
    let b = unsafe { transmute::<__m512, __m512bh>(b) };
    _mm512_dpbf16_ps(c, a, b)
}
