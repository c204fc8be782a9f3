//! The training step in every form that a GPU offers: each checked against double precision on the CPU, then timed.
//! `run.sh` beside this file carries it to a machine with a GPU; on a CPU:
//!
//!     cargo bench --bench gpu -- --device cpu --tiny check

mod check;
mod form;
mod time;

use std::{path::PathBuf, process::ExitCode};

use anyhow::Result;
use clap::{Parser, Subcommand};
use half::f16;
use tch::Device;
use tempfile::TempDir;
use tfbind_mpi::{
    comm::Solo,
    data::Windows,
    device::{self, DeviceChoice},
    gpu, malloc,
    sampler::SplitMix,
};
use tfbind_prep::schema::{Contig, DataWriter, Header, Locus, Task, Window};

use form::Form;

#[derive(Parser)]
struct Arguments {
    #[arg(long, value_enum, default_value = "cuda")]
    device: DeviceChoice,
    /// Small windows, few steps: whether it runs, not how fast
    #[arg(long)]
    tiny: bool,
    #[command(subcommand)]
    command: Command,
    /// Added by cargo
    #[arg(long, hide = true, global = true)]
    bench: bool,
}

#[derive(Subcommand)]
enum Command {
    /// Compare every form with double precision on the CPU
    Check,
    /// For each line `FORM BATCH` of the input, one line of JSON with the time of a step
    Serve,
    /// Write the windows that the others use, for `tfbind-mpi train`
    Data { file: PathBuf },
    /// A few steps, for a profiler to watch
    Steps { form: Form, batch: usize },
}

/// What all measurements share.
struct Bench {
    device: Device,
    tiny: bool,
    /// Holds the data file.
    _folder: TempDir,
    data: PathBuf,
}

fn main() -> ExitCode {
    malloc::keep_large_blocks();
    gpu::warn_once();
    match run(Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(err) => {
            eprintln!("error: {err:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: Arguments) -> Result<()> {
    let (rows, length) = match arguments.tiny {
        true => (512, 512),
        false => (1024, 10_240),
    };
    if let Command::Data { file } = &arguments.command {
        return write_data(file, rows, length);
    }
    let device = device::set_up(arguments.device, None, &Solo)?;
    let folder = tempfile::tempdir()?;
    let data = folder.path().join("data.h5");
    write_data(&data, rows, length)?;
    let bench = Bench {
        device,
        tiny: arguments.tiny,
        _folder: folder,
        data,
    };
    match arguments.command {
        Command::Data { .. } => unreachable!("returned above"),
        Command::Check => check::check(&bench),
        Command::Serve => time::serve(&bench),
        Command::Steps { form, batch } => time::steps(&bench, form, batch),
    }
}

impl Bench {
    fn windows(&self) -> Result<Windows> {
        Windows::open(&self.data, "train")
    }
}

/// Windows as dense as real ones: a track, and a site of 200 bases in every fourth.
fn write_data(path: &std::path::Path, rows: usize, length: usize) -> Result<()> {
    let header = Header {
        task: Task::PerBase,
        length,
        margin: 0,
        genome: "random".into(),
        contigs: vec![Contig {
            name: "random".into(),
            size: (2 * rows * length) as u64,
        }],
        tracks: vec!["signal".into()],
        targets: vec!["site".into()],
        groups: vec![String::new()],
        normalise: "none".into(),
        missing: "zero".into(),
        recipe: String::new(),
        recipe_hash: String::new(),
    };
    let mut writer = DataWriter::create(path, &header, true)?;
    let mut random = SplitMix::keyed(&[1]);
    for row in 0..rows + rows / 8 {
        let mut label = vec![0; length];
        if row % 4 == 0 {
            label[length / 4..][..200.min(length / 8)].fill(1);
        }
        let signal = |random: &mut SplitMix| f16::from_f32(random.below(1000) as f32 / 1000.0);
        let window = Window {
            seq: (0..length).map(|_| random.below(4) as u8).collect(),
            signal: (0..length).map(|_| signal(&mut random)).collect(),
            label,
            locus: Locus {
                contig: 0,
                start: (row * length) as i64,
                strand: 1,
            },
        };
        writer.push(if row < rows { "train" } else { "valid" }, &window)?;
    }
    writer.finish()?;
    Ok(())
}
