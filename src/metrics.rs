//! Metrics as counts that can be added: over batches, over ranks, in any partition. Divided once, at the end.

use serde::Serialize;

use crate::comm::Comm;

/// Keras' AUC(curve="PR", num_thresholds=1001): thresholds i/1000, a score counts when it is above.
const KERAS_THRESHOLDS: usize = 1001;
/// Score histogram for average precision and AUROC: logits in [-16, 16) by 1/512; what lies outside shares an end bin.
const BINS: usize = 16_384;
const BIN_LIMIT: f32 = 16.0;

/// Where each count lies in `counts`; histograms by class follow.
const TRUE_POSITIVES: usize = 0;
const FALSE_POSITIVES: usize = 1;
const FALSE_NEGATIVES: usize = 2;
const BATCHES: usize = 3;
const KERAS: usize = 4;
const FINE: usize = KERAS + 2 * KERAS_THRESHOLDS;
const LEN: usize = FINE + 2 * BINS;

#[derive(Clone, Debug, PartialEq)]
pub struct Tally {
    counts: Vec<u64>,
    loss: f64,
    /// Sum of squares of label minus probability.
    squares: f64,
    /// Sum over batches of the soft dice coefficient, which Keras defines batch by batch.
    dice: f64,
}

/// `None` where the metric is undefined for these labels (no positive, no negative, or neither predicted nor there).
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Metrics {
    /// Cross-entropy, whatever was minimised.
    pub loss: Option<f64>,
    /// Mean square of label minus probability: the Brier score.
    pub mse: Option<f64>,
    /// Of calls at a probability of 0.5.
    pub accuracy: Option<f64>,
    pub pr_auc: Option<f64>,
    pub average_precision: Option<f64>,
    pub auroc: Option<f64>,
    pub dice_coef: Option<f64>,
    pub binary_io_u: Option<f64>,
    pub positives: u64,
    pub negatives: u64,
}

impl Default for Tally {
    fn default() -> Self {
        Self {
            counts: vec![0; LEN],
            loss: 0.0,
            squares: 0.0,
            dice: 0.0,
        }
    }
}

/// Probability in single precision, as the published networks computed it.
pub fn sigmoid(logit: f32) -> f32 {
    (1.0 / (1.0 + (-f64::from(logit)).exp())) as f32
}

impl Tally {
    /// One batch of logits with labels 1, 0, or -1 (left out).
    pub fn add(&mut self, logits: &[f32], labels: &[i8]) {
        assert_eq!(logits.len(), labels.len());
        let (mut overlap, mut total) = (0.0, 0.0);
        if labels.iter().all(|&label| label < 0) {
            return;
        }
        for (&logit, &label) in logits.iter().zip(labels) {
            if label < 0 {
                continue;
            }
            let positive = label > 0;
            let probability = sigmoid(logit);
            let z = f64::from(logit);
            // log(1 + e^z) - y z, without overflow
            self.loss += z.max(0.0) + (-z.abs()).exp().ln_1p() - if positive { z } else { 0.0 };
            let missed = f64::from(u8::from(positive)) - f64::from(probability);
            self.squares += missed * missed;
            total += f64::from(probability);
            if positive {
                overlap += f64::from(probability);
                total += 1.0;
            }
            match (probability >= 0.5, positive) {
                (true, true) => self.counts[TRUE_POSITIVES] += 1,
                (true, false) => self.counts[FALSE_POSITIVES] += 1,
                (false, true) => self.counts[FALSE_NEGATIVES] += 1,
                (false, false) => {}
            }
            let class = usize::from(positive);
            let bucket =
                ((probability * (KERAS_THRESHOLDS - 1) as f32).ceil() as usize).saturating_sub(1);
            self.counts[KERAS + class * KERAS_THRESHOLDS + bucket] += 1;
            let bin = ((logit + BIN_LIMIT) * (BINS as f32 / (2.0 * BIN_LIMIT))) as usize;
            self.counts[FINE + class * BINS + bin.min(BINS - 1)] += 1;
        }
        self.dice += (2.0 * overlap + 1.0) / (total + 1.0);
        self.counts[BATCHES] += 1;
    }

    pub fn merge(&mut self, other: &Tally) {
        for (own, others) in self.counts.iter_mut().zip(&other.counts) {
            *own += others;
        }
        self.loss += other.loss;
        self.squares += other.squares;
        self.dice += other.dice;
    }

    /// Becomes the tally of all ranks' data.
    pub fn sum_over(&mut self, comm: &dyn Comm) {
        comm.sum_u64(&mut self.counts);
        let mut sums = [self.loss, self.squares, self.dice];
        comm.sum_f64(&mut sums);
        [self.loss, self.squares, self.dice] = sums;
    }

    fn histogram(&self, first: usize, bins: usize) -> (&[u64], &[u64]) {
        self.counts[first..first + 2 * bins].split_at(bins)
    }

