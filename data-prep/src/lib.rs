//! From genome files to the windows a trainer reads, and from predictions back to genome tracks.
//!
//! [`schema`] is the HDF5 contract and stands alone; [`motif_file`] is behind the feature `motifs`, and the rest, which
//! reads genome files, behind `genome`.

pub mod partial;
pub mod schema;

#[cfg(feature = "genome")]
mod bigwig;
#[cfg(feature = "genome")]
pub mod context;
#[cfg(feature = "motifs")]
#[cfg_attr(not(feature = "genome"), allow(dead_code))] // what only genome files need
mod error;
#[cfg(feature = "genome")]
pub mod export;
#[cfg(feature = "genome")]
mod fasta;
#[cfg(feature = "genome")]
pub mod inspect;
#[cfg(feature = "genome")]
mod intervals;
#[cfg(feature = "genome")]
mod made;
#[cfg(feature = "genome")]
pub mod make;
#[cfg(feature = "genome")]
mod motif;
#[cfg(feature = "motifs")]
pub mod motif_file;
#[cfg(feature = "genome")]
mod named;
#[cfg(feature = "genome")]
mod outputs;
#[cfg(feature = "genome")]
mod peaks;
#[cfg(feature = "genome")]
mod plan;
#[cfg(feature = "genome")]
mod recipe;
#[cfg(feature = "genome")]
mod regions;
#[cfg(feature = "genome")]
mod signal;
#[cfg(feature = "genome")]
pub mod simulate;
#[cfg(feature = "motifs")]
#[cfg_attr(not(feature = "genome"), allow(dead_code))] // as of `error`
mod text;

#[cfg(feature = "motifs")]
pub use error::Error;
#[cfg(feature = "genome")]
pub use made::Made;
