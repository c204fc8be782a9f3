//! Ends a job that stands still. While ranks wait for each other they ask around who is missing; while MPI moves data
//! and cannot be asked, a second thread looks at the clock and asks beside MPI.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

use anyhow::Result;
use mpi::{request::Request, topology::SimpleCommunicator, traits::*};

use super::{
    ffi::end_now,
    mpi::{end_all, say},
    roll::{Answers, Roll},
};

/// Messages besides collectives: a rank that has waited too long asks, one that waits answers.
const QUESTION: i32 = 7001;
const ANSWER: i32 = 7002;
/// How long answers may take: waiting ranks look for questions every `LOOK`.
const ANSWERS_WITHIN: Duration = Duration::from_secs(2);
const LOOK: Duration = Duration::from_millis(10);
/// Once mpirun has something to tell a host that is cut off it waits for ever, also for the end of the job. While nobody
/// ends the job it finds the host out by itself, within a minute with the keepalive that pbs/job.sh sets.
const LAUNCHER_FINDS_OUT: Duration = Duration::from_secs(70);
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
/// What the place is part of, such as a trial.
static WITHIN: Mutex<String> = Mutex::new(String::new());

pub fn set_place(place: Place) {
    *PLACE.lock().expect("no holder panics") = place;
}

pub fn place() -> Place {
    PLACE.try_lock().map(|place| *place).unwrap_or_default()
}

/// Begins the lines that end this process.
pub fn set_within(what: String) {
    *WITHIN.lock().expect("no holder panics") = what;
}

pub fn within() -> String {
    WITHIN.try_lock().map(|of| of.clone()).unwrap_or_default()
}

pub struct Watch {
    world: SimpleCommunicator,
    hosts: Vec<String>,
    /// What the job calls rank 0 of these.
    pub first: usize,
    pub timeout: Duration,
    /// When the present blocking call began.
    blocking: Arc<Mutex<Option<Instant>>>,
    answers: Answers,
}

impl Watch {
    pub fn new(
        world: SimpleCommunicator,
        hosts: Vec<String>,
        first: usize,
        timeout: Duration,
    ) -> Result<Self> {
        let answers = Answers::default();
        let mut roll = Roll::open(&world, answers.clone())?;
        let watch = Self {
            world,
            hosts,
            first,
            timeout,
            blocking: Arc::default(),
            answers,
        };
        let blocking = watch.blocking.clone();
        let (rank, hosts) = (watch.rank(), watch.hosts.clone());
        let tick = (timeout / 4).min(Duration::from_secs(1));
        thread::spawn(move || {
            roll.look_up(&hosts);
            // Ticks, not the clock: a process that was itself stopped must not accuse others when it goes on.
            let (mut last, mut waited) = (None, Duration::ZERO);
            loop {
                roll.call(tick);
                let began = *blocking.lock().expect("no holder panics");
                waited = match began == last {
                    true => waited + tick,
                    false => Duration::ZERO,
                };
                last = began;
                if began.is_some() && waited > timeout {
                    end_stuck(rank, &hosts, first, timeout, &roll);
                }
            }
        });
        Ok(watch)
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
        self.answers.ask();
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
        let alive = self.answers.take();
        if missing.is_empty() {
            return;
        }
        // One that is held up within MPI cannot answer there, but lives: the silent one it waits for is to be named.
        let heard =
            (0..size).all(|rank| rank == own || missing.contains(&rank) || alive.contains(&rank));
        if heard && !alive.is_empty() && !missing.is_subset(&alive) {
            missing.retain(|rank| !alive.contains(rank));
        }
        let Place { what, step } = place();
        let all_others = missing.len() + 1 == size;
        let cause = format!(
            "stalled for {:.0} s waiting for {what} (step {step}): {} did not arrive{}; see what holds it up there, or raise \
             --stall-timeout",
            self.timeout.as_secs_f64(),
            named(&missing, &self.hosts, self.first),
            match all_others && alive.is_empty() && more_than_two(&self.hosts) {
                true => ", and no other host answers: this one may be cut off",
                false => "",
            }
        );
        let patience = patience(&missing, &alive, &self.hosts[own], &self.hosts);
        // Of those who wait, the first speaks for all.
        if (0..size).find(|rank| !missing.contains(rank)) != Some(own) {
            thread::sleep(patience + ANSWERS_WITHIN);
        }
        say(self.first + own, &self.hosts[own], &cause);
        thread::sleep(patience);
        end_all()
    }
}

fn named(ranks: &BTreeSet<usize>, hosts: &[String], first: usize) -> String {
    let named: Vec<String> = ranks
        .iter()
        .map(|&rank| format!("rank {} on {}", first + rank, hosts[rank]))
        .collect();
    named.join(", ")
}

/// Whether a host to which no other answers may take itself for the one cut off: of two, each would.
fn more_than_two(hosts: &[String]) -> bool {
    hosts.iter().collect::<BTreeSet<_>>().len() > 2
}

/// How long to leave the end of the job to the launcher: where all ranks of another host are silent.
fn patience(
    missing: &BTreeSet<usize>,
    alive: &BTreeSet<usize>,
    own: &str,
    hosts: &[String],
) -> Duration {
    let silent = |host: &str| (0..hosts.len()).all(|of| hosts[of] != host || !alive.contains(&of));
    let cut_off = missing
        .iter()
        .map(|&of| &hosts[of])
        .any(|host| host != own && silent(host));
    if cut_off {
        LAUNCHER_FINDS_OUT
    } else {
        Duration::ZERO
    }
}

/// Everyone had arrived, yet MPI does not return: the network, or a rank stopped in the middle of it. Called beside the
/// main thread, so without MPI; the launcher ends the other ranks when it sees this one go.
fn end_stuck(rank: usize, hosts: &[String], first: usize, timeout: Duration, roll: &Roll) -> ! {
    roll.answers().ask();
    roll.call(ANSWERS_WITHIN);
    let mut alive = roll.answers().take();
    alive.insert(rank);
    let silent: BTreeSet<usize> = (0..hosts.len()).filter(|of| !alive.contains(of)).collect();
    let cause = if silent.is_empty() {
        "all ranks had arrived and still live, so MPI's network failed between them".into()
    } else if more_than_two(hosts) && alive.iter().all(|&of| hosts[of] == hosts[rank]) {
        "no other host answers, so this one is cut off".into()
    } else {
        format!(
            "{} silent: stopped, or cut off",
            named(&silent, hosts, first)
        )
    };
    let patience = patience(&silent, &alive, &hosts[rank], hosts);
    // Of those who live, the first speaks for all.
    if alive.first() != Some(&rank) {
        roll.call(patience + ANSWERS_WITHIN);
    }
    let Place { what, step } = place();
    let timeout = timeout.as_secs_f64();
    say(
        first + rank,
        &hosts[rank],
        &format!(
            "stalled for {timeout:.0} s within {what} (step {step}): {cause}; or raise --stall-timeout"
        ),
    );
    roll.call(patience);
    end_now(1)
}
