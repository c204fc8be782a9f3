//! Training models of transcription-factor binding on 1..N MPI ranks.
//!
//! ```text
//! HDF5 split ─ data ─ loader ─▶ Rows ─ engine ─▶ gradients ─ flat ─▶ comm (sum) ─ optim ─▶ weights ─ checkpoint
//!   sampler ────────────┘                 model ┘                                        └ evaluate, predict ─ report
//! ```
//! `model` knows nothing of MPI or HDF5, `comm` nothing of models or HDF5, `data` nothing of MPI or models' insides;
//! `train` is the only loop. Decisions are made on rank 0, and only it writes.

pub mod apply;
pub mod baseline;
pub mod checkpoint;
pub mod cli;
pub mod comm;
pub mod compute;
pub mod counts;
pub mod data;
pub mod demo;
pub mod device;
pub mod doctor;
pub mod engine;
pub mod evaluate;
pub mod explain;
pub mod feed;
pub mod flat;
pub mod gpu;
pub mod import;
pub mod init;
pub mod job;
pub mod kmer_input;
pub mod loader;
pub mod loss;
pub mod malloc;
pub mod metrics;
pub mod model;
pub mod motif;
pub mod native;
pub mod nonfinite;
pub mod optim;
pub mod plan;
pub mod predict;
pub mod report;
pub mod resume;
pub mod sampler;
pub mod scaling;
pub mod step;
pub mod stop;
pub mod sweep;
pub mod timeline;
pub mod train;
pub mod verify;
pub mod weights;
