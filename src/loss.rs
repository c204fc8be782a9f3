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
