//! The whole training step as the training loop runs it: gradients, their sum over the ranks, the update; on windows in
//! memory, so that nothing waits for a disk.
//!
//!     cargo bench --bench step -- --batch 8
//!     mpirun -np 2 --bind-to core target/release/deps/step-... --batch 8
//!
//! It first compares loss, gradient, running statistics and logits with libtorch in double precision, in a process of
//! its own so that the peak memory is that of the step alone. The cores' peak is measured right before and after.

mod check;
mod peak;
mod task;

use std::{
    env, fs,
    process::{Command, ExitCode},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use clap::{Parser, ValueEnum, value_parser};
use tch::{Device, Kind, nn::VarStore};
use tfbind_mpi::{
    cli::positive,
    comm::{Comm, Transport, TransportChoice, gather_f32},
    compute::{LayoutChoice, Precision},
    data::Rows,
    device::{self, DeviceChoice},
    engine::EngineChoice,
    job::on_all_ranks,
    malloc,
    model::Arch,
    optim::{Optimizer, Rule},
    plan::word,
    step::Trainer,
    timeline::{Phase, Timeline},
};

/// `avx2` in this variable keeps the native engine, and with it the peak measured here, from AVX-512.
const ISA: &str = "TFBIND_ISA";
/// Small, so that a hundred steps on the same windows stay finite.
const RATE: f64 = 1e-3;
const WARM_UP: usize = 3;

#[derive(Parser)]
pub struct Arguments {
    /// Windows a rank
    #[arg(long, default_value_t = 8, value_parser = positive())]
    batch: usize,
    /// Bases of a window
    #[arg(long, default_value_t = 10_240, value_parser = value_parser!(i64).range(1..))]
    length: i64,
    /// Signal tracks beside the four bases
    #[arg(long, default_value_t = 1, value_parser = value_parser!(i64).range(0..))]
    tracks: i64,
    #[arg(long, value_enum, default_value = "unet")]
    model: Arch,
    /// Channels of a U-Net's first block [default: the paper's]
    #[arg(long, value_parser = value_parser!(i64).range(1..))]
    width: Option<i64>,
    #[arg(long, value_enum, default_value = "auto")]
    engine: EngineChoice,
    /// bf16 needs avx512_bf16 of the native engine
    #[arg(long, value_enum, default_value = "f32")]
    precision: Precision,
    #[arg(long, value_enum, default_value = "auto")]
    layout: LayoutChoice,
    /// What the C library does with large blocks
    #[arg(long, value_enum, default_value = "kept")]
    malloc: Malloc,
    /// Steps timed
    #[arg(long, default_value_t = 21, value_parser = positive())]
    repeats: usize,
    /// Logits with running statistics in place of a step
    #[arg(long)]
    inference: bool,
    /// Of a rank
    #[arg(long, default_value_t = 1, value_parser = positive())]
    threads: usize,
    /// Time without the comparison with double precision
    #[arg(long)]
    unchecked: bool,
    /// The comparison alone
    #[arg(long)]
    check: bool,
    /// Added by cargo
    #[arg(long, hide = true)]
    bench: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Malloc {
    /// Keeps them, as `train` asks for
    Kept,
    /// Maps and unmaps them at every operation, as glibc does unless told otherwise
    Default,
}

fn main() -> ExitCode {
    let mut arguments = Arguments::parse();
    if arguments.malloc == Malloc::Kept && !malloc::keep_large_blocks() {
        arguments.malloc = Malloc::Default;
    }
    if arguments.check {
        return match check::check(&arguments) {
            Ok(()) => ExitCode::SUCCESS,
            Err(err) => {
                eprintln!("error: {err:#}");
                ExitCode::FAILURE
            }
        };
    }
    on_all_ranks(Duration::from_secs(600), |comm| {
        if comm.rank() == 0 && !arguments.unchecked {
            check_apart()?;
        }
        comm.barrier();
        time(comm, &arguments).map(|()| ExitCode::SUCCESS)
    })
}

/// In a process of its own, which never starts MPI.
fn check_apart() -> Result<()> {
    let mut child = Command::new(env::current_exe()?);
    child.args(env::args().skip(1)).arg("--check");
    let status = child.status().context("starting the comparison")?;
    ensure!(status.success(), "nothing is timed: the comparison failed");
    Ok(())
}

fn time(comm: &dyn Comm, arguments: &Arguments) -> Result<()> {
    let device = device::set_up(DeviceChoice::Cpu, Some(arguments.threads), comm)?;
    let rows = task::rows(arguments, arguments.batch, comm.rank());
    let mut trainer = trainer(comm, arguments, device)?;
    let (_, before) = peak::peak(arguments.threads);
    let mut loss = 0.0;
    let mut once = |trainer: &mut Trainer, number: u64| -> Result<()> {
        if arguments.inference {
            let logits = trainer.net.engine.logits(&rows)?;
            loss = f64::from(logits[0]);
        } else {
            loss = step(comm, trainer, &rows, number)?;
        }
        ensure!(loss.is_finite(), "step {number}: the loss is {loss}");
        Ok(())
    };
    for number in 1..=WARM_UP as u64 {
        once(&mut trainer, number)?;
    }
    trainer.timeline = Timeline::new(comm, device, false);
    comm.barrier();
    let (queued_before, all) = (queued(), Instant::now());
    let mut times = Vec::new();
    for number in 0..arguments.repeats {
        let began = Instant::now();
        once(&mut trainer, (WARM_UP + 1 + number) as u64)?;
        times.push(began.elapsed().as_secs_f32());
    }
    let lost = (queued() - queued_before) / all.elapsed().as_secs_f64();
    let phases = trainer.timeline.finish(comm);
    let (name, after) = peak::peak(arguments.threads);
    // Of each rank: its peak, its memory, the share of its time without a core, its seconds.
    let own = [before.max(after) as f32, peak_mb(), lost as f32];
    let ranks = gather_f32(comm, &[&own[..], &times].concat());
    if comm.rank() == 0 {
        let names = (trainer.net.name, name);
        report(arguments, names, &ranks, &phases, loss)?;
    }
    trainer.finish()
}

fn trainer(comm: &dyn Comm, arguments: &Arguments, device: Device) -> Result<Trainer> {
    let net = task::net(arguments, Kind::Float)?;
    let optimizer = Optimizer::new(Rule::Adam, 0.0, &net.flat.parameters);
    let batch_norm = task::options(arguments).batch_norm;
    let transport = Transport::new(TransportChoice::Mpi, comm, device)?;
    let timeline = Timeline::new(comm, device, false);
    let mut trainer = Trainer::new(comm, net, optimizer, batch_norm, transport, timeline);
    trainer.start_from_rank_0(comm);
    Ok(trainer)
}

/// As `train` makes it, without what it does between steps. Returns the mean loss.
fn step(comm: &dyn Comm, trainer: &mut Trainer, rows: &Rows, number: u64) -> Result<f64> {
    comm.note("the gradients", number);
    trainer.begin(number);
    let (loss, labels) = trainer.add(comm, rows)?;
    let mut sums = [loss, labels];
    comm.sum_f64(&mut sums);
    trainer.timeline.lap(Phase::Wait);
    trainer.sum_over_ranks(comm)?;
    let [loss, labels] = sums;
    trainer.normalise(comm, labels, None);
    trainer.update(RATE, number);
    Ok(loss / labels)
}

fn report(
    arguments: &Arguments,
    (engine, kernel): (&str, &str),
    ranks: &[Vec<f32>],
    phases: &str,
    loss: f64,
) -> Result<()> {
    let graph = arguments.model.build(
        &VarStore::new(Device::Cpu).root(),
        task::io(arguments),
        task::options(arguments),
    )?;
    let (forward, whole) = graph.operations();
    let (what, operations) = if arguments.inference {
        ("inference", forward)
    } else {
        ("step", whole)
    };
    // A step has ended when the slowest rank has.
    let slowest = |i: usize| ranks.iter().map(|rank| rank[3 + i]).fold(0.0, f32::max);
    let mut times: Vec<f32> = (0..arguments.repeats).map(slowest).collect();
    let each: Vec<String> = times
        .iter()
        .map(|&time| format!("{:.3}", 1e3 * f64::from(time)))
        .collect();
    times.sort_by(f32::total_cmp);
    let mean = times.iter().map(|&time| f64::from(time)).sum::<f64>() / times.len() as f64;
    let at = |share: f64| f64::from(times[((times.len() - 1) as f64 * share).round() as usize]);
    let samples = (ranks.len() * arguments.batch) as f64 / at(0.5);
    let peak: f64 = ranks.iter().map(|rank| f64::from(rank[0])).sum();
    let largest = |of: usize| ranks.iter().map(|rank| rank[of]).fold(0.0, f32::max);
    let cores = ranks.len() * arguments.threads;

    print!("{phases}");
    println!("machine      {}", processor());
    println!(
        "task         {}, engine {}, malloc {}, windows of {} bases and {} tracks, {} a rank, {:.3} GFLOP a window, loss or logit \
         {loss:.6}",
        arguments.model.name(),
        task::compute(arguments)?.form(engine),
        word(arguments.malloc),
        arguments.length,
        arguments.tracks,
        arguments.batch,
        operations / 1e9
    );
    println!(
        "peak         {:.1} GFLOP/s f32, {kernel}, {cores} cores at once",
        peak / 1e9
    );
    println!(
        "{what}_ms {:.3} mean {:.3} p95 {:.3} least {:.3} of {}",
        1e3 * at(0.5),
        1e3 * mean,
        1e3 * at(0.95),
        1e3 * at(0.0),
        times.len()
    );
    println!("each_ms {}", each.join(" "));
    println!("peak_rss_mb {:.1}", largest(1));
    if largest(2) > 0.02 {
        println!(
            "noisy: other programs had the core for {:.0} % of the time",
            100.0 * largest(2)
        );
    }
    let plural = if cores == 1 { "core" } else { "cores" };
    println!(
        "{what}: {samples:.1} samples/s on {cores} {plural}, {:.1} % of peak",
        100.0 * samples * operations / peak
    );
    Ok(())
}

fn field(path: &str, name: &str) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    let line = text.lines().find(|line| line.starts_with(name))?;
    Some(line.split(':').nth(1)?.trim().to_string())
}

fn processor() -> String {
    field("/proc/cpuinfo", "model name").unwrap_or_else(|| "unknown".into())
}

/// Most memory this process ever held (Linux; 0 elsewhere).
fn peak_mb() -> f32 {
    let line = field("/proc/self/status", "VmHWM");
    let kb = line.and_then(|line| line.split_whitespace().next()?.parse::<f32>().ok());
    kb.unwrap_or(0.0) / 1024.0
}

/// Seconds that this thread was ready to run and had no core (Linux).
fn queued() -> f64 {
    let text = fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let nanoseconds = text
        .split_whitespace()
        .nth(1)
        .and_then(|word| word.parse::<f64>().ok());
    nanoseconds.unwrap_or(0.0) / 1e9
}
