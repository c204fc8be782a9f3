//! What a model counts, and which settings have no meaning for it.

use anyhow::{Result, bail, ensure};

use super::{Plan, Settings};
use crate::{
    counts::{ENTRY_BYTES, Neighbours, Reading},
    device::DeviceChoice,
    model::Arch,
};

/// Bases on each side, and before: two bits each, and two for what stands there, in a key of 32 bits.
const MOST_AROUND: usize = 7;
const MOST_BEFORE: usize = 15;

impl Settings {
    /// What is counted: as typed, over what the model counts unless told otherwise.
    pub fn reading(&self, arch: Arch) -> Result<Option<Reading>> {
        let usual = arch.paper().recipe.counts;
        let typed = match (self.kmer, self.markov_order) {
            (Some(_), Some(_)) => bail!("--kmer and --markov-order exclude each other"),
            (Some(bases), None) => Some(Neighbours::Around(bases)),
            (None, Some(bases)) => Some(Neighbours::Before(bases)),
            (None, None) => None,
        };
        if usual.is_none() && self.kmer_input.is_none() {
            ensure!(
                typed.is_none() && self.kmer_gamma.is_none(),
                "--kmer, --kmer-gamma and --markov-order belong to models that count: kmer and markov"
            );
            return Ok(None);
        }
        match (usual.map(|usual| usual.neighbours), typed) {
            (Some(Neighbours::Around(_)), Some(Neighbours::Before(_))) => {
                bail!("--markov-order belongs to markov; kmer has --kmer")
            }
            (Some(Neighbours::Before(_)), Some(Neighbours::Around(_))) => {
                bail!("--kmer belongs to kmer; markov has --markov-order")
            }
            (_, Some(Neighbours::Around(bases))) => ensure!(
                (1..=MOST_AROUND).contains(&bases),
                "--kmer counts 1 to {MOST_AROUND} bases on each side, found {bases}"
            ),
            (_, Some(Neighbours::Before(bases))) => ensure!(
                (1..=MOST_BEFORE).contains(&bases),
                "--markov-order is 1 to {MOST_BEFORE}, found {bases}"
            ),
            (_, None) => {}
        }
        let gamma = self.kmer_gamma;
        ensure!(
            gamma.is_none_or(|gamma| gamma > 0.0 && gamma.is_finite()),
            "--kmer-gamma must be positive"
        );
        let neighbours = typed.or(usual.map(|usual| usual.neighbours));
        let gamma = gamma.or(usual.map(|usual| usual.gamma));
        Ok(neighbours
            .zip(gamma)
            .map(|(neighbours, gamma)| Reading { neighbours, gamma }))
    }

    /// For a model that counts: what belongs to weights is neither typed nor kept.
    pub(super) fn without_weights(mut self, arch: Arch) -> Result<Self> {
        let turned = self.reverse_complement == Some(true);
        let typed = [
            ("batch-norm", self.batch_norm.is_some()),
            ("optimizer", self.optimizer.is_some()),
            ("lr", self.lr.is_some()),
            ("momentum", self.momentum.is_some()),
            ("lr-scaling", self.lr_scaling.is_some()),
            ("warmup", self.warmup.is_some()),
            ("schedule", self.schedule.is_some()),
            ("decay-epochs", self.decay_epochs.is_some()),
            ("decay-factor", self.decay_factor.is_some()),
            ("clip-norm", self.clip_norm.is_some()),
            ("look-every", self.look_every.is_some()),
            ("kmer-input", self.kmer_input.is_some()),
            ("reverse-complement (both strands are counted)", turned),
        ];
        if let Some((name, _)) = typed.iter().find(|(_, typed)| *typed) {
            bail!("{arch} counts and has no weights: --{name} has no meaning for it");
        }
        ensure!(
            self.epochs.is_none_or(|epochs| epochs == 1),
            "{arch} counts every window once: --epochs 1"
        );
        ensure!(
            !matches!(self.device, Some(DeviceChoice::Cuda)),
            "{arch} counts on the CPU: no --device cuda"
        );
        self.epochs = Some(1);
        self.device = Some(DeviceChoice::Cpu);
        Ok(self)
    }
}

impl Plan {
    /// Of a model that counts: what a run keeps is what it counts, and nothing of weights.
    pub(super) fn counting(mut self, reading: Reading) -> Self {
        let set = &mut self.settings;
        match reading.neighbours {
            Neighbours::Around(bases) => set.kmer = Some(bases),
            Neighbours::Before(bases) => set.markov_order = Some(bases),
        }
        set.kmer_gamma = Some(reading.gamma);
        (set.batch_norm, set.optimizer, set.lr) = (None, None, None);
        (set.lr_scaling, set.schedule) = (None, None);
        self
    }
}

/// In words, with the memory that the counts of so many windows can take on a rank.
pub(super) fn describe(reading: Reading, rows: usize, ranks: usize) -> String {
    let Reading { neighbours, gamma } = reading;
    let bases = neighbours.levels();
    let what = match neighbours {
        Neighbours::Around(_) => format!("{bases} bases on each side"),
        Neighbours::Before(_) => format!("the {bases} bases before, on either strand"),
    };
    // Each strand of a window is an entry at most, in the sum of all ranks and in this rank's part of it.
    let entries = (2 * rows as u64).min(neighbours.all_keys(4));
    let tables = if ranks > 1 { 2 } else { 1 };
    let bytes = entries * ENTRY_BYTES as u64 * tables;
    format!(
        "{what}; beyond 8 bases the next shorter context stands for {gamma} counts; at most {:.2} GB a rank",
        bytes as f64 / 1e9
    )
}
