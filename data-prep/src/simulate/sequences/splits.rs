use clap::Args;
use rand::seq::SliceRandom;
use serde::Serialize;

use crate::error::Error;
use crate::simulate::stream;

/// Which sequences train, validate and test: drawn at random, whatever their label.
#[derive(Debug, Clone, Args, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct SplitOptions {
    /// Share of the sequences that validates
    #[arg(long, default_value_t = 0.2)]
    valid_share: f64,
    /// Share of the sequences that tests
    #[arg(long, default_value_t = 0.1)]
    test_share: f64,
    /// Number of sequences that validate, instead of a share
    #[arg(long, value_name = "N", conflicts_with = "valid_share")]
    valid_count: Option<usize>,
    /// Number of sequences that test, instead of a share
    #[arg(long, value_name = "N", conflicts_with = "test_share")]
    test_count: Option<usize>,
}

impl SplitOptions {
    /// Train, valid and test, as far as they have any, each with its sequences.
    pub fn draw(&self, num: usize, seed: u64) -> Result<Vec<(&'static str, Vec<usize>)>, Error> {
        let wrong = |text: String| Err(Error::Request(text));
        for (name, share) in [("valid", self.valid_share), ("test", self.test_share)] {
            if !(0.0..=1.0).contains(&share) {
                return wrong(format!("--{name}-share {share}: expected 0 to 1"));
            }
        }
        let number = |count: Option<usize>, share: f64| {
            count.unwrap_or_else(|| (share * num as f64).round() as usize)
        };
        let valid = number(self.valid_count, self.valid_share);
        let test = number(self.test_count, self.test_share);
        if valid.saturating_add(test) >= num {
            return wrong(format!(
                "{valid} sequences to validate and {test} to test: none of {num} is left to train"
            ));
        }
        let mut order: Vec<_> = (0..num).collect();
        order.shuffle(&mut stream(seed, u64::MAX));
        let test = order.split_off(num - test);
        let valid = order.split_off(order.len() - valid);
        let splits = [("train", order), ("valid", valid), ("test", test)];
        let splits = splits.into_iter().filter(|(_, rows)| !rows.is_empty());
        Ok(splits.collect())
    }
}
