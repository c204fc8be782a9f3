//! A loss or gradient that is not finite: which rows, on which ranks.

use std::{error::Error, fmt};

use anyhow::Result;
use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use tch::{Device, Tensor};

use crate::{
    checkpoint::Progress,
    comm::{Comm, Solo, gather_lines},
    data::Rows,
    engine::Engine,
    timeline::Timeline,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum NonFinite {
    /// Save the state before the step and end
    Stop,
    /// Leave the step out and go on, at most ten times in a row
    Skip,
}

/// The end of a run whose loss or gradient is not finite: the same on all its ranks.
#[derive(Debug)]
pub struct Diverged {
    /// Before the step, as saved.
    pub progress: Progress,
    pub why: String,
    /// Whether leaving the step out is still to be tried.
    pub may_skip: bool,
}

impl fmt::Display for Diverged {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let or = match self.may_skip {
            true => " or with --non-finite skip",
            false => "",
        };
        write!(
            f,
            "{}; saved as before the step: --resume with a lower --lr, with --clip-norm{or}",
            self.why
        )
    }
}

impl Error for Diverged {}

/// Steps left out in a row after which a run ends: the rows are not to blame.
pub const SKIPS_IN_A_ROW: u64 = 10;

/// On rank 0, in words, the rows of the step whose own loss or gradient is not finite. Each row is computed alone;
/// overwrites the gradients.
pub fn culprits(
    comm: &dyn Comm,
    engine: &mut dyn Engine,
    gradients: &Tensor,
    held: &[Rows],
) -> Result<String> {
    let (mut bad, mut all) = (Vec::new(), 0);
    let mut timeline = Timeline::new(&Solo, Device::Cpu, false);
    let mut gradients = gradients.shallow_clone();
    for rows in held {
        for i in 0..rows.len() {
            let row = rows.one(i);
            let _ = gradients.zero_();
            let (loss, _) = engine.gradients(&row, &mut timeline, &|_| {})?;
            all += 1;
            if !(loss.is_finite() && gradients.norm().double_value(&[]).is_finite()) {
                bad.push(row.draws[0].row.to_string());
            }
        }
    }
    let line = match bad.len() {
        0 => String::new(),
        count if count == all => format!("all {all} rows of rank {}", comm.rank()),
        _ => format!("row {} on rank {}", bad.join(", "), comm.rank()),
    };
    let mut total = [bad.len() as f64, f64::from(all as u32)];
    comm.sum_f64(&mut total);
    let named = gather_lines(comm, &line)
        .into_iter()
        .filter(|line| !line.is_empty());
    Ok(match total {
        [0.0, _] => "no training row alone, only the rows together".into(),
        [bad, all] if bad == all => {
            "every training row of the step: the weights have diverged".into()
        }
        _ => format!("training {}", named.collect::<Vec<_>>().join("; ")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{data::Draw, model::SumOverRanks};

    /// Loss is infinite for row 7, the gradient for row 8.
    struct Fake(Tensor);

    impl Engine for Fake {
        fn gradients(
            &mut self,
            rows: &Rows,
            _: &mut Timeline,
            _: SumOverRanks,
        ) -> Result<(f64, f64)> {
            let has = |row| rows.draws.iter().any(|draw| draw.row == row);
            if has(8) {
                let _ = self.0.fill_(f64::NAN);
            }
            Ok((if has(7) { f64::INFINITY } else { 1.0 }, 1.0))
        }
        fn logits(&mut self, _: &Rows) -> Result<Vec<f32>> {
            Ok(Vec::new())
        }
    }

    #[test]
    fn the_rows_that_did_it_are_named() {
        let gradients = Tensor::from_slice(&[0f32; 3]);
        let mut engine = Fake(gradients.shallow_clone());
        let rows = |numbers: &[u32]| Rows {
            draws: numbers.iter().map(|&row| Draw::from(row)).collect(),
            seq: vec![0; numbers.len()],
            signal: Vec::new(),
            label: vec![0; numbers.len()],
            ..Rows::default()
        };
        let mut said = |held: &[Rows]| culprits(&Solo, &mut engine, &gradients, held).unwrap();
        let both = said(&[rows(&[1, 7]), rows(&[8, 2])]);
        assert_eq!(both, "training row 7, 8 on rank 0");
        assert!(said(&[rows(&[7, 8])]).contains("every training row"));
        assert!(said(&[rows(&[1])]).contains("no training row alone"));
    }
}
