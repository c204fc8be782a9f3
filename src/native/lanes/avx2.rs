//! AVX2 with FMA: 8 numbers.

use std::arch::x86_64::*;

use super::{Kernel, Lanes};

#[derive(Clone, Copy, Debug)]
pub struct Avx2;

// SAFETY: a `Program` is only made of Avx2 where the CPU has avx2 and fma.
unsafe impl Lanes for Avx2 {
    type T = f32;
    type V = __m256;
    type Bf16 = Self;
    const N: usize = 8;
    const REGISTERS: usize = 16;
    // Of 4 rows x 3 vectors the compiler spills.
    const ROWS: usize = 3;
    const TAPS: usize = 4;

    #[inline(never)]
    #[target_feature(enable = "avx2,fma")]
    unsafe fn run<K: Kernel<T = f32>>(kernel: K) -> K::Output {
        kernel.run::<Self>()
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> __m256 {
        _mm256_loadu_ps(from)
    }
    #[inline(always)]
    unsafe fn store(to: *mut f32, v: __m256) {
        _mm256_storeu_ps(to, v)
    }
    #[inline(always)]
    unsafe fn splat(x: f32) -> __m256 {
        _mm256_set1_ps(x)
    }
    #[inline(always)]
    unsafe fn add(a: __m256, b: __m256) -> __m256 {
        _mm256_add_ps(a, b)
    }
    #[inline(always)]
    unsafe fn sub(a: __m256, b: __m256) -> __m256 {
        _mm256_sub_ps(a, b)
    }
    #[inline(always)]
    unsafe fn mul(a: __m256, b: __m256) -> __m256 {
        _mm256_mul_ps(a, b)
    }
    #[inline(always)]
    unsafe fn fma(a: __m256, b: __m256, c: __m256) -> __m256 {
        _mm256_fmadd_ps(a, b, c)
    }
    #[inline(always)]
    unsafe fn max(a: __m256, b: __m256) -> __m256 {
        let nan = _mm256_cmp_ps::<_CMP_UNORD_Q>(a, a);
        _mm256_blendv_ps(_mm256_max_ps(a, b), a, nan)
    }
    #[inline(always)]
    unsafe fn where_gt(a: __m256, b: __m256, v: __m256) -> __m256 {
        _mm256_and_ps(_mm256_cmp_ps::<_CMP_GT_OQ>(a, b), v)
    }
    #[inline(always)]
    unsafe fn where_le(a: __m256, b: __m256, v: __m256) -> __m256 {
        _mm256_and_ps(_mm256_cmp_ps::<_CMP_NGT_UQ>(a, b), v)
    }
    #[inline(always)]
    unsafe fn sum(v: __m256) -> f32 {
        let four = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps::<1>(v));
        let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
        _mm_cvtss_f32(_mm_add_ss(two, _mm_shuffle_ps::<1>(two, two)))
    }
    #[inline(always)]
    unsafe fn sums(from: *const f32) -> __m256 {
        let load = |i: usize| _mm256_loadu_ps(from.add(8 * i));
        let a = _mm256_hadd_ps(
            _mm256_hadd_ps(load(0), load(1)),
            _mm256_hadd_ps(load(2), load(3)),
        );
        let b = _mm256_hadd_ps(
            _mm256_hadd_ps(load(4), load(5)),
            _mm256_hadd_ps(load(6), load(7)),
        );
        _mm256_add_ps(
            _mm256_permute2f128_ps::<0x20>(a, b),
            _mm256_permute2f128_ps::<0x31>(a, b),
        )
    }
    #[inline(always)]
    unsafe fn shifted<const S: i32>(_: __m256, _: __m256, at: *const f32) -> __m256 {
        _mm256_loadu_ps(at.add(S as usize))
    }
    #[inline(always)]
    unsafe fn interleave(a: __m256, b: __m256) -> (__m256, __m256) {
        let (low, high) = (_mm256_unpacklo_ps(a, b), _mm256_unpackhi_ps(a, b));
        (
            _mm256_permute2f128_ps::<0x20>(low, high),
            _mm256_permute2f128_ps::<0x31>(low, high),
        )
    }
    #[inline(always)]
    unsafe fn even_odd(p: __m256, q: __m256) -> (__m256, __m256) {
        let low = _mm256_permute2f128_ps::<0x20>(p, q);
        let high = _mm256_permute2f128_ps::<0x31>(p, q);
        (
            _mm256_shuffle_ps::<0x88>(low, high),
            _mm256_shuffle_ps::<0xdd>(low, high),
        )
    }
}
