//! How late the slowest of N ranks is.

use std::f64::consts::SQRT_2;

/// The mean of the largest of N numbers with a normal distribution: 0.56 of 2, 3.04 of 512.
pub fn largest_of(ranks: usize) -> f64 {
    const STEP: f64 = 0.01;
    let power = |x: f64| normal(x).powi(ranks as i32);
    let middles = (-800..800).map(|i| (f64::from(i) + 0.5) * STEP);
    let each = middles.map(|x| x * (power(x + STEP / 2.0) - power(x - STEP / 2.0)));
    if ranks == 1 { 0.0 } else { each.sum() }
}

/// Share of a normal distribution below x: Abramowitz & Stegun 1964, 7.1.26, within 1.5e-7.
fn normal(x: f64) -> f64 {
    let z = x.abs() / SQRT_2;
    let t = 1.0 / (1.0 + 0.327_591_1 * z);
    let terms = [
        1.061_405_429,
        -1.453_152_027,
        1.421_413_741,
        -0.284_496_736,
        0.254_829_592,
    ];
    let tail = terms.iter().fold(0.0, |sum, of| (sum + of) * t) * (-z * z).exp() / 2.0;
    if x < 0.0 { tail } else { 1.0 - tail }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_of_n_is_that_of_the_tables() {
        // Tippett 1925, Harter 1961.
        for (ranks, mean) in [
            (1, 0.0),
            (2, 0.564_19),
            (4, 1.029_38),
            (8, 1.423_60),
            (100, 2.507_59),
        ] {
            let found = largest_of(ranks);
            assert!((found - mean).abs() < 1e-4, "{ranks}: {found}");
        }
    }
}
