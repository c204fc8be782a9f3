//! A signal that ends the program leaves no unfinished file behind.
//!
//! A thread waits for it, which all others block: a handler may neither take a lock nor free memory.

use std::fs;
use std::thread;

use anyhow::Context;
use nix::sys::signal::{SigSet, Signal, raise};
use tfbind_prep::partial;

/// To be called before any thread is started, also by a library: threads inherit what they block.
pub fn listen() -> anyhow::Result<()> {
    let signals = ending();
    signals.thread_block().context("blocking signals")?;
    let wait = move || {
        if let Ok(signal) = signals.wait() {
            let _none_begins = partial::remove_unfinished();
            // Once more, and no longer blocked: whoever started the program sees what it died of.
            let _ = signals.thread_unblock();
            let _ = raise(signal);
        }
    };
    let thread = thread::Builder::new().name("signals".into()).spawn(wait);
    thread.context("starting the thread that waits for signals")?;
    Ok(())
}

/// Ctrl-C, the end of a batch job or of a terminal, but for what the program was started to ignore, as by nohup.
fn ending() -> SigSet {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let ignored = mask.map_or(0, |mask| u64::from_str_radix(mask.trim(), 16).unwrap_or(0));
    let ends = |signal: &Signal| ignored >> (*signal as u32 - 1) & 1 == 0;
    let all = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP];
    all.into_iter().filter(ends).collect()
}
