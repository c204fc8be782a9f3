//! Ends a job that stands still. While ranks wait for each other they ask around who is missing; while MPI moves data
//! and cannot be asked, a second thread looks at the clock.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

use mpi::{request::Request, topology::SimpleCommunicator, traits::*};

use super::{ffi::end_now, mpi::end_job};

/// Messages besides collectives: a rank that has waited too long asks, one that waits answers.
const QUESTION: i32 = 7001;
const ANSWER: i32 = 7002;
/// How long answers may take: waiting ranks look for questions every `LOOK`.
const ANSWERS_WITHIN: Duration = Duration::from_secs(2);
const LOOK: Duration = Duration::from_millis(10);
/// Waiting ranks give their core away at every turn, and after this sleep between turns.
const AWAKE: Duration = Duration::from_millis(2);
const NAP: Duration = Duration::from_micros(50);

/// What is being summed, sent or awaited, and for which step.
#[derive(Clone, Copy, Debug, Default)]
pub struct Place {
    pub what: &'static str,
    pub step: u64,
}

/// The place of this process, for the lines that end it.
static PLACE: Mutex<Place> = Mutex::new(Place { what: "", step: 0 });

pub fn set_place(place: Place) {
    *PLACE.lock().expect("no holder panics") = place;
}

pub fn place() -> Place {
    PLACE.try_lock().map(|place| *place).unwrap_or_default()
}

pub struct Watch {
    world: SimpleCommunicator,
    hosts: Vec<String>,
    timeout: Duration,
    /// When the present blocking call began.
    blocking: Arc<Mutex<Option<Instant>>>,
}

impl Watch {
    pub fn new(world: SimpleCommunicator, hosts: Vec<String>, timeout: Duration) -> Self {
        let watch = Self {
            world,
            hosts,
            timeout,
            blocking: Arc::default(),
        };
        let blocking = watch.blocking.clone();
        let (rank, host) = (watch.rank(), watch.hosts[watch.rank()].clone());
        let tick = (timeout / 4).min(Duration::from_secs(1));
        thread::spawn(move || {
            // Ticks, not the clock: a process that was itself stopped must not accuse others when it goes on.
            let (mut last, mut waited) = (None, Duration::ZERO);
            loop {
                thread::sleep(tick);
                let began = *blocking.lock().expect("no holder panics");
                waited = match began == last {
                    true => waited + tick,
                    false => Duration::ZERO,
                };
                last = began;
                if began.is_some() && waited > timeout {
                    end_stuck(rank, &host, timeout);
                }
            }
        });
        watch
    }

    fn rank(&self) -> usize {
        self.world.rank() as usize
    }

    /// Runs a call in which MPI blocks.
    pub fn blocking<T>(&self, call: impl FnOnce() -> T) -> T {
        let set = |to| *self.blocking.lock().expect("no holder panics") = to;
        set(Some(Instant::now()));
        let result = call();
        set(None);
        result
    }

    /// Returns when all ranks have come to their collective number `count`; ends the job if one does not in time.
    pub fn arrive(&self, count: u64) {
        let mut began = Instant::now();
        let mut looked = began;
        let mut barrier: Request<'static, ()> = self.world.immediate_barrier();
        loop {
            match barrier.test() {
                Ok(_) => return,
                Err(pending) => barrier = pending,
            }
            thread::yield_now();
            let waited = began.elapsed();
            if waited > AWAKE {
                thread::sleep(NAP);
            }
            if looked.elapsed() > LOOK {
                self.answer(count);
                looked = Instant::now();
            }
            if waited > self.timeout {
                self.call_the_roll(count);
                began = Instant::now();
            }
        }
    }

    /// Tells those who ask that this rank has come to its collective `count`.
    fn answer(&self, count: u64) {
        while let Some(asked) = self.world.any_process().immediate_probe_with_tag(QUESTION) {
            let asker = self.world.process_at_rank(asked.source_rank());
            asker.receive_with_tag::<u64>(QUESTION);
            asker.send_with_tag(&count, ANSWER);
        }
    }

    /// Asks everyone, and ends the job naming those who are silent; returns if the last has just come.
    fn call_the_roll(&self, count: u64) {
        let (own, size) = (self.rank(), self.hosts.len());
        for rank in (0..size).filter(|&rank| rank != own) {
            let process = self.world.process_at_rank(rank as i32);
            process.send_with_tag(&count, QUESTION);
        }
        let mut missing: BTreeSet<usize> = (0..size).filter(|&rank| rank != own).collect();
        let began = Instant::now();
        while began.elapsed() < ANSWERS_WITHIN && !missing.is_empty() {
            self.answer(count);
            while let Some(status) = self.world.any_process().immediate_probe_with_tag(ANSWER) {
                let process = self.world.process_at_rank(status.source_rank());
                let (theirs, _) = process.receive_with_tag::<u64>(ANSWER);
                if theirs >= count {
                    missing.remove(&(status.source_rank() as usize));
                }
            }
            thread::sleep(Duration::from_millis(1));
        }
        if missing.is_empty() {
            return;
        }
        // Of those who wait, the first speaks for all.
        let first = (0..size).find(|rank| !missing.contains(rank));
        if first != Some(own) {
            thread::sleep(ANSWERS_WITHIN);
        }
        let Place { what, step } = place();
        let named: Vec<String> = missing
            .iter()
            .map(|&rank| format!("rank {rank} on {}", self.hosts[rank]))
            .collect();
        let cause = format!(
            "stalled for {:.0} s waiting for {what} (step {step}): {} did not arrive; see what holds it up there, or raise \
             --stall-timeout",
            self.timeout.as_secs_f64(),
            named.join(", ")
        );
        end_job(own, &self.hosts[own], &cause)
    }
}

/// Everyone had arrived, yet MPI does not return: the network, or a rank stopped in the middle of it. Called beside the
/// main thread, so without MPI; the launcher ends the other ranks when it sees this one go.
fn end_stuck(rank: usize, host: &str, timeout: Duration) -> ! {
    let Place { what, step } = place();
    eprintln!(
        "error: rank {rank} on {host}: stalled for {:.0} s within {what} (step {step}): all ranks had arrived, then one \
         stopped or the network did; or raise --stall-timeout",
        timeout.as_secs_f64()
    );
    end_now(1)
}
