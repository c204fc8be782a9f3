//! The program from outside, on small genome files.

mod context;
mod context_errors;
mod errors;
mod export;
mod make;
mod motifs;
mod outputs;
mod real;
mod sequence_files;
mod sequences;
mod simdata;
mod simulate;
mod sources;
mod support;
mod targets;
