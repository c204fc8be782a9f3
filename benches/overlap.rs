//! Does hiding the allreduce behind backward pay? Whole steps of DeepSEA (211 MB of gradients) on N ranks, one core and
//! one thread each: without communication, with one allreduce after backward, and with three kinds of overlap.
//!
//!     cargo bench --bench overlap -- --ranks 2 --batch 16,64 --rounds 11
//!
//! It calls mpirun ($MPIRUN) itself; under mpirun it is one of the ranks. The linear layers hold 91 % of the parameters,
//! their gradients are ready first, and the convolutions hold most of the arithmetic: the best case for overlap. Before it
//! times, it checks that all ways lead to the same weights. `OMPI_MCA_*` in the environment reaches the ranks;
//! `OMPI_MCA_mpi_yield_when_idle=1` matters to a thread that waits on its rank's only core. A slower wire: overlap.sh.

#[path = "overlap/deepsea.rs"]
mod deepsea;
#[path = "overlap/step.rs"]
mod step;
#[path = "overlap/timing.rs"]
mod timing;

use std::{env, fs, panic, process::Command};

use anyhow::{Context, Result, ensure};
use clap::{Parser, value_parser};
use mpi::{
    Threading, collective::SystemOperation, environment, topology::SimpleCommunicator, traits::*,
};
use tch::Tensor;
use tfbind_mpi::{
    cli::positive,
    comm::{end_job, floats_mut, launched_by},
};

use step::{How, Trainer};

