//! What the cores at hand can do: fused multiply-adds of f32 per second, operands in registers.

#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::*;
use std::{hint::black_box, thread, time::Instant};

/// Bursts of some 20 ms; the best counts, as whatever disturbs one only slows it.
const BURSTS: usize = 9;
const ROUNDS: u64 = 8_000_000;

/// The loop's name, and operations (an FMA is two) per second of `threads` threads at once.
pub fn peak(threads: usize) -> (&'static str, f64) {
    let (name, burst) = kernel();
    let best = move || {
        let speed = |_| {
            let began = Instant::now();
            let operations = black_box(burst(black_box(ROUNDS)));
            operations / began.elapsed().as_secs_f64()
        };
        (0..BURSTS).map(speed).fold(0.0, f64::max)
    };
    let others: Vec<_> = (1..threads).map(|_| thread::spawn(best)).collect();
    let own = best();
    let sum = |sum, other: thread::JoinHandle<f64>| sum + other.join().expect("it only computes");
    (name, others.into_iter().fold(own, sum))
}

/// A burst of so many rounds returns the number of operations.
type Burst = fn(u64) -> f64;

fn kernel() -> (&'static str, Burst) {
    #[cfg(target_arch = "x86_64")]
    {
        let forced = std::env::var(super::ISA).is_ok_and(|isa| isa == "avx2");
        if is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512vl") && !forced {
            return ("AVX-512", |rounds| {
                // SAFETY: the processor has AVX-512F and VL.
                #[allow(unsafe_code)]
                unsafe {
                    avx512(rounds)
                }
            });
        }
        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
            return ("AVX2", |rounds| {
                // SAFETY: the processor has AVX2 and FMA.
                #[allow(unsafe_code)]
                unsafe {
                    avx2(rounds)
                }
            });
        }
    }
    #[cfg(target_arch = "aarch64")]
    return ("NEON", |rounds| {
        plain(rounds, |sum, a, b| sum.mul_add(a, b))
    });
    #[cfg(not(target_arch = "aarch64"))]
    ("portable, without FMA", |rounds| {
        plain(rounds, |sum, a, b| sum * a + b)
    })
}

/// 20 independent sums hide the latency of 4 cycles at 2 a cycle, and leave registers for the factors. Without VL the
/// compiler would keep sums that it later adds up in halves in sixteen registers, and spill.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512vl")]
fn avx512(rounds: u64) -> f64 {
    let (a, b) = (
        _mm512_set1_ps(black_box(0.999)),
        _mm512_set1_ps(black_box(1e-3)),
    );
    // Each begins elsewhere: equal sums would be computed once.
    let mut sums: [_; 20] = std::array::from_fn(|i| _mm512_set1_ps(black_box(i as f32)));
    for _ in 0..rounds {
        for sum in &mut sums {
            *sum = _mm512_fmadd_ps(*sum, a, b);
        }
    }
    black_box(sums.map(|sum| _mm512_reduce_add_ps(sum)));
    (rounds * 20 * 16 * 2) as f64
}

/// 12 of 16 registers.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn avx2(rounds: u64) -> f64 {
    let (a, b) = (
        _mm256_set1_ps(black_box(0.999)),
        _mm256_set1_ps(black_box(1e-3)),
    );
    let mut sums: [_; 12] = std::array::from_fn(|i| _mm256_set1_ps(black_box(i as f32)));
    for _ in 0..rounds {
        for sum in &mut sums {
            *sum = _mm256_fmadd_ps(*sum, a, b);
        }
    }
    black_box(sums.map(|sum| _mm256_cvtss_f32(sum)));
    (rounds * 12 * 8 * 2) as f64
}

/// For the compiler to make vectors of.
fn plain(rounds: u64, next: impl Fn(f32, f32, f32) -> f32) -> f64 {
    let (a, b) = (black_box(0.999f32), black_box(1e-3f32));
    let mut sums: [f32; 64] = std::array::from_fn(|i| black_box(i as f32));
    for _ in 0..rounds {
        for sum in &mut sums {
            *sum = next(*sum, a, b);
        }
    }
    black_box(sums);
    (rounds * 64 * 2) as f64
}
