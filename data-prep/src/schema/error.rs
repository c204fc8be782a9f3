use std::io;
use std::path::PathBuf;

use thiserror::Error;

/// What can be wrong with a data file or a file of predictions.
#[derive(Debug, Error)]
pub enum Error {
    #[error("{path}: no such file")]
    Absent { path: PathBuf },

    #[error("{path}: {source}")]
    Io { path: PathBuf, source: io::Error },

    #[error("{path}: not an HDF5 file (expected its signature in the first 8 bytes of {size})")]
    NotHdf5 { path: PathBuf, size: u64 },

    #[error("{path}: the HDF5 file is cut short or damaged ({reason}); copy or prepare it again")]
    Damaged { path: PathBuf, reason: String },

    #[error("{path}: an HDF5 file without the attribute `schema`, so not made by tfbind-prep")]
    NotOurs { path: PathBuf },

    #[error("{path}: holds `{found}`, expected `{expected}`")]
    WrongSchema {
        path: PathBuf,
        found: String,
        expected: String,
    },

    #[error(
        "{path}: schema version {found}, expected 1 to {expected}; \
         prepare the file again with this version of tfbind-prep, or read it with a newer one"
    )]
    Version {
        path: PathBuf,
        found: u64,
        expected: u32,
    },

    #[error("{path}: attribute `{attribute}` is {found}, expected {expected}")]
    Attribute {
        path: PathBuf,
        attribute: String,
        found: String,
        expected: String,
    },

    #[error("{path}: the dataset `{dataset}` is missing")]
    MissingDataset { path: PathBuf, dataset: String },

    #[error("{path}: dataset `{dataset}` has the shape {found:?}, expected {expected:?}")]
    Shape {
        path: PathBuf,
        dataset: String,
        found: Vec<usize>,
        expected: Vec<usize>,
    },

    #[error("{path}: dataset `{dataset}` holds {found}, expected {expected}")]
    Type {
        path: PathBuf,
        dataset: String,
        found: String,
        expected: String,
    },

    #[error("{path}: there is no split `{split}`; it has {present}")]
    NoSplit {
        path: PathBuf,
        split: String,
        present: String,
    },

    #[error("{path}: split `{split}` has {rows} windows, so there is no row {row}")]
    NoRow {
        path: PathBuf,
        split: String,
        row: usize,
        rows: usize,
    },

    #[error(
        "{path}: split `{split}`, row {row}: base code {found} at column {column}, \
         expected 0..4 with or without bit 7"
    )]
    Base {
        path: PathBuf,
        split: String,
        row: usize,
        column: usize,
        found: u8,
    },

    #[error(
        "{path}: split `{split}`, row {row}: signal {found} in track `{track}` at column {column}, \
         expected a finite number"
    )]
    Signal {
        path: PathBuf,
        split: String,
        row: usize,
        track: String,
        column: usize,
        found: f32,
    },

    #[error(
        "{path}: split `{split}`, row {row}: label {found} for target `{target}` at column \
         {column}, expected 0, 1 or -1"
    )]
    Label {
        path: PathBuf,
        split: String,
        row: usize,
        target: String,
        column: usize,
        found: i8,
    },

    #[error(
        "{path}: split `{split}`: base code {found} at {at} of its sequence, \
         expected 0..3 with or without bit 7"
    )]
    Sequence {
        path: PathBuf,
        split: String,
        at: usize,
        found: u8,
    },

    #[error("{path}: split `{split}`: {problem}; prepare the file again")]
    Index {
        path: PathBuf,
        split: String,
        problem: String,
    },

    #[error("{path}: `{array}` of a window has {found} values, expected {expected}")]
    WindowShape {
        path: PathBuf,
        array: &'static str,
        found: usize,
        expected: usize,
    },

    #[error("{path}: split `{split}`: a masked label in a file created without masked labels")]
    MaskedLabel { path: PathBuf, split: String },

    #[error("{path}: rows {first}..{end} reach past the {rows} windows of the file")]
    Rows {
        path: PathBuf,
        first: usize,
        end: usize,
        rows: usize,
    },

    #[error("{path}: {written} of {rows} windows have {what}; write all before finishing")]
    Unfinished {
        path: PathBuf,
        what: &'static str,
        written: usize,
        rows: usize,
    },

    #[error("{path}: HDF5 failed on {item}: {source}")]
    Hdf5 {
        path: PathBuf,
        item: String,
        source: hdf5::Error,
    },
}
