//! From genome files to the windows a trainer reads, and from predictions back to genome tracks.
//!
//! [`schema`] is the HDF5 contract and stands alone; the rest reads genome files and is behind the
//! feature `genome`.

pub mod partial;
pub mod schema;

macro_rules! genome_modules {
    ($($visibility:vis mod $name:ident;)*) => {
        $(#[cfg(feature = "genome")] $visibility mod $name;)*
    };
}

genome_modules! {
    mod bigwig;
    mod error;
    pub mod export;
    mod fasta;
    pub mod inspect;
    mod intervals;
    pub mod make;
    mod motif;
    mod named;
    mod peaks;
    mod plan;
    mod regions;
    mod signal;
    pub mod simulate;
    mod text;
}

#[cfg(feature = "genome")]
pub use error::Error;
