//! Runs a command on all ranks: a failure or a panic on one ends the job on all, with one line and a non-zero code.

use std::{io::Write, panic, process::ExitCode, thread, time::Duration};

use anyhow::Result;

use crate::comm::{Comm, Mpi};

/// What all ranks find wrong, rank 0 says for all: its abort ends the others before they speak.
const RANK_0_FIRST: Duration = Duration::from_millis(400);

pub fn on_all_ranks(run: impl FnOnce(&dyn Comm) -> Result<()>) -> ExitCode {
    let comm = match Mpi::start() {
        Ok(comm) => comm,
        Err(err) => {
            eprintln!("error: {err:#}");
            Mpi::abort(1)
        }
    };
    let (rank, host) = (comm.rank(), comm.host().to_string());
    let abort_all = move |cause: &str| -> ! {
        if rank != 0 {
            thread::sleep(RANK_0_FIRST);
        }
        // In one piece: mpirun mixes what several ranks write in parts.
        let _ = std::io::stderr()
            .write_all(format!("error: rank {rank} on {host}: {cause}\n").as_bytes());
        Mpi::abort(1)
    };
    let abort_on_panic = abort_all.clone();
    panic::set_hook(Box::new(move |info| {
        abort_on_panic(&info.to_string().replace('\n', " "))
    }));
    match run(&comm) {
        Ok(()) => ExitCode::SUCCESS,
        Err(err) => abort_all(&format!("{err:#}").replace('\n', " ")),
    }
}
