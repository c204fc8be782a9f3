//! Where a logit is counted. A slot is a part of a bin of logits whose probabilities lie in one bucket of Keras and on
//! one side of one half: one count serves every metric, and needs no probability.

use std::sync::LazyLock;

use super::{sigmoid, vectors::bin_of};

/// Keras' AUC(curve="PR", num_thresholds=1001): thresholds i/1000, a score counts when it is above.
pub const KERAS_THRESHOLDS: usize = 1001;
/// Bins of logits in [-16, 16) by 1/512; what lies outside shares an end bin.
pub const BINS: usize = 16_384;
pub const PER_LOGIT: f32 = 512.0;
/// 999 borders between buckets, and that of one half, each within a bin of its own.
pub const SLOTS: usize = BINS + 1000;

pub struct Slots {
    /// Of each bin its first slot, and the largest logit that belongs there; what lies above belongs to the next slot.
    bins: Vec<(u32, f32)>,
    slots: Vec<Slot>,
}

pub struct Slot {
    pub bin: usize,
    pub bucket: usize,
    /// A probability of one half or more.
    pub called: bool,
}

pub fn slots() -> &'static Slots {
    static SLOTS: LazyLock<Slots> = LazyLock::new(Slots::new);
    &SLOTS
}

/// The bucket of a probability by definition, in single precision, as the published networks were judged.
fn bucket(probability: f32) -> usize {
    ((probability * (KERAS_THRESHOLDS - 1) as f32).ceil() as usize).saturating_sub(1)
}

/// Borders passed below a logit: those of the buckets, and that of one half.
fn passed(logit: f32) -> usize {
    let probability = sigmoid(logit);
    bucket(probability) + usize::from(probability >= 0.5)
}

impl Slots {
    fn new() -> Self {
        let most = passed(f32::MAX);
        let half = passed(0.0);
        let mut slots = Vec::with_capacity(SLOTS);
        let mut first = 0;
        let mut bins = Vec::with_capacity(BINS);
        let mut borders = (0..most).map(last_before).peekable();
        let mut below = 0;
        for place in 0..BINS {
            let mut push = |below: usize| {
                let called = below >= half;
                slots.push(Slot {
                    bin: place,
                    bucket: below - usize::from(called),
                    called,
                });
            };
            push(below);
            let border = borders.next_if(|&last| bin_of(last) as usize == place);
            bins.push((first, border.unwrap_or(f32::INFINITY)));
            first += 1;
            if border.is_some() {
                below += 1;
                first += 1;
                push(below);
            }
        }
        assert!(slots.len() == SLOTS && borders.next().is_none());
        Self { bins, slots }
    }

    /// The slot of a logit whose bin is known.
    pub fn of(&self, bin: u32, logit: f32) -> usize {
        let (first, last) = self.bins[bin as usize];
        first as usize + usize::from(logit > last)
    }

    pub fn iter(&self) -> impl Iterator<Item = &Slot> {
        self.slots.iter()
    }
}

/// The largest logit that has passed no more than so many borders, found by halving.
fn last_before(borders: usize) -> f32 {
    // As these whole numbers floats are in order.
    let key = |logit: f32| {
        let bits = logit.to_bits() as i32;
        if bits < 0 { i32::MIN - bits } else { bits }
    };
    let logit = |key: i32| f32::from_bits((if key < 0 { i32::MIN - key } else { key }) as u32);
    let (mut low, mut high) = (i64::from(key(-20.0)), i64::from(key(20.0)));
    while high - low > 1 {
        let middle = (low + high).div_euclid(2);
        match passed(logit(middle as i32)) <= borders {
            true => low = middle,
            false => high = middle,
        }
    }
    logit(low as i32)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bin(logit: f32) -> usize {
        let half = BINS as f64 / 2.0;
        let place = (f64::from(logit) * f64::from(PER_LOGIT)).floor();
        (place.clamp(-half, half - 1.0) + half) as usize
    }

    #[test]
    fn slots_are_bins_and_buckets_and_halves_by_their_definitions() {
        let slots = slots();
        let check = |logit: f32| {
            let probability = sigmoid(logit);
            let slot = &slots.slots[slots.of(bin_of(logit), logit)];
            let found = (slot.bin, slot.bucket, slot.called);
            let expected = (bin(logit), bucket(probability), probability >= 0.5);
            assert_eq!(found, expected, "{logit:e}");
        };
        // Both sides of every border, every edge of a bin, and what is no usual number.
        for (_, last) in slots.bins.iter().filter(|(_, last)| last.is_finite()) {
            for logit in [last.next_down(), *last, last.next_up()] {
                check(logit);
            }
        }
        for edge in -8300..8300 {
            let edge = edge as f32 / PER_LOGIT;
            for logit in [edge.next_down(), edge, edge.next_up()] {
                check(logit);
            }
        }
        // A score that is no number is the lowest of all.
        let (inf, nan) = (f32::INFINITY, f32::NAN);
        for logit in [f32::MAX, f32::MIN, inf, -inf, -0.0, 1e-40, nan] {
            check(logit);
        }
    }
}
