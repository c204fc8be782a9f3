//! What ranks say to each other: sums and bytes, from the main thread only, in the same order on every rank.

mod mpi;
mod solo;

pub use mpi::Mpi;
pub use solo::Solo;

use anyhow::Result;

pub trait Comm {
    fn rank(&self) -> usize;
    fn size(&self) -> usize;
    /// Rank among the ranks of this host, and how many they are.
    fn local_rank(&self) -> usize;
    fn local_size(&self) -> usize;
    fn host(&self) -> &str;
    /// Each element becomes its sum over the ranks, the same bits on all of them.
    fn sum_f32(&self, values: &mut [f32]);
    fn sum_f64(&self, values: &mut [f64]);
    fn sum_u64(&self, values: &mut [u64]);
    /// Rank 0's bytes reach everyone; all ranks pass the same length.
    fn broadcast(&self, bytes: &mut [u8]);
    /// On rank 0 the slices of all ranks, in order of rank; empty elsewhere.
    fn gather_f32(&self, values: &[f32]) -> Vec<Vec<f32>>;
    fn barrier(&self);
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
    let mut length = (text.len() as u64).to_le_bytes();
    comm.broadcast(&mut length);
    let mut bytes = text.into_bytes();
    bytes.resize(u64::from_le_bytes(length) as usize, 0);
    comm.broadcast(&mut bytes);
    Ok(String::from_utf8(bytes)?)
}

/// One line of each rank, in order of rank, on rank 0. Lines are cut at 256 bytes.
pub fn gather_lines(comm: &dyn Comm, line: &str) -> Vec<String> {
    let codes: Vec<f32> = line.bytes().take(256).map(f32::from).collect();
    let text = |codes: Vec<f32>| {
        codes
            .into_iter()
            .map(|code| code as u8)
            .collect::<Vec<u8>>()
    };
    comm.gather_f32(&codes)
        .into_iter()
        .map(|c| String::from_utf8_lossy(&text(c)).into_owned())
        .collect()
}
