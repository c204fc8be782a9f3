//! Rows that stay in memory once they were read: of a small split every epoch but the first is then free of HDF5, which
//! takes its time for a row however short. An epoch of 1000 rows of 10 bases: the first 0.19 s, later ones 0.014 s,
//! training included (two busy cores).

use std::sync::OnceLock;

use half::f16;
use tfbind_prep::schema::{Error, Split, Task};

use super::Windows;
use crate::feed::Resident;

/// Of a split, as it is kept. A larger one is read again in every epoch: memory does not grow with the genome.
const MOST_BYTES: u64 = 64 << 20;

/// What a row takes beside its values: its place, three lengths, and what the allocator adds to three boxes.
const ROW_BYTES: u64 = 128;

#[derive(Default)]
pub struct Kept(Vec<OnceLock<Row>>);

/// Codes, signal and labels.
type Row = (Box<[u8]>, Box<[f16]>, Box<[i8]>);

fn fits(bytes: u64, rows: usize) -> bool {
    bytes + rows as u64 * ROW_BYTES <= MOST_BYTES
}

impl Kept {
    /// Nothing yet, and nothing ever of a large split, or of one whose sequence is in memory already.
    pub fn of(windows: &Windows) -> Self {
        let cut = matches!(windows.header.task, Task::Central(_));
        let rows = windows.num_rows();
        let rows = match !cut && fits(Resident::bytes(windows), rows) {
            true => rows,
            false => 0,
        };
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::tests::{hidden, windows};
    use tfbind_prep::schema::Central;

    #[test]
    fn rows_are_kept_where_that_saves_reading_and_is_small() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(Kept::of(&windows(folder.path())).0.len(), 2);
        let cut = hidden(folder.path(), Central::Base);
        assert!(Kept::of(&cut).0.is_empty());
        // A million rows of ten values are ten megabytes, and more than a hundred beside them.
        assert!(fits(10 << 20, 1 << 18) && !fits(10 << 20, 1 << 20));
    }
}
