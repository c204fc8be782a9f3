//! Values that no sound file holds, found as a window is read.

use half::f16;

use super::{Error, N, SOFT_MASKED, Split};

impl Split {
    pub(super) fn check_codes(&self, row: usize, codes: &[u8]) -> Result<(), Error> {
        // Folding first lets the check of a sound window run without a branch per base.
        let wrong = |code: u8| code & !SOFT_MASKED > N;
        if !codes.iter().fold(false, |any, &code| any | wrong(code)) {
            return Ok(());
        }
        let column = codes
            .iter()
            .position(|&code| wrong(code))
            .unwrap_or_default();
        let (path, split, found) = (self.path.clone(), self.name.clone(), codes[column]);
        Err(Error::Base {
            path,
            split,
            row,
            column,
            found,
        })
    }

    pub(super) fn check_signal(&self, row: usize, values: &[f16]) -> Result<(), Error> {
        const EXPONENT: u16 = 0x7C00;
        let wrong = |value: f16| value.to_bits() & EXPONENT == EXPONENT;
        if !values.iter().fold(false, |any, &value| any | wrong(value)) {
            return Ok(());
        }
        let at = values
            .iter()
            .position(|&value| wrong(value))
            .unwrap_or_default();
        Err(Error::Signal {
            path: self.path.clone(),
            split: self.name.clone(),
            row,
            track: self.tracks[at / self.width].clone(),
            column: at % self.width,
            found: values[at].to_f32(),
        })
    }

    pub(super) fn check_labels(&self, row: usize, labels: &[i8]) -> Result<(), Error> {
        let wrong = |label: i8| !(-1..=1).contains(&label);
        if !labels.iter().fold(false, |any, &label| any | wrong(label)) {
            return Ok(());
        }
        let at = labels
            .iter()
            .position(|&label| wrong(label))
            .unwrap_or_default();
        Err(Error::Label {
            path: self.path.clone(),
            split: self.name.clone(),
            row,
            target: self.targets[at / self.label_len].clone(),
            column: at % self.label_len,
            found: labels[at],
        })
    }
}
