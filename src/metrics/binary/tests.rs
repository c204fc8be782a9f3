use std::{hint::black_box, time::Instant};

use super::super::{Shape, Tally};
use super::*;
use proptest::prelude::*;

fn shape(places: usize) -> Shape {
    Shape {
        targets: 1,
        places,
        classes: 1,
    }
}

fn tally(places: usize, logits: &[f32], labels: &[i8]) -> Tally {
    let mut tally = Tally::new(shape(places));
    tally.add(logits, labels);
    tally
}

/// What scikit-learn's precision_recall_curve, auc and roc_auc_score make of scores, by comparing all with all.
struct Naive {
    labels: Vec<bool>,
    scores: Vec<f64>,
}

impl Naive {
    /// Those called where a score of `threshold` or more is: (positives, all).
    fn called(&self, threshold: f64) -> (f64, f64) {
        let called = self.scores.iter().map(|&score| score >= threshold);
        let (mut tp, mut all) = (0.0, 0.0);
        for (_, label) in called.zip(&self.labels).filter(|(called, _)| *called) {
            all += 1.0;
            tp += f64::from(u8::from(*label));
        }
        (tp, all)
    }

    /// (recall, precision) at every score from the highest down, after (0, 1).
    fn curve(&self) -> Vec<(f64, f64)> {
        let positives = self.labels.iter().filter(|label| **label).count() as f64;
        let mut thresholds = self.scores.clone();
        thresholds.sort_by(f64::total_cmp);
        thresholds.dedup();
        let points = thresholds.iter().rev().map(|&threshold| {
            let (tp, all) = self.called(threshold);
            (tp / positives, tp / all)
        });
        std::iter::once((0.0, 1.0)).chain(points).collect()
    }

    fn area(&self, height: impl Fn((f64, f64), (f64, f64)) -> f64) -> f64 {
        let curve = self.curve();
        let steps = curve.windows(2);
        steps
            .map(|of| (of[1].0 - of[0].0) * height(of[0], of[1]))
            .sum()
    }

    fn recall_at(&self, precision: f64) -> f64 {
        let enough = self
            .curve()
            .into_iter()
            .filter(|point| point.1 >= precision);
        enough.map(|point| point.0).fold(0.0, f64::max)
    }

    fn auroc(&self) -> f64 {
        let (mut above, mut pairs) = (0.0, 0.0);
        for (i, &p) in self
            .scores
            .iter()
            .enumerate()
            .filter(|(i, _)| self.labels[*i])
        {
            for (j, &n) in self
                .scores
                .iter()
                .enumerate()
                .filter(|(j, _)| !self.labels[*j])
            {
                debug_assert_ne!(i, j);
                pairs += 1.0;
                above += if p > n {
                    1.0
                } else {
                    f64::from(u8::from(p == n)) / 2.0
                };
            }
        }
        above / pairs
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    /// Scores that are exact in the histogram: multiples of its bins.
    #[test]
    fn ranking_is_that_of_all_pairs_and_thresholds(
        data in prop::collection::vec((-60i32..60, any::<bool>()), 2..120), spread in prop::sample::select(vec![1i32, 7, 100]),
    ) {
        let (mut data, spread) = (data, spread as f32 / 512.0);
        data[0].1 = true;
        data[1].1 = false;
        let logits: Vec<f32> = data.iter().map(|&(score, _)| score as f32 * spread).collect();
        let labels: Vec<i8> = data.iter().map(|&(_, label)| i8::from(label)).collect();
        let metrics = tally(1, &logits, &labels).metrics();
        let naive = Naive {
            labels: data.iter().map(|of| of.1).collect(),
            scores: logits.iter().copied().map(f64::from).collect(),
        };
        let of = |positive: bool| naive.labels.iter().filter(move |label| **label == positive).count() as f64;
        let (tp, called) = naive.called(0.0);
        let tn = of(false) - (called - tp);
        let expected = [
            ("average_precision", naive.area(|_, to| to.1)),
            ("pr_auc_trapezoid", naive.area(|from, to| (from.1 + to.1) / 2.0)),
            ("auroc", naive.auroc()),
            ("accuracy", (tp + tn) / (of(true) + of(false))),
            ("balanced_accuracy", (tp / of(true) + tn / of(false)) / 2.0),
            ("majority_accuracy", of(true).max(of(false)) / (of(true) + of(false))),
            ("recall_at_fdr_5", naive.recall_at(0.95)),
            ("recall_at_fdr_10", naive.recall_at(0.9)),
            ("recall_at_fdr_20", naive.recall_at(0.8)),
        ];
        for (name, expected) in expected {
            let value = metrics.value(name).unwrap();
            prop_assert!((value - expected).abs() < 1e-12, "{} {}, not {}", name, value, expected);
        }
    }

    /// Against the formulas in double precision, also where exp is nothing or too much.
    #[test]
    fn loss_and_dice_are_those_of_double_precision(
        data in prop::collection::vec((-110f32..110.0, -1i8..2), 1..1500), scale in prop::sample::select(vec![0.01f32, 0.1, 1.0]),
    ) {
        let (logits, labels): (Vec<f32>, Vec<i8>) = data.into_iter().map(|(z, y)| (z * scale, y)).unzip();
        let (mut loss, mut overlap, mut total, mut known) = (0.0, 0.0, 0.0, 0.0);
        for (&logit, &label) in logits.iter().zip(&labels).filter(|(_, label)| **label >= 0) {
            let (z, y) = (f64::from(logit), f64::from(label));
            loss += z.max(0.0) + (-z.abs()).exp().ln_1p() - y * z;
            overlap += y * f64::from(sigmoid(logit));
            total += y + f64::from(sigmoid(logit));
            known += 1.0;
        }
        let metrics = tally(7, &logits, &labels).metrics();
        if known > 0.0 {
            for (name, expected) in [("loss", loss / known), ("dice_coef", (2.0 * overlap + 1.0) / (total + 1.0))] {
                let value = metrics.value(name).unwrap();
                prop_assert!((value - expected).abs() <= 3e-7 * expected.abs(), "{} {}, not {}", name, value, expected);
            }
        } else {
            prop_assert_eq!(metrics.value("loss"), None);
        }
    }
}

/// `cargo test --release --lib nanoseconds -- --ignored --nocapture`
#[test]
#[ignore = "a measurement"]
fn nanoseconds_a_label() {
    const LABELS: usize = 64 * 10_240;
    for (targets, places) in [(1, 10_240), (919, 1)] {
        let labels = LABELS / (targets * places) * targets * places;
        let hash = |i: usize| (i as u32).wrapping_mul(0x9E37_79B1) >> 8;
        let y: Vec<i8> = (0..labels).map(|i| i8::from(hash(i) % 50 == 0)).collect();
        let z: Vec<f32> = (0..labels)
            .map(|i| (hash(i + 7) % 1000) as f32 / 100.0 - 9.0)
            .collect();
        let mut tally = Tally::new(Shape {
            targets,
            ..shape(places)
        });
        let mut times: Vec<f64> = (0..21)
            .map(|_| {
                let began = Instant::now();
                tally.add(black_box(&z), black_box(&y));
                began.elapsed().as_nanos() as f64 / labels as f64
            })
            .collect();
        times.sort_by(f64::total_cmp);
        println!(
            "{targets} targets of {places} places: {:.2} ns a label",
            times[10]
        );
    }
}
