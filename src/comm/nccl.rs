//! placeholder
use super::Comm;
use anyhow::{Result, bail};
use std::path::Path;
use tch::Tensor;
pub struct Nccl;
impl Nccl {
    pub fn is_there() -> bool {
        false
    }
    pub fn start(_: &dyn Comm, _: Option<&Path>, _: Option<usize>) -> Result<Self> {
        bail!("built without NCCL")
    }
    pub fn sum(&self, _: &Tensor, _: &Tensor) -> Result<()> {
        Ok(())
    }
}
