//! What a model counts, and which settings have no meaning for it.

use anyhow::{Result, bail, ensure};

use super::{Plan, Settings};
use crate::{
    counts::{ENTRY_BYTES, Neighbours, Reading},
    device::DeviceChoice,
    loss::Loss,
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
        let penalised = |weight: Option<f64>| weight.is_some_and(|weight| weight != 0.0);
        let typed = [
            ("batch-norm", self.batch_norm.is_some()),
            ("optimizer", self.optimizer.is_some()),
            ("lr", self.lr.is_some()),
            ("momentum", self.momentum.is_some()),
            ("rho", self.rho.is_some()),
            ("l1", penalised(self.l1)),
            ("l2", penalised(self.l2)),
            ("max-norm", penalised(self.max_norm)),
            (
                "loss",
                self.loss.is_some_and(|loss| loss != Loss::CrossEntropy),
            ),
            ("init", self.init.is_some()),
            ("start-motifs", self.start_motifs.is_some()),
            ("lr-scaling", self.lr_scaling.is_some()),
            ("warmup", self.warmup.is_some()),
            ("schedule", self.schedule.is_some()),
            ("decay-epochs", self.decay_epochs.is_some()),
            ("decay-factor", self.decay_factor.is_some()),
            ("decay-rate", self.decay_rate.is_some()),
            ("clip-norm", self.clip_norm.is_some()),
            ("look-every", self.look_every.is_some()),
            ("kmer-input", self.kmer_input.is_some()),
            ("reverse-complement (both strands are counted)", turned),
        ];
        if let Some((name, _)) = typed.iter().find(|(_, typed)| *typed) {
            bail!("{arch} counts and has no weights: --{name} has no meaning for it");
        }
        for (name, typed) in [
            ("eval-every", self.eval_every.is_some()),
            ("patience", self.patience.is_some()),
            ("target", self.target.is_some()),
        ] {
            ensure!(
                !typed,
                "{arch} is evaluated once, when every window is counted: --{name} has no meaning for it"
            );
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
        (set.lr_scaling, set.schedule, set.loss) = (None, None, None);
        (set.l1, set.l2, set.max_norm) = (None, None, None);
        self
    }
}

/// Memory of a rank that counts, at its largest.
fn most_bytes(reading: Reading, rows: usize, ranks: usize) -> u64 {
    let (all_keys, entry) = (reading.neighbours.all_keys(4), ENTRY_BYTES as u64);
    // Each strand of a window is an entry at most.
    let entries = |windows: usize| (2 * windows as u64).min(all_keys);
    let (own, total) = (entries(rows.div_ceil(ranks)), entries(rows));
    // What is counted, what is merged into it, and both together; beside them the sum of all ranks, which a run holds that
    // saves or goes on before it has counted all.
    let counts = (3 * own + total) * entry;
    // The sum is merged with what is new. Of a checkpoint, 16 bytes an entry beside the sum are less.
    let shares = 3 * total * entry;
    counts.max(shares)
}

/// In words, with the memory that the counts of so many windows can take on a rank.
pub(super) fn describe(reading: Reading, rows: usize, ranks: usize) -> String {
    let Reading { neighbours, gamma } = reading;
    let bases = neighbours.levels();
    let what = match neighbours {
        Neighbours::Around(_) => format!("{bases} bases on each side"),
        Neighbours::Before(_) => format!("the {bases} bases before, on either strand"),
    };
    format!(
        "{what}; beyond 8 bases the next shorter context stands for {gamma} counts; at most {:.2} GB a rank",
        most_bytes(reading, rows, ranks) as f64 / 1e9
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_that_of_all_tables_that_a_rank_holds_at_once() {
        let reading = |bases| Reading {
            neighbours: Neighbours::Before(bases),
            gamma: 1.0,
        };
        // Of 4^4 keys all are seen: four tables while windows are counted.
        assert_eq!(most_bytes(reading(3), 1 << 20, 4), 4 * 256 * 12);
        // Of many more keys than windows each strand is one: a rank of four counts a quarter.
        let (rows, all) = (1 << 20, 2 << 20);
        assert_eq!(most_bytes(reading(14), rows, 4), 12 * all * 3);
        assert_eq!(most_bytes(reading(14), rows, 1), 12 * all * 4);
    }
}
