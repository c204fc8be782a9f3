//! Milliseconds of a training step, through the same trainer and loader as `train`.

use std::{
    io::{BufRead, Write, stdin, stdout},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tch::{Device, Kind};
use tfbind_mpi::{
    comm::{Solo, Transport, TransportChoice},
    data::{Draw, Rows, Windows},
    engine::{Build, EngineChoice},
    feed::Filling,
    gpu,
    loader::Loader,
    model::{Arch, BatchNorm, Options},
    optim::{Optimizer, Rule},
    plan::{Plan, Settings},
    sampler::Position,
    step::{Outcome, Trainer},
    timeline::Timeline,
};

use crate::{
    Bench,
    form::{Form, Source},
};

/// Steps between two looks at the clock, which wait for the GPU.
const BLOCK: u64 = 16;
const SECONDS: Duration = Duration::from_secs(3);
/// As many as the host runs ahead, so that all blocks hold the same steps.
const WARM_UP: u64 = BLOCK;
const RATE: f64 = 1e-3;

pub fn serve(bench: &Bench) -> Result<()> {
    for line in stdin().lock().lines() {
        let line = line?;
        let answer =
            measure(bench, &line).unwrap_or_else(|err| json!({"error": format!("{err:#}")}));
        if let Device::Cuda(_) = bench.device {
            // PyTorch's process, which measures next, needs the memory.
            gpu::give_back()?;
        }
        println!("{answer}");
        stdout().flush()?;
    }
    Ok(())
}

fn measure(bench: &Bench, line: &str) -> Result<Value> {
    let (form, batch) = line.split_once(' ').context("FORM BATCH")?;
    let form: Form = form.parse().map_err(anyhow::Error::msg)?;
    let mut run = Run::start(bench, &form, batch.parse()?, RATE)?;
    run.steps(WARM_UP)?;
    let (block, seconds) = match bench.tiny {
        true => (2, Duration::ZERO),
        false => (BLOCK, SECONDS),
    };
    let (began, mut blocks) = (Instant::now(), Vec::new());
    while blocks.len() < 5 || began.elapsed() < seconds {
        let start = Instant::now();
        run.steps(block)?;
        blocks.push(1e3 * start.elapsed().as_secs_f64() / block as f64);
    }
    blocks.sort_by(f64::total_cmp);
    Ok(json!({"ms": blocks[blocks.len() / 2], "least_ms": blocks[0], "blocks": blocks.len()}))
}

/// The last three steps are for a profiler to see.
pub fn steps(bench: &Bench, form: Form, batch: usize) -> Result<()> {
    let mut run = Run::start(bench, &form, batch, RATE)?;
    run.steps(WARM_UP)?;
    let on_gpu = matches!(bench.device, Device::Cuda(_));
    if on_gpu {
        gpu::profile(true)?;
    }
    run.steps(3)?;
    if on_gpu {
        gpu::profile(false)?;
    }
    Ok(())
}

/// Training begins while the device is filled; here the first step is to be as the last.
fn filled(windows: &Arc<Windows>, device: Device) -> Result<Filling> {
    let (filling, began) = (Filling::start(windows.clone(), device)?, Instant::now());
    while filling.place().get().is_none() {
        ensure!(began.elapsed().as_secs() < 60, "the device is never filled");
        thread::sleep(Duration::from_millis(1));
    }
    Ok(filling)
}

pub struct Run {
    pub trainer: Trainer,
    loader: Option<Loader>,
    /// Batches in the host's memory.
    held: Vec<Rows>,
    step: u64,
    rate: f64,
    /// Whether the last rows lay on the device.
    pub resident: bool,
    look_every: u64,
}

impl Run {
    pub fn start(bench: &Bench, form: &Form, batch: usize, rate: f64) -> Result<Self> {
        let windows = Arc::new(bench.windows()?);
        let options = Options {
            batch_norm: BatchNorm::Rank,
            ..Options::default()
        };
        let build = Build {
            arch: Arch::Unet,
            options,
            io: windows.io(),
            device: bench.device,
            engine: EngineChoice::Libtorch,
            kind: Kind::Float,
            seed: 1,
            prior: Some(0.01),
        };
        let mut net = build.net()?;
        net.compute_as(&form.compute)?;
        let optimizer = Optimizer::new(Rule::Adam, 0.0, &net.flat.parameters);
        let timeline = Timeline::new(&Solo, bench.device, false);
        let transport = Transport::new(TransportChoice::Mpi, &Solo, bench.device)?;
        let trainer = Trainer::new(&Solo, net, optimizer, BatchNorm::Rank, transport, timeline)
            .looking_every(form.compute.look_every);
        let rows = windows.num_rows();
        ensure!(batch <= rows, "{batch} windows a step: there are {rows}");
        let mut held = Vec::new();
        let mut loader = None;
        if form.source == Source::Memory {
            for first in (0..rows).step_by(batch).take(4) {
                let draws = (first..first + batch).map(|row| Draw::from((row % rows) as u32));
                held.push(windows.read(&draws.collect::<Vec<_>>())?);
            }
        } else {
            let settings = Settings {
                data: Some(bench.data.clone()),
                batch: Some(batch),
                epochs: Some(1 << 40),
                reverse_complement: Some(true),
                ..Settings::default()
            };
            let plan = Plan::new(settings, 1, rows, 0)?;
            let filling = (form.source == Source::Resident).then(|| filled(&windows, bench.device));
            let filling = filling.transpose()?;
            let from = Position::default();
            loader = Some(Loader::of_training(&plan, windows, (0, 1), from, filling)?);
        }
        Ok(Self {
            trainer,
            loader,
            held,
            step: 0,
            rate,
            resident: false,
            look_every: form.compute.look_every,
        })
    }

    /// As the training loop makes them; returns when the device has done them.
    pub fn steps(&mut self, steps: u64) -> Result<()> {
        let mut outcomes: Vec<Outcome> = Vec::new();
        for _ in 0..steps {
            let read = self.loader.as_mut().map(Loader::next_rows).transpose()?;
            let rows = match &read {
                Some(rows) => rows,
                None => &self.held[self.step as usize % self.held.len()],
            };
            self.resident = rows.resident.is_some();
            self.step += 1;
            self.trainer.begin(self.step);
            self.trainer.launch(&Solo, rows)?;
            self.trainer
                .complete(&Solo, false, None, self.rate, self.step)?;
            if self.step.is_multiple_of(self.look_every) {
                outcomes.extend(self.trainer.outcomes(&Solo)?);
            }
        }
        outcomes.extend(self.trainer.outcomes(&Solo)?);
        let bad = outcomes.iter().find(|outcome| !outcome.is_finite());
        ensure!(bad.is_none(), "not finite: {bad:?}");
        if let Device::Cuda(gpu) = self.trainer.net.flat.parameters.device() {
            tch::Cuda::synchronize(gpu as i64);
        }
        Ok(())
    }
}
