//! What decides which checkpoint is best.

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use super::word;

/// What decides which checkpoint is best and when to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "snake_case")]
#[value(rename_all = "snake_case")]
pub enum Metric {
    Loss,
    PrAuc,
    AveragePrecision,
    Auroc,
    DiceCoef,
    BinaryIoU,
    /// Share of the labels called right; of windows only, as nearly all bases are negative
    Accuracy,
    /// Mean over the classes of the share called right
    BalancedAccuracy,
    /// Over the targets
    MedianAuroc,
    /// Over the targets
    MedianAveragePrecision,
    /// Mean over the ranks of each one's own pr_auc, which is not the pr_auc of the data; for comparison
    RankMeanPrAuc,
}

impl Metric {
    pub fn name(self) -> String {
        word(self)
    }

    /// Whether `new` is better than `old`; a metric that is undefined or not finite is none.
    pub fn better(self, new: Option<f64>, old: Option<f64>) -> bool {
        let finite = |value: Option<f64>| value.filter(|value| value.is_finite());
        match (finite(new), finite(old)) {
            (Some(new), Some(old)) => {
                if self == Metric::Loss {
                    new < old
                } else {
                    new > old
                }
            }
            (Some(_), None) => true,
            (None, _) => false,
        }
    }

    /// Whether `value` is as good as `target`.
    pub fn reaches(self, value: Option<f64>, target: f64) -> bool {
        value.is_some_and(f64::is_finite) && !self.better(Some(target), value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_finite_is_never_best() {
        let nan = Some(f64::NAN);
        for (metric, low_is_good) in [(Metric::Loss, true), (Metric::PrAuc, false)] {
            assert!(!metric.better(nan, None) && !metric.better(nan, Some(0.5)));
            assert!(metric.better(Some(0.5), nan) && metric.better(Some(0.5), None));
            assert!(!metric.better(Some(f64::INFINITY), None));
            assert!(!metric.reaches(nan, 0.5) && !metric.reaches(None, 0.5));
            assert!(metric.reaches(Some(0.5), 0.5));
            assert_eq!(metric.better(Some(0.4), Some(0.5)), low_is_good);
            assert_eq!(metric.reaches(Some(0.6), 0.5), !low_is_good);
        }
    }
}
