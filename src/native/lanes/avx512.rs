//! AVX-512: 16 numbers.

use std::arch::{asm, x86_64::*};

use super::{Avx512Bf16, Kernel, Lanes};

#[derive(Clone, Copy, Debug)]
pub struct Avx512;

// SAFETY: a `Program` is only made of Avx512 where the CPU has avx512f, vl, dq and bw.
unsafe impl Lanes for Avx512 {
    type T = f32;
    type V = __m512;
    type Bf16 = Avx512Bf16;
    const N: usize = 16;
    const REGISTERS: usize = 32;
    const ROWS: usize = 8;
    const TAPS: usize = 8;

    #[inline(never)]
    // vl: without it sums that are added up in halves may use only sixteen of the registers.
    #[target_feature(enable = "avx512f,avx512vl,avx512dq,avx512bw,avx2,fma")]
    unsafe fn run<K: Kernel<T = f32>>(kernel: K) -> K::Output {
        kernel.run::<Self>()
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> __m512 {
        _mm512_loadu_ps(from)
    }
    #[inline(always)]
    unsafe fn store(to: *mut f32, v: __m512) {
        _mm512_storeu_ps(to, v)
    }
    #[inline(always)]
    unsafe fn splat(x: f32) -> __m512 {
        _mm512_set1_ps(x)
    }
    #[inline(always)]
    unsafe fn add(a: __m512, b: __m512) -> __m512 {
        _mm512_add_ps(a, b)
    }
    #[inline(always)]
    unsafe fn sub(a: __m512, b: __m512) -> __m512 {
        _mm512_sub_ps(a, b)
    }
    #[inline(always)]
    unsafe fn mul(a: __m512, b: __m512) -> __m512 {
        _mm512_mul_ps(a, b)
    }
    #[inline(always)]
    unsafe fn fma(a: __m512, b: __m512, c: __m512) -> __m512 {
        _mm512_fmadd_ps(a, b, c)
    }
    #[inline(always)]
    unsafe fn max(a: __m512, b: __m512) -> __m512 {
        // maxps returns its second operand where either is NaN.
        let nan = _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(a, a);
        _mm512_mask_mov_ps(_mm512_max_ps(a, b), nan, a)
    }
    #[inline(always)]
    unsafe fn where_gt(a: __m512, b: __m512, v: __m512) -> __m512 {
        _mm512_maskz_mov_ps(_mm512_cmp_ps_mask::<_CMP_GT_OQ>(a, b), v)
    }
    #[inline(always)]
    unsafe fn where_le(a: __m512, b: __m512, v: __m512) -> __m512 {
        _mm512_maskz_mov_ps(_mm512_cmp_ps_mask::<_CMP_NGT_UQ>(a, b), v)
    }
    #[inline(always)]
    unsafe fn sum(v: __m512) -> f32 {
        _mm512_reduce_add_ps(v)
    }
    #[inline(always)]
    unsafe fn sums(from: *const f32) -> __m512 {
        halves(
            halves(four(from), four(from.add(64))),
            halves(four(from.add(128)), four(from.add(192))),
        )
    }
    #[inline(always)]
    unsafe fn shifted<const S: i32>(p: __m512, q: __m512, _: *const f32) -> __m512 {
        align::<S>(p, q)
    }
    #[inline(always)]
    unsafe fn interleave(a: __m512, b: __m512) -> (__m512, __m512) {
        let low = _mm512_setr_epi32(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
        let high = _mm512_add_epi32(low, _mm512_set1_epi32(8));
        (
            _mm512_permutex2var_ps(a, low, b),
            _mm512_permutex2var_ps(a, high, b),
        )
    }
    #[inline(always)]
    unsafe fn even_odd(p: __m512, q: __m512) -> (__m512, __m512) {
        let even = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
        let odd = _mm512_add_epi32(even, _mm512_set1_epi32(1));
        (
            _mm512_permutex2var_ps(p, even, q),
            _mm512_permutex2var_ps(p, odd, q),
        )
    }
}

/// Four vectors become one, with a part of each one's sum in every quarter.
#[inline]
#[target_feature(enable = "avx512f,avx512dq")]
unsafe fn four(from: *const f32) -> __m512 {
    let (a, b) = (_mm512_loadu_ps(from), _mm512_loadu_ps(from.add(16)));
    let (c, d) = (_mm512_loadu_ps(from.add(32)), _mm512_loadu_ps(from.add(48)));
    let ab = _mm512_add_ps(_mm512_unpacklo_ps(a, b), _mm512_unpackhi_ps(a, b));
    let cd = _mm512_add_ps(_mm512_unpacklo_ps(c, d), _mm512_unpackhi_ps(c, d));
    let (ab, cd) = (_mm512_castps_pd(ab), _mm512_castps_pd(cd));
    let (low, high) = (_mm512_unpacklo_pd(ab, cd), _mm512_unpackhi_pd(ab, cd));
    _mm512_add_ps(_mm512_castpd_ps(low), _mm512_castpd_ps(high))
}

/// Neighbouring quarters of each added up: two quarters of a, two of b.
#[inline]
#[target_feature(enable = "avx512f")]
fn halves(a: __m512, b: __m512) -> __m512 {
    _mm512_add_ps(
        _mm512_shuffle_f32x4::<0x88>(a, b),
        _mm512_shuffle_f32x4::<0xdd>(a, b),
    )
}

/// Of two vectors at hand: an unaligned load would cross a cache line every time. As text, because the compiler makes
/// the intrinsic a permutation whose indices cost six of the registers that hold sums.
#[inline]
#[target_feature(enable = "avx512f")]
fn align<const S: i32>(p: __m512, q: __m512) -> __m512 {
    let shifted;
    // SAFETY: the instruction reads and writes registers alone.
    unsafe {
        asm!(
            "valignd {0}, {1}, {2}, {3}",
            out(zmm_reg) shifted,
            in(zmm_reg) q,
            in(zmm_reg) p,
            const S,
            options(pure, nomem, nostack, preserves_flags)
        );
    }
    shifted
}
