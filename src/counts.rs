//! A model that counts: which base stood how often in which context, on both strands, and what that says of a hidden
//! base. Whole numbers throughout, so that ranks in any number and order add up to the same.
//!
//! Liang, Grønbæk, Fariselli & Krogh, "Context dependency of nucleotide probabilities and variants in human DNA", BMC
//! Genomics 23 (2022), s12864-021-08246-1: a longer context takes over from a shorter one as far as it was seen,
//! P_k(b) = (n_k(b) + g P_k-1(b)) / (N_k + g). A window that was itself counted is left out of n and N.

mod index;
mod neighbours;
mod seen;

pub use neighbours::{Context, Neighbours};
pub use seen::{ENTRY_BYTES, Seen};

use std::sync::OnceLock;

use anyhow::{Context as _, Result};

use index::Index;

/// Up to so many bases the paper takes plain shares. One count of the shorter context, in place of none, leaves no base
/// impossible.
const UNREGULARISED: usize = 8;
/// Keys that wait to be sorted; 16 MB.
const PENDING: usize = 1 << 22;

/// What is counted, and how contexts of different lengths are joined.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Reading {
    pub neighbours: Neighbours,
    /// Counts that the next shorter context stands for, beyond eight bases.
    pub gamma: f64,
}

#[derive(Clone, Debug)]
pub struct Counter {
    reading: Reading,
    outcomes: usize,
    /// On the other strand a label is this less what it is here; none where it is the same.
    mirror: Option<i8>,
    /// Of all ranks, when they last added up.
    total: Seen,
    index: OnceLock<Index>,
    /// Of this rank since then; the latest are not sorted yet.
    own: Seen,
    pending: Vec<u32>,
}

impl Counter {
    /// `classes` as in [`Io`](crate::model::Io): 1 where a label is 0 or 1.
    pub fn new(reading: Reading, classes: i64, mirror: Option<i8>) -> Self {
        Self {
            reading,
            outcomes: classes.max(2) as usize,
            mirror,
            total: Seen::default(),
            index: OnceLock::new(),
            own: Seen::default(),
            pending: Vec::new(),
        }
    }

    pub fn reading(&self) -> Reading {
        self.reading
    }

    pub fn total(&self) -> &Seen {
        &self.total
    }

    /// One more than the largest key.
    pub fn all_keys(&self) -> u64 {
        self.reading.neighbours.all_keys(self.outcomes)
    }

    /// Shares that are free to vary.
    pub fn num_parameters(&self) -> i64 {
        (self.all_keys() / self.outcomes as u64) as i64 * (self.outcomes as i64 - 1)
    }

    /// Counts the centre of a window [L] on both strands, by its label; a context with an unknown base is not counted.
    pub fn count(&mut self, window: &[u8], label: i8) {
        let contexts = self.reading.neighbours.contexts(window);
        let keys = self.keys(contexts, label);
        self.pending.extend(keys.into_iter().flatten());
        // Merged in ever larger parts, so that each count moves a few times only.
        if self.pending.len() >= PENDING.max(self.own.len()) {
            self.sort();
        }
    }

    /// What a window adds to the counts.
    fn keys(&self, contexts: [Context; 2], label: i8) -> [Option<u32>; 2] {
        let neighbours = self.reading.neighbours;
        let mirrored = self.mirror.map_or(label, |top| top - label);
        let key = |context: Context, label: i8| {
            let known = context.known == neighbours.levels();
            known.then(|| neighbours.key(label as u8, context))
        };
        [key(contexts[0], label), key(contexts[1], mirrored)]
    }

    fn sort(&mut self) {
        self.own.merge(&Seen::of(std::mem::take(&mut self.pending)));
    }

    /// What this rank counted since the last call.
    pub fn take_own(&mut self) -> Seen {
        self.sort();
        std::mem::take(&mut self.own)
    }

    pub fn take_total(&mut self) -> Seen {
        self.index.take();
        std::mem::take(&mut self.total)
    }

    /// Into an empty table it moves: of the human genome a copy takes 12 GB.
    pub fn add(&mut self, seen: Seen) {
        self.index.take();
        match self.total.is_empty() {
            true => self.total = seen,
            false => self.total.merge(&seen),
        }
    }

    /// Probability of each outcome at the centre of a window [L]; with a label, as if this window had not been counted.
    /// An error where it was not.
    pub fn probabilities(&self, window: &[u8], counted: Option<i8>) -> Result<[f64; 4]> {
        let contexts = self.reading.neighbours.contexts(window);
        let own = counted.map_or([None; 2], |label| self.keys(contexts, label));
        let here = self.in_context(contexts[0], own)?;
        if let Neighbours::Around(_) = self.reading.neighbours {
            // Both strands were counted, and so the other one says the same.
            return Ok(here);
        }
        let there = self.in_context(contexts[1], own)?;
        let mut mean = [0.0; 4];
        for outcome in 0..self.outcomes {
            let other = self.mirror.map_or(outcome, |top| top as usize - outcome);
            mean[outcome] = (here[outcome] + there[other]) / 2.0;
        }
        Ok(mean)
    }

    /// `own` keys are left out.
    fn in_context(&self, context: Context, own: [Option<u32>; 2]) -> Result<[f64; 4]> {
        let (neighbours, total) = (self.reading.neighbours, &self.total);
        let index = self.index.get_or_init(|| Index::of(total, self.all_keys()));
        let mut shares = [0.0; 4];
        shares[..self.outcomes].fill(1.0 / self.outcomes as f64);
        let mut places = [const { 0..0 }; 4];
        places[..self.outcomes].fill(0..total.len());
        for level in 0..=context.known {
            let mut counts = [0u64; 4];
            for outcome in 0..self.outcomes {
                let keys = neighbours.keys(outcome as u8, context, level);
                let found = index.find(&keys);
                places[outcome] = found.unwrap_or_else(|| total.find(&places[outcome], &keys));
                let left_out = own.into_iter().flatten();
                let left_out = left_out.filter(|&key| keys.contains(&u64::from(key)));
                let counted = total.times_at(&places[outcome]);
                counts[outcome] = counted
                    .checked_sub(left_out.count() as u64)
                    .context(
                        "the window was not counted, so the data are not those that were: name these by --data, or count \
                         again with train",
                    )?;
            }
            let seen: u64 = counts.iter().sum();
            if seen == 0 {
                // Nor was any longer context.
                break;
            }
            let weight = match neighbours.bases(level) {
                ..=UNREGULARISED => 1.0,
                _ => self.reading.gamma,
            };
            for (share, count) in shares.iter_mut().zip(counts) {
                *share = (count as f64 + weight * *share) / (seen as f64 + weight);
            }
        }
        Ok(shares)
    }

    /// Log-probabilities of the outcomes, or of two the one logit; appended.
    pub fn logits(&self, window: &[u8], counted: Option<i8>, logits: &mut Vec<f32>) -> Result<()> {
        let shares = self.probabilities(window, counted)?;
        match self.outcomes {
            2 => logits.push((shares[1] / shares[0]).ln() as f32),
            outcomes => logits.extend(shares[..outcomes].iter().map(|share| share.ln() as f32)),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
