//! From genome files to the windows a trainer reads, and from predictions back to genome tracks.
//!
//! [`schema`] is the HDF5 contract and stands alone; the rest reads genome files and is behind the
//! feature `genome`.

pub mod partial;
pub mod schema;
