//! Labels 0 and 1: histograms of logits by class, and what is read from them.

mod slots;
mod vectors;

use super::{Metrics, balanced, majority};
use slots::{BINS, KERAS_THRESHOLDS, SLOTS, slots};
use vectors::{BLOCK, Block};

/// Percent of the calls that may be wrong, for the recall at a false discovery rate.
const FDR: [(&str, u64); 3] = [
    ("recall_at_fdr_5", 5),
    ("recall_at_fdr_10", 10),
    ("recall_at_fdr_20", 20),
];

/// Probability in single precision, as the published networks computed it.
pub fn sigmoid(logit: f32) -> f32 {
    (1.0 / (1.0 + (-f64::from(logit)).exp())) as f32
}

/// A negative and a positive count for every slot.
pub(super) fn cells() -> usize {
    2 * SLOTS
}

#[derive(Default)]
pub(super) struct Sums {
    /// Cross-entropy.
    pub loss: f64,
    /// Probabilities of the positive labels.
    pub overlap: f64,
    /// All probabilities, and the positive labels.
    pub total: f64,
}

/// Adds to the counts of a target.
pub(super) fn add(counts: &mut [u64], logits: &[f32], labels: &[i8]) -> Sums {
    let (slots, mut block, mut sums) = (slots(), Block::default(), Sums::default());
    for (logits, labels) in logits.chunks(BLOCK).zip(labels.chunks(BLOCK)) {
        let bins = block.fill(logits, labels, &mut sums);
        for ((&logit, &label), &bin) in logits.iter().zip(labels).zip(bins) {
            let slot = slots.of(bin, logit);
            counts[2 * slot + usize::from(label > 0)] += u64::from(label >= 0);
        }
    }
    sums
}

pub(super) fn read(counts: &[u64], loss: f64, per_window: bool) -> Metrics {
    let slots = slots();
    let (mut fine, mut keras) = (vec![[0u64; 2]; BINS], vec![[0u64; 2]; KERAS_THRESHOLDS]);
    // [negatives, positives] in all, and of those called positive: with a probability of one half or more.
    let (mut labels, mut called) = ([0; 2], [0; 2]);
    for (slot, counts) in slots.iter().zip(counts.as_chunks::<2>().0) {
        for class in 0..2 {
            fine[slot.bin][class] += counts[class];
            keras[slot.bucket][class] += counts[class];
            labels[class] += counts[class];
            called[class] += if slot.called { counts[class] } else { 0 };
        }
    }
    let [negatives, positives] = labels;
    let [false_positives, found] = called;
    let (all, union) = (negatives + positives, positives + false_positives);
    let when = |defined: bool, value: f64| defined.then_some(value);
    let ranking = Ranking::of(&fine, positives as f64, negatives as f64);
    let ranked = |value: f64| when(positives > 0, value);
    let mut named = vec![
        ("loss", when(all > 0, loss / all as f64)),
        ("pr_auc", ranked(keras_pr_auc(&keras, positives as f64))),
        ("average_precision", ranked(ranking.average_precision)),
        ("auroc", when(positives > 0 && negatives > 0, ranking.auroc)),
        ("binary_io_u", when(union > 0, found as f64 / union as f64)),
    ];
    // Of bases nearly all are negative: that nearly all are called right says nothing.
    if per_window {
        let right = [negatives - false_positives, found];
        let accuracy = (right[0] + right[1]) as f64 / all as f64;
        named.push(("pr_auc_trapezoid", ranked(ranking.trapezoids)));
        named.push(("accuracy", when(all > 0, accuracy)));
        named.push(("balanced_accuracy", balanced(right, &labels)));
        named.push(("majority_accuracy", majority(&labels)));
        let recalls = FDR.iter().zip(ranking.recall_at);
        named.extend(recalls.map(|(&(name, _), recall)| (name, ranked(recall))));
    }
    Metrics {
        named,
        labels: labels.to_vec(),
    }
}

/// What depends on the order of the scores alone; scores that share a bin are ties.
struct Ranking {
    /// By steps, as scikit-learn has it: "careful" elsewhere.
    average_precision: f64,
    /// Area under the same curve drawn with straight lines, from precision 1 at recall 0: larger than can be reached.
    trapezoids: f64,
    auroc: f64,
    recall_at: [f64; FDR.len()],
}

impl Ranking {
    /// From the high scores down.
    fn of(fine: &[[u64; 2]], positives: f64, negatives: f64) -> Self {
        let (mut tp, mut fp, mut precision) = (0, 0, 1.0);
        let (mut steps, mut trapezoids, mut area) = (0.0, 0.0, 0.0);
        let mut found = [0; FDR.len()];
        for &[n, p] in fine.iter().rev() {
            if n + p == 0 {
                continue;
            }
            area += n as f64 * (tp as f64 + p as f64 / 2.0);
            (tp, fp) = (tp + p, fp + n);
            let before = precision;
            precision = tp as f64 / (tp + fp) as f64;
            steps += p as f64 * precision;
            trapezoids += p as f64 * (before + precision) / 2.0;
            for (found, (_, percent)) in found.iter_mut().zip(FDR) {
                if 100 * fp <= percent * (tp + fp) {
                    *found = tp;
                }
            }
        }
        Self {
            average_precision: steps / positives,
            trapezoids: trapezoids / positives,
            auroc: area / (positives * negatives),
            recall_at: found.map(|found| found as f64 / positives),
        }
    }
}

/// The area as tf.keras.metrics.AUC has it: interpolated between neighbouring thresholds (Davis & Goadrich 2006).
fn keras_pr_auc(keras: &[[u64; 2]], positives: f64) -> f64 {
    let (mut tp, mut called, mut area) = (0.0, 0.0, 0.0);
    for &[n, p] in keras.iter().rev() {
        let (p, all) = (p as f64, (p + n) as f64);
        if all > 0.0 {
            let slope = p / all;
            let intercept = tp - slope * called;
            let ratio: f64 = if called > 0.0 {
                (called + all) / called
            } else {
                1.0
            };
            area += slope * (p + intercept * ratio.ln()) / positives;
        }
        (tp, called) = (tp + p, called + all);
    }
    area
}

#[cfg(test)]
mod tests;