#[derive(Parser)]
struct Options {
    /// Ranks to start when mpirun has not
    #[arg(long, default_value_t = 2, value_parser = positive())]
    ranks: usize,
    /// Windows a rank
    #[arg(long, value_delimiter = ',', default_value = "16,64", value_parser = value_parser!(i64).range(1..))]
    batch: Vec<i64>,
    /// Times that every way is timed, in turn
    #[arg(long, default_value_t = 11, value_parser = positive())]
    rounds: usize,
    /// Largest bucket of an overlapped allreduce in MB; a layer has at least one
    #[arg(long, default_value_t = 25, value_parser = value_parser!(i64).range(1..))]
    bucket: i64,
    /// Added by cargo
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> Result<()> {
    let options = Options::parse();
    if launched_by().is_some() {
        return on_this_rank(&options);
    }
    let program = env::current_exe()?;
    let status = mpirun(options.ranks)
        .arg(program)
        .args(env::args().skip(1))
        .status()
        .context("starting mpirun")?;
    ensure!(status.success(), "mpirun: {status}");
    Ok(())
}

/// One core a rank (Open MPI 4 reads OMPI_, 5 PRTE_ names), one thread a rank, and memory that is kept: glibc would
/// otherwise hand every tensor over 32 MiB back to the system and fault it in again. Open MPI's own choice for a
/// non-blocking sum over fewer than four ranks is a tree, which takes twice as long as the ring (1) over a wire.
fn mpirun(ranks: usize) -> Command {
    let mut command = Command::new(env::var_os("MPIRUN").unwrap_or("mpirun".into()));
    command.args(["-np", &ranks.to_string()]);
    for (name, value) in [
        ("OMPI_ALLOW_RUN_AS_ROOT", "1"),
        ("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1"),
        ("OMPI_MCA_rmaps_base_oversubscribe", "1"),
        ("PRTE_MCA_rmaps_default_mapping_policy", ":oversubscribe"),
        (
            "OMPI_MCA_hwloc_base_binding_policy",
            "core:overload-allowed",
        ),
        (
            "PRTE_MCA_hwloc_default_binding_policy",
            "core:overload-allowed",
        ),
        ("OMPI_MCA_coll_libnbc_iallreduce_algorithm", "1"),
        ("OMP_NUM_THREADS", "1"),
        ("MALLOC_MMAP_THRESHOLD_", "4294967296"),
        ("MALLOC_TRIM_THRESHOLD_", "-1"),
    ] {
        if env::var_os(name).is_none() {
            command.env(name, value);
        }
    }
    command
}

fn on_this_rank(options: &Options) -> Result<()> {
    // A rank that panics would wait in MPI_Finalize for those that wait for it.
    panic::set_hook(Box::new(|info| {
        let rank = SimpleCommunicator::world().rank() as usize;
        end_job(rank, "this host", &info.to_string())
    }));
    let (_universe, granted) =
        environment::initialize_with_threading(Threading::Serialized).context("starting MPI")?;
    tch::set_num_threads(1);
    let world = SimpleCommunicator::world();
    let said = |line: String| {
        if world.rank() == 0 {
            println!("{line}");
        }
    };
    describe(&world, granted, &said)?;
    let ways: Vec<How> = How::ALL
        .into_iter()
        .filter(|how| granted >= Threading::Serialized || !how.needs_threads())
        .collect();
    if ways.len() < How::ALL.len() {
        said("d and e are left out: they call MPI from a second thread".into());
    }
    for (i, &batch) in options.batch.iter().enumerate() {
        let mut trainer = Trainer::new(batch, world.rank().into(), options.bucket * 250_000);
        if i == 0 {
            verify(&world, &mut trainer, &ways, &said);
        }
        timing::time(&world, &mut trainer, &ways, batch, options.rounds, &said);
    }
    Ok(())
}

fn describe(world: &SimpleCommunicator, granted: Threading, said: &dyn Fn(String)) -> Result<()> {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let field = |text: &str, name: &str| -> String {
        let line = text.lines().find(|line| line.starts_with(name));
        let value = line.and_then(|line| line.split(':').nth(1));
        value.unwrap_or("unknown").trim().to_string()
    };
    let cpu = read("/proc/cpuinfo");
    let cores = cpu
        .lines()
        .filter(|line| line.starts_with("processor"))
        .count();
    said(format!(
        "machine      {}, {cores} cores",
        field(&cpu, "model name")
    ));
    said(format!("load         {}", read("/proc/loadavg").trim()));
    let library = environment::library_version()?;
    said(format!(
        "MPI library  {}",
        library.split(',').next().unwrap_or("").trim()
    ));
    said(format!(
        "threads      asked for Serialized, granted {granted:?}"
    ));
    // mpirun adds many of its own.
    let shown = [
        "OMPI_MCA_mpi_yield",
        "OMPI_MCA_coll",
        "OMPI_MCA_btl",
        "OMPI_MCA_pml",
        "MALLOC_",
    ];
    let mut settings: Vec<String> = env::vars()
        .filter(|(name, _)| shown.iter().any(|start| name.starts_with(start)))
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    settings.sort();
    said(format!("settings     {}", settings.join(" ")));
    let words: Vec<String> = env::args().skip(1).collect();
    said(format!("command      overlap {}", words.join(" ")));

    let cores = field(&read("/proc/self/status"), "Cpus_allowed_list");
    let host = environment::processor_name()?;
    let mut line = format!("on {host}, core {cores}").into_bytes();
    line.resize(128, b' ');
    if world.rank() != 0 {
        world.process_at_rank(0).gather_into(&line[..]);
        return Ok(());
    }
    let mut lines = vec![0u8; 128 * world.size() as usize];
    world
        .process_at_rank(0)
        .gather_into_root(&line[..], &mut lines[..]);
    for (rank, line) in lines.chunks(128).enumerate() {
        println!("rank {rank}       {}", String::from_utf8_lossy(line).trim());
    }
    Ok(())
}

/// After two steps from the same weights every way that communicates has the weights of the simple one, on all ranks;
/// without communication they are others.
fn verify(world: &SimpleCommunicator, trainer: &mut Trainer, ways: &[How], said: &dyn Fn(String)) {
    let begin = trainer.flat.parameters.copy();
    let mut weights = |how| {
        trainer.restart(&begin);
        trainer.step(how);
        trainer.step(how);
        trainer.flat.parameters.copy()
    };
    let simple = weights(How::Simple);
    let mut of_rank_0 = simple.copy();
    world
        .process_at_rank(0)
        .broadcast_into(floats_mut(&mut of_rank_0));
    let (weight, learned) = (simple.abs().max(), (&simple - &begin).norm());
    let check = |name: String, other: &Tensor| {
        let difference = other - &simple;
        let own = [
            (difference.abs().max() / &weight).double_value(&[]),
            (difference.norm() / &learned).double_value(&[]),
        ];
        let mut worst = [0.0; 2];
        world.all_reduce_into(&own[..], &mut worst[..], SystemOperation::max());
        said(format!(
            "verified     {name}: difference to b, largest / largest weight {:.1e}, norm / norm of what was learned {:.1e}",
            worst[0], worst[1]
        ));
        worst[1]
    };
    assert_eq!(check("b on rank 0".into(), &of_rank_0), 0.0, "ranks differ");
    for &how in ways.iter().filter(|&&how| how != How::Simple) {
        let difference = check(how.to_string(), &weights(how));
        // One weight that Adam moves the wrong way is 1e-4 of the norm: the root of 1 / 52.8 million.
        if how.communicates() {
            assert!(difference < 5e-5, "{how}: other weights");
        } else if world.size() > 1 {
            assert!(difference > 1e-2, "the check does not see what it should");
        }
    }
}
