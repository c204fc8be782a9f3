//! Asked to stop: SIGTERM and SIGUSR1 (a batch system's wall time), SIGINT (Ctrl-C). The first is remembered and obeyed
//! at the end of a step; a second Ctrl-C ends the process at once.

use std::sync::{
    Arc, OnceLock,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use anyhow::{Context, Result};
use signal_hook::{
    consts::{SIGINT, SIGTERM, SIGUSR1},
    flag,
};

/// What a shell reports of a process that Ctrl-C ended.
const INTERRUPTED: i32 = 130;

pub struct Stop(Arc<AtomicUsize>);

/// The signal of this process, once it listens.
static SIGNAL: OnceLock<Arc<AtomicUsize>> = OnceLock::new();

/// Whether a signal came that would have ended this process, had it not listened.
pub fn asked_to_end() -> bool {
    let signal = SIGNAL.get();
    signal.is_some_and(|signal| signal.load(Ordering::Relaxed) != 0)
}

impl Stop {
    /// From here on these signals no longer end the process.
    pub fn listen() -> Result<Self> {
        let signal = Arc::new(AtomicUsize::new(0));
        let again = Arc::new(AtomicBool::new(false));
        // Handlers run in the order of registration: the first Ctrl-C finds `again` still false.
        let ask = || -> std::io::Result<()> {
            flag::register_conditional_shutdown(SIGINT, INTERRUPTED, again.clone())?;
            flag::register(SIGINT, again.clone())?;
            for number in [SIGTERM, SIGUSR1, SIGINT] {
                flag::register_usize(number, signal.clone(), number as usize)?;
            }
            Ok(())
        };
        ask().context("asking for signals")?;
        Ok(Self(SIGNAL.get_or_init(|| signal).clone()))
    }

    pub fn requested(&self) -> bool {
        self.0.load(Ordering::Relaxed) != 0
    }

    /// The signal that came, on this rank.
    pub fn name(&self) -> &'static str {
        match self.0.load(Ordering::Relaxed) as i32 {
            SIGTERM => "SIGTERM",
            SIGUSR1 => "SIGUSR1",
            SIGINT => "SIGINT",
            _ => "a signal to another rank",
        }
    }
}
