//! Rows that stay in memory once they were read: of a small split every epoch but the first is then free of HDF5, which
//! takes its time for a row however short. An epoch of 1000 rows of 10 bases: the first 0.19 s, later ones 0.014 s,
//! training included (two busy cores).

use std::sync::OnceLock;

use half::f16;
use tfbind_prep::schema::{Error, Split};

use super::Windows;
use crate::feed::Resident;

/// Of a split, as it lies in the file. A larger one is read again in every epoch: memory does not grow with the genome.
const MOST_BYTES: u64 = 64 << 20;

#[derive(Default)]
pub struct Kept(Vec<OnceLock<Row>>);

/// Codes, signal and labels.
type Row = (Box<[u8]>, Box<[f16]>, Box<[i8]>);

impl Kept {
    /// Nothing yet, and nothing ever of a large split.
    pub fn of(windows: &Windows) -> Self {
        let keeps = Resident::bytes(windows) <= MOST_BYTES;
        let rows = if keeps { windows.num_rows() } else { 0 };
        Self((0..rows).map(|_| OnceLock::new()).collect())
    }

    /// Appends a row of `split`, as its `read_into` does.
    pub fn read_into(
        &self,
        split: &Split,
        row: usize,
        seq: &mut Vec<u8>,
        signal: &mut Vec<f16>,
        label: &mut Vec<i8>,
    ) -> Result<(), Error> {
        let Some(place) = self.0.get(row) else {
            return split.read_into(row, seq, signal, label);
        };
        if let Some((codes, values, labels)) = place.get() {
            seq.extend_from_slice(codes);
            signal.extend_from_slice(values);
            label.extend_from_slice(labels);
            return Ok(());
        }
        let before = (seq.len(), signal.len(), label.len());
        split.read_into(row, seq, signal, label)?;
        let row = (
            seq[before.0..].into(),
            signal[before.1..].into(),
            label[before.2..].into(),
        );
        // Another thread may have read it meanwhile: the same.
        let _ = place.set(row);
        Ok(())
    }
}
