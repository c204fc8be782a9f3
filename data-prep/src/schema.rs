//! The HDF5 files shared by preparation, training and export (schema version 1).

mod check;
mod error;
mod predictions;
mod reader;
mod rows;
mod store;
mod writer;

use std::fmt;
use std::str::FromStr;

use half::f16;
use hdf5::H5Type;

pub use error::Error;
pub use predictions::{PredictionFile, PredictionHeader, PredictionWriter};
pub use reader::{DataFile, Split};
pub use store::schema_of;
pub use writer::DataWriter;

pub const WINDOWS: &str = "tfbind-mpi/windows";
pub const PREDICTIONS: &str = "tfbind-mpi/predictions";
pub const VERSION: u32 = 1;

/// Base code of N; 0..=3 are A C G T.
pub const N: u8 = 4;
/// Set in a base code where the genome is soft-masked (lower case).
pub const SOFT_MASKED: u8 = 0x80;
/// The label of a position that neither the loss nor a metric may count.
pub const MASKED: i8 = -1;

/// Whether every base of a window has a label, or the window has one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Task {
    PerBase,
    PerWindow,
}

impl Task {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::PerBase => "per-base",
            Self::PerWindow => "per-window",
        }
    }

    /// Labels per window and target, for windows of `length` bases.
    pub fn label_len(self, length: usize) -> usize {
        match self {
            Self::PerBase => length,
            Self::PerWindow => 1,
        }
    }
}

impl fmt::Display for Task {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Task {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "per-base" => Ok(Self::PerBase),
            "per-window" => Ok(Self::PerWindow),
            _ => Err(format!("`{text}` is not a task: per-base or per-window")),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contig {
    pub name: String,
    pub size: u64,
}

/// What holds for every window of a data file.
#[derive(Debug, Clone, PartialEq)]
pub struct Header {
    pub task: Task,
    /// Bases of a window that are predicted.
    pub length: usize,
    /// Bases of context on each side that are seen and not predicted.
    pub margin: usize,
    pub genome: String,
    pub contigs: Vec<Contig>,
    pub tracks: Vec<String>,
    pub targets: Vec<String>,
    pub normalise: String,
    pub missing: String,
    /// What was asked of the preparation, as TOML.
    pub recipe: String,
    pub recipe_hash: String,
}

impl Header {
    pub fn label_len(&self) -> usize {
        self.task.label_len(self.length)
    }

    pub fn width(&self) -> usize {
        self.length + 2 * self.margin
    }
}

/// Where a window lies: `start` is 0-based and excludes the margin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, H5Type)]
#[repr(C)]
pub struct Locus {
    pub contig: u32,
    pub start: i64,
    pub strand: i8,
}

/// Sums over a split: labels over all targets, missing bases over all tracks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    pub windows: u64,
    pub positives: u64,
    pub negatives: u64,
    pub masked: u64,
    pub missing_bases: u64,
}

/// One window; row-major `signal` [tracks, width] and `label` [targets, label_len].
#[derive(Debug, Clone, PartialEq)]
pub struct Window {
    pub seq: Vec<u8>,
    pub signal: Vec<f16>,
    pub label: Vec<i8>,
    pub locus: Locus,
}
