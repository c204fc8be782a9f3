//! One binary for all integration tests: libtorch is linked once.

mod bases;
mod common;
mod context;
mod demo;
mod doctor;
mod failure;
mod forms;
mod golden;
mod journey;
mod models;
#[cfg(feature = "nccl")]
mod nccl;
mod pbs;
mod ranks;
mod resume;
mod scaling;
mod stop;
mod sweep;
mod targets;
mod verify;
mod windows;
