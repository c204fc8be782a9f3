//! One binary for all integration tests: libtorch is linked once.

mod common;
mod failure;
mod golden;
mod journey;
mod models;
mod ranks;
mod resume;
