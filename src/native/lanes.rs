//! Vectors of the CPU's instruction sets under one name, so that every kernel is written once.
//!
//! A kernel is a [`Kernel`]: `run` is inlined into a function compiled for the instruction set, which [`Lanes::run`]
//! is. Loads and stores need no alignment; pointers must be good for `N` elements.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "x86_64")]
mod bf16;
mod double;
#[cfg(target_arch = "aarch64")]
mod neon;

pub use double::Double;
#[cfg(target_arch = "aarch64")]
pub use neon::Neon;
#[cfg(target_arch = "x86_64")]
pub use {avx2::Avx2, avx512::Avx512, bf16::Avx512Bf16};

/// Asks for a line that is read soon, for the second cache.
#[inline(always)]
pub fn prefetch(at: *const i8) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
        // SAFETY: a hint, which may name any address.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(at) }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = at;
}

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
        let [a, b] = [a, b].map(|x| u32::from(half::bf16::from_f32(x).to_bits()));
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
