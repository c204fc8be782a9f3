//! Ranks under any MPI library, through host memory.

use std::{cell::RefCell, io::Write, process};

use anyhow::{Result, ensure};
use mpi::{
    Threading,
    collective::SystemOperation,
    datatype::PartitionMut,
    environment::{self, Universe},
    topology::SimpleCommunicator,
    traits::*,
};

use super::Comm;

pub struct Mpi {
    // Dropping it calls MPI_Finalize, so it must outlive every communicator below.
    _universe: Universe,
    world: SimpleCommunicator,
    local_rank: usize,
    local_size: usize,
    host: String,
    /// MPI_IN_PLACE is not in rsmpi: a reduction needs a second buffer.
    scratch: RefCell<Vec<f32>>,
}

impl Mpi {
    /// Starts MPI. From here on a panic on any rank aborts the whole job: `Universe` would otherwise call
    /// MPI_Finalize while unwinding and wait for ranks that sit in a collective.
    pub fn start() -> Result<Self> {
        let (universe, threading) = environment::initialize_with_threading(Threading::Funneled)
            .expect("MPI is started once");
        ensure!(
            threading >= Threading::Funneled,
            "the MPI library grants only {threading:?}; this program reads data in a second thread and needs Funneled"
        );
        let world = universe.world();
        let local = world.split_shared(world.rank());
        let host = environment::processor_name().unwrap_or_else(|_| "unknown host".into());
        let (local_rank, local_size) = (local.rank() as usize, local.size() as usize);
        drop(local);
        Ok(Self {
            _universe: universe,
            world,
            local_rank,
            local_size,
            host,
            scratch: RefCell::default(),
        })
    }

    /// Ends all ranks.
    pub fn abort(code: i32) -> ! {
        let _ = std::io::stderr().flush();
        if environment::is_initialized() && !environment::is_finalized() {
            SimpleCommunicator::world().abort(code)
        }
        process::exit(code)
    }
}

impl Comm for Mpi {
    fn rank(&self) -> usize {
        self.world.rank() as usize
    }
    fn size(&self) -> usize {
        self.world.size() as usize
    }
    fn local_rank(&self) -> usize {
        self.local_rank
    }
    fn local_size(&self) -> usize {
        self.local_size
    }
    fn host(&self) -> &str {
        &self.host
    }

    fn sum_f32(&self, values: &mut [f32]) {
        let mut scratch = self.scratch.borrow_mut();
        scratch.clear();
        scratch.extend_from_slice(values);
        self.world
            .all_reduce_into(&scratch[..], values, SystemOperation::sum());
    }

    fn sum_f64(&self, values: &mut [f64]) {
        let own = values.to_vec();
        self.world
            .all_reduce_into(&own[..], values, SystemOperation::sum());
    }

    fn sum_u64(&self, values: &mut [u64]) {
        let own = values.to_vec();
        self.world
            .all_reduce_into(&own[..], values, SystemOperation::sum());
    }

    fn broadcast(&self, bytes: &mut [u8]) {
        self.world.process_at_rank(0).broadcast_into(bytes);
    }

    fn gather_f32(&self, values: &[f32]) -> Vec<Vec<f32>> {
        let root = self.world.process_at_rank(0);
        let count = values.len() as i32;
        if self.rank() != 0 {
            root.gather_into(&count);
            root.gather_varcount_into(values);
            return Vec::new();
        }
        let mut counts = vec![0i32; self.size()];
        root.gather_into_root(&count, &mut counts[..]);
        let starts: Vec<i32> = counts
            .iter()
            .scan(0, |next, &count| {
                let start = *next;
                *next += count;
                Some(start)
            })
            .collect();
        let mut all = vec![0f32; counts.iter().map(|&count| count as usize).sum()];
        root.gather_varcount_into_root(
            values,
            &mut PartitionMut::new(&mut all[..], counts.clone(), &starts[..]),
        );
        let mut rest = &all[..];
        counts
            .iter()
            .map(|&count| {
                let (own, others) = rest.split_at(count as usize);
                rest = others;
                own.to_vec()
            })
            .collect()
    }

    fn barrier(&self) {
        self.world.barrier();
    }
}
