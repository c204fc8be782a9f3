//! The program from outside, on small genome files.

mod context;
mod errors;
mod export;
mod make;
mod real;
mod simulate;
mod support;
mod targets;
