//! What the sums and counts are made of, a block of labels at a time and without a branch, so that the compiler
//! computes several at once.

use std::f32::consts::LOG2_E;

use super::{
    Sums,
    slots::{BINS, PER_LOGIT},
};

pub const BLOCK: usize = 512;

/// Added to a number below 2^22 and taken off again it rounds to a whole one, which then stands in the lowest bits.
const ROUND: f32 = 12_582_912.0;

pub struct Block {
    losses: [f32; BLOCK],
    probabilities: [f32; BLOCK],
    found: [f32; BLOCK],
    bins: [u32; BLOCK],
}

impl Default for Block {
    fn default() -> Self {
        Self {
            losses: [0.0; BLOCK],
            probabilities: [0.0; BLOCK],
            found: [0.0; BLOCK],
            bins: [0; BLOCK],
        }
    }
}

impl Block {
    /// Adds at most `BLOCK` labels to the sums, those that are masked with zero; returns the bins of their logits.
    pub fn fill(&mut self, logits: &[f32], labels: &[i8], sums: &mut Sums) -> &[u32] {
        let num = labels.len();
        let logits = &logits[..num];
        let (losses, probabilities) = (&mut self.losses[..num], &mut self.probabilities[..num]);
        let found = &mut self.found[..num];
        for i in 0..num {
            let (logit, label) = (logits[i], labels[i]);
            let e = exp(-logit.abs());
            let toward = if label > 0 { -logit } else { logit };
            // log(1 + e^z) - y z, without overflow and without a difference of large numbers
            let loss = ln_1p(e) + if toward < 0.0 { 0.0 } else { toward };
            let probability = (if logit < 0.0 { e } else { 1.0 }) / (1.0 + e);
            losses[i] = if label < 0 { 0.0 } else { loss };
            probabilities[i] = if label < 0 { 0.0 } else { probability };
            found[i] = if label > 0 { probability } else { 0.0 };
        }
        for (bin, &logit) in self.bins[..num].iter_mut().zip(logits) {
            *bin = bin_of(logit);
        }
        let positives: i32 = labels.iter().map(|&label| i32::from(label > 0)).sum();
        sums.loss += sum(losses);
        sums.overlap += sum(found);
        sums.total += sum(probabilities) + f64::from(positives);
        &self.bins[..num]
    }
}

/// e^x for x <= 0, to 2e-7 of it: Cephes' expf (Moshier 1992); NaN stays NaN.
fn exp(x: f32) -> f32 {
    let x = if x < -87.0 { -87.0 } else { x };
    let rounded = x * LOG2_E + ROUND;
    let n = rounded - ROUND;
    // ln 2 in two parts, of which n takes no digit away.
    let r = x - n * 0.693_359_4 + n * 2.121_944_4e-4;
    let mut p = 1.987_569_2e-4;
    for factor in [1.398_2e-3, 8.333_452e-3, 4.166_579_6e-2, 0.166_666_66, 0.5] {
        p = p * r + factor;
    }
    let power = rounded
        .to_bits()
        .wrapping_sub(ROUND.to_bits())
        .wrapping_add(127)
        << 23;
    (p * r * r + r + 1.0) * f32::from_bits(power)
}

/// log(1 + e) for e in [0, 1], to 2e-7 of it: the series of 2 artanh(e / (2 + e)).
fn ln_1p(e: f32) -> f32 {
    let s = e / (2.0 + e);
    let w = s * s;
    let mut p = 1.0 / 15.0;
    for denominator in [13.0, 11.0, 9.0, 7.0, 5.0, 3.0, 1.0] {
        p = p * w + 1.0 / denominator;
    }
    2.0 * s * p
}

/// The bin of a logit; of NaN the lowest.
pub fn bin_of(logit: f32) -> u32 {
    const HALF: f32 = BINS as f32 / 2.0;
    let place = logit * PER_LOGIT;
    let place = if place > -HALF { place } else { -HALF };
    let place = if place < HALF - 0.5 {
        place
    } else {
        HALF - 0.5
    };
    let rounded = (place + ROUND) - ROUND;
    let whole = if rounded > place {
        rounded - 1.0
    } else {
        rounded
    };
    (whole + (ROUND + HALF))
        .to_bits()
        .wrapping_sub(ROUND.to_bits())
}

/// In eight lanes, so that several are added at once.
fn sum(values: &[f32]) -> f64 {
    let (eights, rest) = values.as_chunks::<8>();
    let mut lanes = [0.0; 8];
    for eight in eights {
        for (lane, &value) in lanes.iter_mut().zip(eight) {
            *lane += f64::from(value);
        }
    }
    let rest: f64 = rest.iter().copied().map(f64::from).sum();
    lanes.iter().sum::<f64>() + rest
}
