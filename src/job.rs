//! Runs a command on all ranks: a failure or a panic on one ends the job on all, with one line and a non-zero code.

use std::{
    cell::RefCell,
    panic::{self, AssertUnwindSafe},
    process::ExitCode,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, anyhow};

use crate::{
    comm::{Comm, Mpi, end_job, end_now, place, say_alone},
    stop,
};

/// Of what all ranks find wrong.
const RANK_0_FIRST: Duration = Duration::from_secs(1);

/// A run that was asked to stop and can go on: EX_TEMPFAIL of sysexits.h, "try again later".
pub const RESUMABLE: u8 = 75;

pub fn on_all_ranks(
    stall_timeout: Duration,
    run: impl FnOnce(&dyn Comm) -> Result<ExitCode>,
) -> ExitCode {
    let comm = match Mpi::start(stall_timeout) {
        Ok(comm) => comm,
        Err(err) => end_job(0, "this host", &format!("{err:#}")),
    };
    let (rank, host) = (comm.rank(), comm.host().to_string());
    let end = move |cause: &str| -> ! {
        let_rank_0_speak(rank);
        end_job(rank, &host, &brief(cause))
    };
    let end_on_panic = end.clone();
    panic::set_hook(Box::new(move |info| {
        let place = place();
        let text = info
            .payload_as_str()
            .unwrap_or("a panic without words")
            .to_string();
        let at = info.location().map(|at| format!(" [{at}]"));
        let step = match place.step {
            0 => String::new(),
            step => format!("step {step}: "),
        };
        let cause = format!("{step}{text}{}", at.unwrap_or_default());
        let outlived = LAST_WORDS.with_borrow_mut(|words| {
            let words = words.as_mut();
            words.map(|words| words.clone_from(&cause)).is_some()
        });
        if !outlived {
            end_on_panic(&cause)
        }
    }));
    match run(&comm) {
        Ok(code) => code,
        // Alone, MPI ends as ever: an abort would add words of its own.
        Err(err) if comm.size() == 1 => {
            say_alone(&brief(&format!("{err:#}")));
            ExitCode::FAILURE
        }
        Err(err) => end(&format!("{err:#}")),
    }
}

/// What all ranks find wrong, rank 0 says for all: its abort ends the others before they speak.
pub fn let_rank_0_speak(rank: usize) {
    let (began, before) = (Instant::now(), stop::requested());
    while rank != 0 && began.elapsed() < RANK_0_FIRST {
        // The launcher ends this rank because another has spoken.
        if stop::requested() && !before {
            end_now(1);
        }
        thread::sleep(Duration::from_millis(10));
    }
}

thread_local! {
    /// What a panic says of a call that this thread outlives, while there is one.
    static LAST_WORDS: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// A panic of the call is an error of the call, and does not end the job by itself.
pub fn outlive<T>(call: impl FnOnce() -> Result<T>) -> Result<T> {
    LAST_WORDS.set(Some(String::new()));
    let outcome = panic::catch_unwind(AssertUnwindSafe(call));
    let words = LAST_WORDS.take().unwrap_or_default();
    outcome.unwrap_or_else(|_| Err(anyhow!(words)))
}

pub fn out_of_memory(cause: &str) -> bool {
    let signs = ["can't allocate memory", "out of memory", "bad_alloc"];
    signs.iter().any(|sign| cause.contains(sign))
}

/// One line: without the C++ stack that libtorch appends, and with advice where memory ran out.
pub fn brief(cause: &str) -> String {
    let stack = ["Exception raised from", "frame #"];
    let end = stack.iter().filter_map(|sign| cause.find(sign)).min();
    // tch shows libtorch's words as Rust shows a string.
    let first = cause[..end.unwrap_or(cause.len())]
        .trim_end()
        .trim_end_matches("\\n");
    let first = first.replace(
        "called `Result::unwrap()` on an `Err` value: Torch(\"",
        "libtorch: ",
    );
    let mut line = first.replace("\\n", " ").replace('\n', " ");
    if out_of_memory(&line) {
        line += "; out of memory: lower --batch (or --global-batch, --eval-batch), or raise --accumulate";
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_that_panics_is_outlived() {
        assert_eq!(outlive(|| Ok(1)).unwrap(), 1);
        assert_eq!(
            outlive::<()>(|| Err(anyhow!("no")))
                .unwrap_err()
                .to_string(),
            "no"
        );
        assert!(outlive::<()>(|| panic!("wanted here")).is_err());
        assert!(LAST_WORDS.take().is_none());
    }

    #[test]
    fn libtorch_errors_are_cut_to_a_line_with_advice() {
        let long = "step 3: called `Result::unwrap()` on an `Err` value: Torch(\"[enforce fail at alloc_cpu.cpp:127] err \
                    == 0. DefaultCPUAllocator: can't allocate memory: you tried to allocate 99 bytes. Error code 12 \
                    (Cannot allocate memory)\\nframe #0: f\\nframe #1: g\")";
        let line = brief(long);
        assert!(
            line.contains("99 bytes") && line.contains("lower --batch"),
            "{line}"
        );
        assert!(!line.contains('\n') && !line.contains("frame"), "{line}");
        assert_eq!(brief("a\nb"), "a b");
    }
}
