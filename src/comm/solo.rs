//! One process without MPI: every sum is the value itself.

use super::Comm;

pub struct Solo;

impl Comm for Solo {
    fn rank(&self) -> usize {
        0
    }
    fn size(&self) -> usize {
        1
    }
    fn local_rank(&self) -> usize {
        0
    }
    fn local_size(&self) -> usize {
        1
    }
    fn host(&self) -> &str {
        "localhost"
    }
    fn sum_f32(&self, _: &mut [f32]) {}
    fn sum_f64(&self, _: &mut [f64]) {}
    fn sum_u64(&self, _: &mut [u64]) {}
    fn broadcast(&self, _: &mut [u8]) {}
    fn gather_f32(&self, values: &[f32]) -> Vec<Vec<f32>> {
        vec![values.to_vec()]
    }
    fn barrier(&self) {}
}
