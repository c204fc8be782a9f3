//! What the ranks have counted, added up: whole numbers, so that no order of adding is better than another.

use super::Trainer;
use crate::{
    comm::{Comm, share_bytes},
    counts::{ENTRY_BYTES, Seen},
    engine::Net,
    timeline::Phase,
};

/// Of a message; MPI counts bytes in 31 bits.
const MESSAGE: u64 = 64 << 20;

impl Trainer {
    /// What each rank counted since the last call becomes known to all.
    pub fn share_counts(&mut self, comm: &dyn Comm) {
        if let Some(counter) = self.net.engine.counter_mut() {
            let own = counter.take_own();
            let all = sum_over_ranks(comm, own, counter.all_keys());
            counter.add(all);
            self.timeline.lap(Phase::Transfer);
        }
    }
}

/// The counts that rank 0 was given reach everyone.
pub fn share_counts_of_rank_0(comm: &dyn Comm, net: &mut Net) {
    if let Some(counter) = net.engine.counter_mut() {
        let own = counter.take_total();
        let all = sum_over_ranks(comm, own, counter.all_keys());
        counter.add(all);
    }
}

/// A range of keys at a time: rank 0 adds up the entries of all ranks and tells the sum.
fn sum_over_ranks(comm: &dyn Comm, own: Seen, all_keys: u64) -> Seen {
    if comm.size() == 1 {
        return own;
    }
    let mut entries = [own.len() as u64];
    comm.sum_u64(&mut entries);
    let parts = (entries[0] * ENTRY_BYTES as u64).div_ceil(MESSAGE);
    let mut all = Seen::default();
    for part in 0..parts {
        let keys = all_keys * part / parts..all_keys * (part + 1) / parts;
        let mut sum = Seen::default();
        for bytes in comm.gather(&own.to_bytes(&keys)) {
            sum.merge(&Seen::from_bytes(&bytes));
        }
        all.append(&Seen::from_bytes(&share_bytes(comm, sum.to_bytes(&keys))));
    }
    all
}
