//! What training minimises.

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

/// Summed over the labels that are known, then divided by their number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Loss {
    /// Cross-entropy, in nats
    #[default]
    CrossEntropy,
    /// Square of label minus probability
    Mse,
}

impl Loss {
    /// In the log: a metric called loss is the cross-entropy, whatever is minimised.
    pub fn name(self) -> &'static str {
        match self {
            Self::CrossEntropy => "loss",
            Self::Mse => "mse",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{engine::masked_loss, model::Io};
    use tch::Tensor;

    #[test]
    fn each_is_summed_over_known_labels() {
        let io = Io {
            channels: 4,
            length: 3,
            targets: 1,
            per_base: true,
            classes: 1,
        };
        let logits = Tensor::from_slice(&[0.5f64, -2.0, 9.0]).view([1, 1, 3]);
        let labels = Tensor::from_slice(&[1i8, 0, -1]).view([1, 1, 3]);
        let p = [0.5f64, -2.0].map(|z| 1.0 / (1.0 + (-z).exp()));
        let entropy = -(p[0].ln() + (1.0 - p[1]).ln());
        let squares = (1.0 - p[0]).powi(2) + p[1].powi(2);
        for (loss, expected) in [(Loss::CrossEntropy, entropy), (Loss::Mse, squares)] {
            let (sum, valid) = masked_loss(loss, &logits, &labels, io);
            assert_eq!(valid.double_value(&[]), 2.0);
            assert!((sum.double_value(&[]) - expected).abs() < 1e-12, "{loss:?}");
        }
    }
}
