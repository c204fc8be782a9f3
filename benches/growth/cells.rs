//! The curves and how a point of each is measured, in a process of its own.

use std::{
    env, fmt, fs,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};

use super::{Arguments, sparse};

/// Steps of a run over a long file.
const STEPS: u32 = 20;

#[derive(Clone, Copy)]
pub enum Value {
    Time,
    Memory,
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(match self {
            Value::Time => "ms",
            Value::Memory => "peak_mb",
        })
    }
}

pub struct Point {
    pub size: f64,
    pub ms: f64,
    /// Of the rank that needs most.
    pub mb: f64,
}

impl Point {
    pub fn of(&self, value: Value) -> f64 {
        match value {
            Value::Time => self.ms,
            Value::Memory => self.mb,
        }
    }
}

pub struct Axis {
    pub name: &'static str,
    pub of: &'static str,
    pub sizes: &'static [u64],
    /// Exponents that cannot be helped, of time and of memory.
    must: (f64, f64),
}

impl Axis {
    pub const ALL: [Axis; 5] = [
        Axis {
            name: "batch",
            of: "a step, windows of 4,096 bases",
            sizes: &[1, 2, 4, 8, 16, 32, 64, 128],
            must: (1.0, 1.0),
        },
        Axis {
            name: "length",
            of: "a step of 4 windows",
            sizes: &[1024, 2048, 4096, 8192, 16384, 32768, 65536],
            must: (1.0, 1.0),
        },
        // Each channel reads every other; gradients, moments and weights grow so too, but activations are more.
        Axis {
            name: "width",
            of: "a step of 2 windows of 4,096 bases, by channels of the first block",
            sizes: &[4, 8, 15, 30, 60, 120],
            must: (2.0, 2.0),
        },
        // Four bytes a window hold the order of an epoch; nothing else may know how long the file is.
        Axis {
            name: "windows",
            of: "20 steps with start and end, by windows in the file",
            sizes: &[1_000, 10_000, 100_000, 1_000_000],
            must: (0.0, 1.0),
        },
        Axis {
            name: "ranks",
            of: "core time of a step and rank of 4 windows of 2,048 bases",
            sizes: &[1, 2, 4, 8],
            must: (0.0, 0.0),
        },
    ];

    pub fn allowed(&self, value: Value) -> f64 {
        match value {
            Value::Time => self.must.0,
            Value::Memory => self.must.1,
        }
    }

    pub fn measure(&self, arguments: &Arguments, size: u64) -> Result<Point> {
        let (batch, length, width) = ("--batch", "--length", "--width");
        let (ms, mb) = match self.name {
            "batch" => step(arguments, 1, &[(batch, size), (length, 4096)]),
            "length" => step(arguments, 1, &[(batch, 4), (length, size)]),
            "width" => step(arguments, 1, &[(batch, 2), (length, 4096), (width, size)]),
            "ranks" => step(arguments, size, &[(batch, 4), (length, 2048)]).map(|(ms, mb)| {
                let cores = thread::available_parallelism().map_or(1, |cores| cores.get() as u64);
                // Ranks beyond the cores take turns.
                (ms * cores.min(size) as f64 / size as f64, mb)
            }),
            _ => over_file(arguments, size),
        }?;
        Ok(Point {
            size: size as f64,
            ms,
            mb,
        })
    }
}

/// Median milliseconds of a step and peak memory.
fn step(arguments: &Arguments, ranks: u64, sizes: &[(&str, u64)]) -> Result<(f64, f64)> {
    let mut command = match ranks {
        1 => Command::new(&arguments.step),
        _ => {
            let mut mpirun = Command::new(env::var("MPIRUN").unwrap_or("mpirun".into()));
            let ranks = ranks.to_string();
            mpirun.args(["-np", &ranks]).arg(&arguments.step);
            mpirun
        }
    };
    command.args(["--unchecked", "--engine", &arguments.engine]);
    command.args(["--repeats", &arguments.repeats.to_string()]);
    for (name, size) in sizes {
        command.args([name, size.to_string().as_str()]);
    }
    let done = command
        .env("OMP_NUM_THREADS", "1")
        .output()
        .context("starting the bench `step`")?;
    let text = String::from_utf8_lossy(&done.stdout);
    ensure!(
        done.status.success(),
        "step: {}",
        String::from_utf8_lossy(&done.stderr).trim()
    );
    let number = |name: &str| {
        let line = text.lines().find(|line| line.starts_with(name))?;
        line.split_whitespace().nth(1)?.parse::<f64>().ok()
    };
    let both = number("step_ms").zip(number("peak_rss_mb"));
    both.with_context(|| format!("no step_ms and peak_rss_mb in: {text}"))
}

/// Milliseconds of a whole short run and its peak memory.
fn over_file(arguments: &Arguments, windows: u64) -> Result<(f64, f64)> {
    let (data, run) = (
        arguments.out.join("sparse.h5"),
        arguments.out.join("sparse"),
    );
    sparse::lengthen(&arguments.data, &data, windows as usize)?;
    if run.exists() {
        fs::remove_dir_all(&run)?;
    }
    let began = Instant::now();
    let mut child = Command::new(&arguments.train)
        .args(["train", "--batch", "4", "--threads", "1", "--device", "cpu"])
        .args(["--eval-every", "1000000", "--stop-at", &STEPS.to_string()])
        .arg("--data")
        .arg(&data)
        .arg("--run")
        .arg(&run)
        .args(["--engine", &arguments.engine])
        .env("OMP_NUM_THREADS", "1")
        .stdout(Stdio::null())
        .spawn()
        .context("starting tfbind-mpi")?;
    let (path, mut mb) = (format!("/proc/{}/status", child.id()), 0.0);
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        mb = peak_mb(&path).unwrap_or(mb);
        thread::sleep(Duration::from_millis(5));
    };
    let ms = 1e3 * began.elapsed().as_secs_f64();
    fs::remove_file(&data)?;
    fs::remove_dir_all(&run)?;
    ensure!(status.success(), "tfbind-mpi train: {status}");
    Ok((ms, mb))
}

fn peak_mb(path: &str) -> Option<f64> {
    let text = fs::read_to_string(path).ok()?;
    let line = text.lines().find(|line| line.starts_with("VmHWM"))?;
    let kb: f64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kb / 1024.0)
}
