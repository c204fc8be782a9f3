//! Parse, start MPI, run; a failure anywhere ends the job on all ranks with one line and a non-zero code.

use std::{io::Write, process::ExitCode, time::Duration};

use anyhow::Result;
use clap::{Parser, ValueEnum};
use tch::{Device, nn::VarStore};
use tfbind_mpi::{
    cli::{Bench, Cli, Command, ModelsArgs},
    doctor, evaluate,
    job::on_all_ranks,
    malloc,
    model::{Arch, Io, Options},
    predict, report, scaling, stop, sweep, train, verify,
};

fn main() -> ExitCode {
    malloc::keep_large_blocks();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(err) => {
            // Every rank finds the same mistake; the first one says so.
            let rank = ["OMPI_COMM_WORLD_RANK", "PMI_RANK", "PMIX_RANK"]
                .iter()
                .find_map(|name| std::env::var(name).ok());
            if rank.is_none_or(|rank| rank == "0") {
                let _ = err.print();
            }
            return ExitCode::from(err.exit_code() as u8);
        }
    };
    let Ok(stall) = Duration::try_from_secs_f64(cli.stall_timeout) else {
        eprintln!("error: --stall-timeout {} is no time", cli.stall_timeout);
        return ExitCode::from(2);
    };
    let whole = |()| ExitCode::SUCCESS;
    let done = match cli.command {
        Command::Models(args) => models(args),
        Command::Report(args) => report::page::write(args),
        Command::Bench(Bench::Scaling(args)) => {
            stop::listen().and_then(|()| scaling::scaling(&args, cli.stall_timeout))
        }
        // Before MPI and libtorch start their threads.
        Command::Train(args) => match stop::listen() {
            Ok(()) => {
                return on_all_ranks(stall, |comm| train::train(comm, *args).map(|of| of.code()));
            }
            Err(err) => Err(err),
        },
        Command::Sweep(args) => match stop::listen() {
            Ok(()) => return on_all_ranks(stall, |comm| sweep::sweep(comm, &args)),
            Err(err) => Err(err),
        },
        Command::Verify(args) => return on_all_ranks(stall, |comm| verify::verify(comm, *args)),
        Command::Doctor(args) => return on_all_ranks(stall, |comm| doctor::doctor(comm, args)),
        Command::Evaluate(args) => {
            return on_all_ranks(stall, |comm| evaluate::evaluate(comm, args).map(whole));
        }
        Command::Predict(args) => {
            return on_all_ranks(stall, |comm| predict::predict(comm, args).map(whole));
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(err) => {
            eprintln!("error: {err:#}");
            ExitCode::FAILURE
        }
    }
}

fn models(args: ModelsArgs) -> Result<()> {
    let Some(arch) = args.arch else {
        for arch in Arch::value_variants() {
            let shown = arch.to_possible_value().expect("no variant is hidden");
            println!(
                "{:<8}{}",
                shown.get_name(),
                shown
                    .get_help()
                    .map(ToString::to_string)
                    .unwrap_or_default()
            );
        }
        return Ok(());
    };
    let io = Io {
        channels: args.channels,
        length: args.length,
        targets: args.targets,
        per_base: true,
    };
    let options = Options {
        up_activation: args.up_activation,
        ..Options::default()
    };
    let table = arch
        .build(&VarStore::new(Device::Cpu).root(), io, options)?
        .table();
    // A reader such as `head` may have closed the pipe: it has seen enough.
    let _ = std::io::stdout().write_all(table.as_bytes());
    Ok(())
}
