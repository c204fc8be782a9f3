mod stop;

use std::process::ExitCode;
use std::time::Instant;

use clap::{Parser, Subcommand};
use tfbind_prep::context::{ContextOptions, context};
use tfbind_prep::export::{ExportOptions, export};
use tfbind_prep::inspect::{InspectOptions, inspect};
use tfbind_prep::make::{MakeOptions, make};
use tfbind_prep::simulate::{SimulateOptions, simulate};

/// Prepares genome files for tfbind-mpi, and turns its predictions back into genome tracks
#[derive(Parser)]
#[command(name = "tfbind-prep", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Write a small genome or sequences with planted motifs
    Simulate(Box<SimulateOptions>),
    /// Write the windows of a genome as the file that is trained on
    Make(Box<MakeOptions>),
    /// Write the windows around hidden bases of a genome, for models that tell a base from its context
    Context(ContextOptions),
    /// Show what a data file or a file of predictions holds
    Inspect(InspectOptions),
    /// Write predictions as bigWig or bedGraph
    Export(ExportOptions),
}

fn main() -> ExitCode {
    let command = Cli::parse().command;
    match stop::listen().and_then(|()| run(command)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> anyhow::Result<()> {
    let begun = Instant::now();
    match command {
        Command::Simulate(options) => {
            let simulated = simulate(&options)?;
            println!("{simulated} in {:.1} s", begun.elapsed().as_secs_f64());
        }
        Command::Make(options) => {
            let made = make(&options)?;
            println!("{made}, {:.1} s", begun.elapsed().as_secs_f64());
        }
        Command::Context(options) => {
            let made = context(&options)?;
            println!("{made}, {:.1} s", begun.elapsed().as_secs_f64());
        }
        Command::Inspect(options) => {
            let report = inspect(&options)?;
            if options.json {
                println!("{:#}", report.to_json());
            } else {
                println!("{report}");
            }
        }
        Command::Export(options) => {
            let exported = export(&options)?;
            println!(
                "{} windows, {} runs over {} bases in {:.1} s",
                exported.windows,
                exported.runs,
                exported.bases,
                begun.elapsed().as_secs_f64()
            );
        }
    }
    Ok(())
}
