//! Parse, start MPI, run; a failure anywhere ends the job on all ranks with one line and a non-zero code.

use std::{io::Write, process::ExitCode};

use anyhow::Result;
use clap::Parser;
use tch::{Device, nn::VarStore};
use tfbind_mpi::{
    cli::{Bench, Cli, Command, ModelsArgs},
    comm::rank_from_env,
    demo, doctor, evaluate, explain, gpu, import,
    job::{let_rank_0_speak, on_all_ranks},
    malloc,
    model::{Arch, Io, Options, thousands},
    predict, report, scaling, stop, sweep, train, verify,
};

fn main() -> ExitCode {
    malloc::keep_large_blocks();
    gpu::warn_once();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(err) => {
            // Every rank finds the same mistake; the first one says so.
            let rank = rank_from_env().unwrap_or(0);
            if rank == 0 {
                let _ = err.print();
            } else if err.use_stderr() {
                // The launcher ends all when it sees one fail.
                let_rank_0_speak(rank);
            }
            return ExitCode::from(err.exit_code() as u8);
        }
    };
    let stall = cli.stall_timeout;
    let whole = |()| ExitCode::SUCCESS;
    let done = match cli.command {
        Command::Models(args) => models(args),
        Command::Report(args) => report::page::write(args),
        Command::Import(args) => import::import(args),
        Command::Bench(Bench::Scaling(args)) => {
            stop::listen().and_then(|()| scaling::scaling(&args, stall))
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
        Command::Demo(args) => match stop::listen() {
            Ok(()) => return on_all_ranks(stall, |comm| demo::run(comm, &args)),
            Err(err) => Err(err),
        },
        Command::Verify(args) => return on_all_ranks(stall, |comm| verify::verify(comm, *args)),
        Command::Doctor(args) => return on_all_ranks(stall, |comm| doctor::doctor(comm, args)),
        Command::Evaluate(args) => {
            return on_all_ranks(stall, |comm| evaluate::evaluate(comm, args).map(whole));
        }
        Command::Explain(args) => {
            return on_all_ranks(stall, |comm| explain::explain(comm, args).map(whole));
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
        let mut text = String::new();
        for arch in Arch::ALL {
            let paper = arch.paper();
            let task = match (paper.io.per_base, paper.io.classes) {
                (true, _) => "every base",
                (false, 1) => "a window",
                (false, _) => "a base from context",
            };
            let parameters = thousands(paper.parameters as u64);
            let name = paper.name;
            text += &format!(
                "{name:<20}  {task:<19}  {parameters:>11}  {}\n",
                paper.about
            );
        }
        print(&text);
        return Ok(());
    };
    let published = arch.paper().io;
    let io = Io {
        channels: args.channels.unwrap_or(published.channels),
        length: args.length.unwrap_or(published.length),
        targets: args.targets.unwrap_or(published.targets),
        ..published
    };
    let options = Options {
        up_activation: args.up_activation,
        width: args.width,
        ..Options::default()
    };
    let graph = arch.build(&VarStore::new(Device::Cpu).root(), io, options)?;
    print(&graph.table());
    Ok(())
}

fn print(text: &str) {
    // A reader such as `head` may have closed the pipe: it has seen enough.
    let _ = std::io::stdout().write_all(text.as_bytes());
}
