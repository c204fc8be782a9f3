//! Asked to stop: SIGTERM and SIGUSR1 (a batch system's wall time), SIGINT (Ctrl-C). The first is remembered and obeyed
//! at the end of a step; a second Ctrl-C ends the process at once.
//!
//! A thread waits for the signals, which all others block. A handler would run on the stack of a computing thread, and
//! compiled kernels use that register for other things: heaps were seen corrupted, once in a dozen signals.

use std::{
    sync::atomic::{AtomicI32, Ordering},
    thread,
};

use anyhow::{Context, Result};
use nix::sys::signal::{SigSet, Signal};

use crate::comm::end_now;

/// What a shell reports of a process that Ctrl-C ended.
const INTERRUPTED: i32 = 130;

/// No signal's number: one came to a rank that is not of this group.
const ELSEWHERE: i32 = i32::MAX;

/// The last signal that came; 0 is none.
static SIGNAL: AtomicI32 = AtomicI32::new(0);

/// From here on these signals no longer end the process. To be called before any thread is started, also by a library:
/// threads inherit what they block.
pub fn listen() -> Result<()> {
    let mut signals = SigSet::empty();
    for signal in [Signal::SIGTERM, Signal::SIGUSR1, Signal::SIGINT] {
        signals.add(signal);
    }
    signals.thread_block().context("blocking signals")?;
    let wait = move || {
        while let Ok(signal) = signals.wait() {
            let before = SIGNAL.swap(signal as i32, Ordering::Relaxed);
            if before == Signal::SIGINT as i32 && signal == Signal::SIGINT {
                end_now(INTERRUPTED);
            }
        }
    };
    let thread = thread::Builder::new().name("signals".into()).spawn(wait);
    thread.context("starting the thread that waits for signals")?;
    Ok(())
}

/// Whether a signal came.
pub fn requested() -> bool {
    SIGNAL.load(Ordering::Relaxed) != 0
}

/// As if a signal had come: one did elsewhere.
pub fn request() {
    let _ = SIGNAL.compare_exchange(0, ELSEWHERE, Ordering::Relaxed, Ordering::Relaxed);
}

pub fn name() -> &'static str {
    match SIGNAL.load(Ordering::Relaxed) {
        0 | ELSEWHERE => "a signal to another rank",
        number => Signal::try_from(number).map_or("a signal", Signal::as_str),
    }
}
