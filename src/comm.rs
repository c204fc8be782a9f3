//! What ranks say to each other: sums and bytes, from the main thread only, in the same order on every rank.

mod ffi;
mod launched;
mod mpi;
#[cfg_attr(not(feature = "nccl"), path = "comm/no_nccl.rs")]
mod nccl;
mod roll;
mod solo;
mod transport;
mod watch;

pub use ffi::{end_now, floats, floats_mut};
pub use launched::{RANKS, SLURM_RANK, launched_by, rank_from_env};
pub use mpi::{Mpi, end_job, say_alone};
pub use nccl::Nccl;
pub use solo::Solo;
pub use transport::{Transport, TransportChoice};
pub use watch::{place, set_within};

use std::time::Instant;

use anyhow::Result;

/// Every collective first waits until all ranks have come to it, for at most the stall timeout.
pub trait Comm {
    fn rank(&self) -> usize;
    fn size(&self) -> usize;
    /// Rank among the job's ranks of this host, also in a group, and how many they are.
    fn local_rank(&self) -> usize;
    fn local_size(&self) -> usize;
    fn host(&self) -> &str;
    /// What the next collectives are about, for the line that a stall or a panic ends with.
    fn note(&self, what: &'static str, step: u64);
    /// The sum of `own` over the ranks, the same bits on all of them. Out of place: rsmpi has no MPI_IN_PLACE.
    fn sum_into(&self, own: &[f32], sums: &mut [f32]);
    fn sum_f64(&self, values: &mut [f64]);
    fn sum_u64(&self, values: &mut [u64]);
    /// Rank 0's bytes reach everyone; all ranks pass the same length.
    fn broadcast(&self, bytes: &mut [u8]);
    /// On rank 0 the bytes of all ranks, in order of rank; empty elsewhere.
    fn gather(&self, bytes: &[u8]) -> Vec<Vec<u8>>;
    fn barrier(&self);
    /// As `barrier`, but ranks may come hours apart: nobody is missed. One that dies ends the job all the same.
    fn meet(&self);
    /// The group of so many neighbouring ranks that this one is in; all ranks call it.
    fn split(&self, ranks: usize) -> Result<Box<dyn Comm + '_>>;
    /// Runs a call that may wait for other ranks outside of MPI, as the host does for a sum on the GPU.
    fn watched(&self, call: &mut dyn FnMut());
    /// Seconds to add to this rank's time since `start` to get rank 0's time since its own.
    fn clock_offset(&self, start: Instant) -> f64;
}

/// A decision made on rank 0, known to all.
pub fn decide(comm: &dyn Comm, on_root: impl FnOnce() -> bool) -> bool {
    let mut byte = [u8::from(comm.rank() == 0 && on_root())];
    comm.broadcast(&mut byte);
    byte[0] == 1
}

/// Text of rank 0, known to all.
pub fn share_text(comm: &dyn Comm, on_root: impl FnOnce() -> Result<String>) -> Result<String> {
    let text = if comm.rank() == 0 {
        on_root()?
    } else {
        String::new()
    };
    Ok(String::from_utf8(share_bytes(comm, text.into_bytes()))?)
}

/// Rank 0's bytes, known to all, who need not know how many they are.
pub fn share_bytes(comm: &dyn Comm, mut bytes: Vec<u8>) -> Vec<u8> {
    let mut length = (bytes.len() as u64).to_le_bytes();
    comm.broadcast(&mut length);
    bytes.resize(u64::from_le_bytes(length) as usize, 0);
    comm.broadcast(&mut bytes);
    bytes
}

/// One line of each rank, in order of rank, on rank 0.
pub fn gather_lines(comm: &dyn Comm, line: &str) -> Vec<String> {
    let lines = comm.gather(line.as_bytes()).into_iter();
    lines
        .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
        .collect()
}

/// The numbers of each rank, in order of rank, on rank 0.
pub fn gather_f32(comm: &dyn Comm, values: &[f32]) -> Vec<Vec<f32>> {
    let bytes: Vec<u8> = values
        .iter()
        .flat_map(|value| value.to_le_bytes())
        .collect();
    let floats = |bytes: Vec<u8>| {
        let words = bytes.as_chunks::<4>().0.iter();
        words.map(|word| f32::from_le_bytes(*word)).collect()
    };
    comm.gather(&bytes).into_iter().map(floats).collect()
}