    pub fn metrics(&self) -> Metrics {
        let (negative_bins, positive_bins) = self.histogram(FINE, BINS);
        let (negatives, positives) = (
            negative_bins.iter().sum::<u64>(),
            positive_bins.iter().sum::<u64>(),
        );
        let when = |defined: bool, value: f64| defined.then_some(value);
        let (average_precision, auroc) = self.ranking(positives as f64, negatives as f64);
        let found = self.counts[TRUE_POSITIVES];
        let wrong = self.counts[FALSE_POSITIVES] + self.counts[FALSE_NEGATIVES];
        let union = found + wrong;
        let known = (positives + negatives) as f64;
        let mean = |sum: f64| when(known > 0.0, sum / known);
        Metrics {
            loss: mean(self.loss),
            mse: mean(self.squares),
            accuracy: mean(known - wrong as f64),
            pr_auc: when(positives > 0, self.keras_pr_auc()),
            average_precision: when(positives > 0, average_precision),
            auroc: when(positives > 0 && negatives > 0, auroc),
            dice_coef: when(
                self.counts[BATCHES] > 0,
                self.dice / self.counts[BATCHES] as f64,
            ),
            binary_io_u: when(union > 0, found as f64 / union as f64),
            positives,
            negatives,
        }
    }

    /// Average precision (steps, as scikit-learn) and the area under the ROC curve (trapezoids), from the high scores
    /// down.
    fn ranking(&self, positives: f64, negatives: f64) -> (f64, f64) {
        let (negative_bins, positive_bins) = self.histogram(FINE, BINS);
        let (mut tp, mut fp, mut precision, mut area) = (0.0, 0.0, 0.0, 0.0);
        for (&p, &n) in positive_bins.iter().zip(negative_bins).rev() {
            let (p, n) = (p as f64, n as f64);
            area += n * (tp + p / 2.0);
            (tp, fp) = (tp + p, fp + n);
            if p > 0.0 {
                precision += p * tp / (tp + fp);
            }
        }
        (precision / positives, area / (positives * negatives))
    }

    /// The area as tf.keras.metrics.AUC has it: interpolated between neighbouring thresholds (Davis & Goadrich 2006).
    fn keras_pr_auc(&self) -> f64 {
        let (negative_bins, positive_bins) = self.histogram(KERAS, KERAS_THRESHOLDS);
        let positives = positive_bins.iter().sum::<u64>() as f64;
        let (mut tp, mut called, mut area) = (0.0, 0.0, 0.0);
        for (&p, &n) in positive_bins.iter().zip(negative_bins).rev() {
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
}

impl Metrics {
    /// The metric of a name of the tables.
    pub fn value(&self, name: &str) -> Option<f64> {
        let named = self.named();
        named
            .iter()
            .find(|(of, _)| *of == name)
            .and_then(|(_, value)| *value)
    }

    /// In the order of the tables.
    pub fn named(&self) -> [(&'static str, Option<f64>); 8] {
        [
            ("loss", self.loss),
            ("mse", self.mse),
            ("accuracy", self.accuracy),
            ("pr_auc", self.pr_auc),
            ("average_precision", self.average_precision),
            ("auroc", self.auroc),
            ("dice_coef", self.dice_coef),
            ("binary_io_u", self.binary_io_u),
        ]
    }
}

/// A metric for people: never a number where there is none.
pub fn shown(value: Option<f64>) -> String {
    value.map_or_else(|| "undefined".into(), |value| format!("{value:.6}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn merged_over_any_partition_equals_the_whole(
            data in prop::collection::vec((-20f32..20.0, -1i8..2), 1..400), batch in 1usize..50, parts in 1usize..6,
        ) {
            let (logits, labels): (Vec<f32>, Vec<i8>) = data.into_iter().unzip();
            let mut whole = Tally::default();
            let mut partial = vec![Tally::default(); parts];
            for (i, (z, y)) in logits.chunks(batch).zip(labels.chunks(batch)).enumerate() {
                whole.add(z, y);
                partial[i * 7 % parts].add(z, y);
            }
            let mut merged = Tally::default();
            partial.iter().rev().for_each(|part| merged.merge(part));
            prop_assert_eq!(&merged.counts, &whole.counts);
            prop_assert!((merged.loss - whole.loss).abs() <= 1e-9 * whole.loss.abs().max(1.0));
            prop_assert!((merged.squares - whole.squares).abs() < 1e-9 * whole.squares.max(1.0));
            prop_assert!((merged.dice - whole.dice).abs() < 1e-9);
        }
    }

    #[test]
    fn accuracy_and_square_count_known_labels_alone() {
        let mut tally = Tally::default();
        tally.add(&[0.0, -1.0, 2.0, 9.0], &[1, 1, 0, -1]);
        let metrics = tally.metrics();
        assert_eq!(metrics.accuracy, Some(1.0 / 3.0));
        let square = |logit: f32, label: f32| f64::from(label - sigmoid(logit)).powi(2);
        let expected = (square(0.0, 1.0) + square(-1.0, 1.0) + square(2.0, 0.0)) / 3.0;
        assert!((metrics.mse.unwrap() - expected).abs() < 1e-7);
    }

    #[test]
    fn what_is_undefined_is_said_to_be() {
        let mut tally = Tally::default();
        tally.add(&[-3.0, -2.0, 9.0], &[0, 0, -1]);
        let metrics = tally.metrics();
        assert_eq!(
            (metrics.pr_auc, metrics.average_precision, metrics.auroc),
            (None, None, None)
        );
        assert_eq!(metrics.binary_io_u, None);
        assert!(metrics.loss.is_some());
        assert_eq!(shown(metrics.auroc), "undefined");
        assert_eq!(Tally::default().metrics().dice_coef, None);
    }
}
