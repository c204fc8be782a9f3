//! Vectors of the CPU's instruction sets under one name, so that every kernel is written once.
//!
//! A kernel is a [`Kernel`]: `run` is inlined into a function compiled for the instruction set, which [`Lanes::run`]
//! is. Loads and stores need no alignment; pointers must be good for `N` elements.

use std::arch::{asm, x86_64::*};

use half::bf16;

use super::bf16::Avx512Bf16;

/// What a weight or an activation is: f32, or f64 where formulas are proven.
pub trait Element: Copy + Default + PartialOrd + Send + Sync + 'static {
    const KIND: tch::Kind;
    fn of(x: f64) -> Self;
    fn wide(self) -> f64;
    /// Two numbers rounded to bf16, in the bits of one.
    fn pair(_: Self, _: Self) -> Self {
        unreachable!("only of f32")
    }
}

impl Element for f32 {
    const KIND: tch::Kind = tch::Kind::Float;
    fn of(x: f64) -> Self {
        x as f32
    }
    fn wide(self) -> f64 {
        f64::from(self)
    }
    fn pair(a: f32, b: f32) -> f32 {
        let [a, b] = [a, b].map(|x| u32::from(bf16::from_f32(x).to_bits()));
        f32::from_bits(b << 16 | a)
    }
}

impl Element for f64 {
    const KIND: tch::Kind = tch::Kind::Double;
    fn of(x: f64) -> Self {
        x
    }
    fn wide(self) -> f64 {
        self
    }
}

pub trait Kernel {
    type Output;
    /// # Safety
    /// Called where the instructions of `L` may be used, with the pointers of the kernel good for their sizes.
    unsafe fn run<L: Lanes<T = Self::T>>(self) -> Self::Output;
    type T: Element;
}

/// # Safety
/// Every function needs the instruction set to be there; those with pointers need them good for `N` elements.
#[allow(clippy::missing_safety_doc)] // said here once
pub unsafe trait Lanes: Copy + 'static {
    type T: Element;
    type V: Copy;
    /// The same, multiplying pairs of bf16 where there are instructions for it.
    type Bf16: Lanes<T = Self::T>;
    const N: usize;
    const REGISTERS: usize;
    /// Outputs of a convolution, and taps of a weight gradient, that a tile holds at most.
    const ROWS: usize;
    const TAPS: usize;
    /// Whether a convolution multiplies pairs of bf16: of two channels, in the place of one f32.
    const PAIRS: bool = false;

    /// Runs a kernel as code of this instruction set.
    unsafe fn run<K: Kernel<T = Self::T>>(kernel: K) -> K::Output;
    unsafe fn load(from: *const Self::T) -> Self::V;
    unsafe fn store(to: *mut Self::T, v: Self::V);
    unsafe fn splat(x: Self::T) -> Self::V;
    unsafe fn add(a: Self::V, b: Self::V) -> Self::V;
    unsafe fn sub(a: Self::V, b: Self::V) -> Self::V;
    unsafe fn mul(a: Self::V, b: Self::V) -> Self::V;
    /// a b + c
    unsafe fn fma(a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    /// The larger of each pair; a NaN stays one.
    unsafe fn max(a: Self::V, b: Self::V) -> Self::V;
    /// v where a > b, else 0
    unsafe fn where_gt(a: Self::V, b: Self::V, v: Self::V) -> Self::V;
    /// v where not a > b, else 0
    unsafe fn where_le(a: Self::V, b: Self::V, v: Self::V) -> Self::V;
    unsafe fn sum(v: Self::V) -> Self::T;
    /// The sum of each of `N` vectors that lie one behind the other.
    unsafe fn sums(from: *const Self::T) -> Self::V;
    /// Elements S .. S + N of two neighbouring vectors, the first of which lies at `at`.
    unsafe fn shifted<const S: i32>(p: Self::V, q: Self::V, at: *const Self::T) -> Self::V;
    /// a0 b0 a1 b1 ..., as two vectors
    unsafe fn interleave(a: Self::V, b: Self::V) -> (Self::V, Self::V);
    /// The elements of even and of odd place of two neighbouring vectors
    unsafe fn even_odd(p: Self::V, q: Self::V) -> (Self::V, Self::V);
    /// Pairs of the elements of a and b.
    unsafe fn pair(_: Self::V, _: Self::V) -> Self::V {
        unreachable!("only where PAIRS")
    }
    /// a b + c, of numbers or of pairs.
    #[inline(always)]
    unsafe fn dot(a: Self::V, b: Self::V, c: Self::V) -> Self::V {
        Self::fma(a, b, c)
    }
}

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

/// Double precision in plain code, for proofs.
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
