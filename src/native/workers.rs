//! Threads of a rank: each has its own windows of a batch, always the same ones.

use std::ops::Range;

use rayon::{ThreadPool, ThreadPoolBuilder};

use super::windows;

pub struct Workers {
    pool: Option<ThreadPool>,
    threads: usize,
}

impl Workers {
    pub fn new(threads: usize) -> Self {
        let pool = (threads > 1).then(|| {
            let pool = ThreadPoolBuilder::new().num_threads(threads).build();
            pool.expect("threads can be started")
        });
        Self { pool, threads }
    }

    /// `work(worker, its windows)` on all workers; returns when all are done.
    pub fn each(&self, batch: usize, work: impl Fn(usize, Range<usize>) + Sync) {
        match &self.pool {
            None => work(0, 0..batch),
            Some(pool) => {
                pool.broadcast(|thread| {
                    work(thread.index(), windows(batch, thread.index(), self.threads))
                });
            }
        }
    }
}
