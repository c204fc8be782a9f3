//! The HDF5 files shared by preparation, training and export.

mod check;
mod context;
mod error;
mod predictions;
mod reader;
mod rows;
mod split;
mod store;
mod task;
mod writer;

use std::ops::Range;

use half::f16;
use hdf5::H5Type;

pub use context::{ContextWriter, Stretch};
pub use error::Error;
pub use predictions::{PredictionFile, PredictionHeader, PredictionWriter};
pub use reader::DataFile;
pub use split::Split;
pub use store::schema_of;
pub use task::{Central, Task};
pub use writer::DataWriter;

pub const WINDOWS: &str = "tfbind-mpi/windows";
pub const PREDICTIONS: &str = "tfbind-mpi/predictions";
/// The newest version, which brought the tasks of a central base; a file of another task says 1, as it always did.
pub const VERSION: u32 = 2;

/// Base code of N; 0..=3 are A C G T.
pub const N: u8 = 4;
/// Set in a base code where the genome is soft-masked (lower case).
pub const SOFT_MASKED: u8 = 0x80;
/// The label of a position that neither the loss nor a metric may count.
pub const MASKED: i8 = -1;

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
    /// Of each target: what it is one of (TF, DNase, histone), or empty.
    pub groups: Vec<String>,
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

    /// 1 where a label is 0 or 1, else how many values it has.
    pub fn classes(&self) -> usize {
        self.task.classes()
    }
}

/// The bases of a window of one label that the label is of: the central `bin`, or all of them.
pub fn labelled(length: usize, bin: Option<usize>) -> Range<usize> {
    let bin = bin.unwrap_or(length);
    let first = (length - bin) / 2;
    first..first + bin
}

/// Where a window lies: `start` is 0-based and excludes the margin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, H5Type)]
#[repr(C)]
pub struct Locus {
    pub contig: u32,
    pub start: i64,
    pub strand: i8,
}

/// Sums over a split: labels over all targets, missing bases over all tracks. Labels that are bases are neither
/// positive nor negative, and counted by base.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    pub windows: u64,
    pub positives: u64,
    pub negatives: u64,
    pub masked: u64,
    pub missing_bases: u64,
    pub bases: [u64; 4],
}

/// One window; row-major `signal` [tracks, width] and `label` [targets, label_len].
#[derive(Debug, Clone, PartialEq)]
pub struct Window {
    pub seq: Vec<u8>,
    pub signal: Vec<f16>,
    pub label: Vec<i8>,
    pub locus: Locus,
}
