//! Shows on a user's own data and plan that N ranks compute what one process computes that has all their rows: rank 0
//! repeats every step alone, micro-batch by micro-batch, and compares.

use std::{process::ExitCode, sync::Arc};

use anyhow::{Context, Result, ensure};
use tch::{Device, Tensor, no_grad};

use crate::{
    cli::VerifyArgs,
    comm::{Comm, Solo, Transport, TransportChoice, decide},
    data::{Rows, Windows},
    device,
    engine::Net,
    flat::Slot,
    loader::Loader,
    model::{BatchNorm, Options},
    optim::Optimizer,
    plan::{Plan, Settings, read_settings},
    resume::shared_settings,
    sampler::Position,
    step::Trainer,
    timeline::Timeline,
};

/// A tensor whose largest gradient is less than this share of the model's largest is measured by that share: where the
/// true gradient is nothing but rounding, a relative difference says nothing.
const FLOOR: f64 = 1e-4;

pub fn verify(comm: &dyn Comm, args: VerifyArgs) -> Result<ExitCode> {
    ensure!(args.steps > 0, "--steps must be at least 1");
    let settings = shared_settings(comm, || {
        let base = args.from.as_deref().map(read_settings).transpose()?;
        let mut typed: Settings = args.settings.clone();
        if args.sync_bn {
            typed.batch_norm = Some(BatchNorm::Sync);
        }
        Ok(typed.over(base.unwrap_or_default()))
    })?;
    let data = settings.data.clone().context("--data is missing")?;
    let windows = Arc::new(Windows::open(&data, "train")?);
    let (rows, margin) = (windows.num_rows(), windows.header.margin);
    let plan = Plan::new(settings, comm.size(), rows, margin)?;
    let device = device::set_up(plan.device, plan.settings.threads, comm)?;
    let transport = Transport::new(plan.transport, comm, device)?;
    if comm.rank() == 0 {
        print!("{}", plan.table(comm.size(), rows));
    }
    let batch_norm = plan.options.batch_norm;
    let mut own = trainer(comm, &plan, &windows, device, batch_norm, transport)?;
    own.start_from_rank_0(comm);
    let mut loader = of_rank(&plan, &windows, comm.rank(), comm.size())?;
    let mut alone = match comm.rank() {
        0 => Some(Alone::new(&plan, &windows, device, comm.size())?),
        _ => None,
    };
    if comm.rank() == 0 {
        println!(
            "\n{:>5}  {:>12}  {:>10}  {:>10}  {:>10}  {:>16}  largest in",
            "step", "loss", "of loss", "gradient", "weights", "ranks' checksum"
        );
    }
    let mut worst = 0f64;
    for step in 1..=args.steps {
        comm.note("the gradients", step);
        own.begin(step);
        let mut sums = [0.0; 2];
        for _ in 0..plan.accumulate {
            let (loss, labels) = own.add(comm, &loader.next_rows()?)?;
            sums = [sums[0] + loss, sums[1] + labels];
        }
        comm.sum_f64(&mut sums);
        own.sum_over_ranks(comm)?;
        let [loss, labels] = sums;
        own.normalise(labels, plan.settings.clip_norm);
        let rate = plan.schedule.rate(step - 1, 0.0);
        own.update(rate, step);
        let checksum = own.check_ranks_agree(comm, step)?;
        if let Some(alone) = &mut alone {
            let expected = alone.step(&plan, rate, step)?;
            let of_loss = relative(loss / labels, expected);
            let (slots, theirs) = (&own.net.flat.parameter_slots, &alone.trainer.net.flat);
            let gradient = largest(slots, &own.gradient(), &alone.trainer.gradient());
            let weights = largest(slots, &own.net.flat.parameters, &theirs.parameters);
            let slots = &own.net.flat.buffer_slots;
            let running = largest(slots, &own.net.flat.buffers, &theirs.buffers);
            let state = if running.0 > weights.0 {
                running
            } else {
                weights
            };
            println!(
                "{step:>5}  {:>12.8}  {of_loss:>10.1e}  {:>10.1e}  {:>10.1e}  {checksum:016x}  {}, {}",
                loss / labels,
                gradient.0,
                state.0,
                gradient.1,
                state.1
            );
            for value in [of_loss, gradient.0, state.0] {
                worst = if value.is_nan() {
                    f64::INFINITY
                } else {
                    worst.max(value)
                };
            }
        }
        comm.note("rank 0, which repeats the step alone", step);
        comm.barrier();
    }
    let passes = decide(comm, || worst <= args.tolerance);
    if comm.rank() == 0 {
        println!(
            "{} ranks against one process: {} the tolerance of {:e}\nmax relative difference {worst:.2e}",
            comm.size(),
            if passes { "within" } else { "beyond" },
            args.tolerance
        );
    }
    Ok(ExitCode::from(u8::from(!passes)))
}

fn trainer(
    comm: &dyn Comm,
    plan: &Plan,
    windows: &Windows,
    device: Device,
    batch_norm: BatchNorm,
    transport: Transport,
) -> Result<Trainer> {
    let options = Options {
        batch_norm,
        ..plan.options
    };
    let prior = Some(windows.positive_share());
    let net = Net::new(plan.arch, options, windows.io(), device, plan.seed, prior)?;
    let optimizer = Optimizer::new(plan.optimizer, plan.momentum, &net.flat.parameters);
    let timeline = Timeline::new(comm, device, false);
    Ok(Trainer::new(
        comm, net, optimizer, batch_norm, transport, timeline,
    ))
}

fn of_rank(plan: &Plan, windows: &Arc<Windows>, rank: usize, size: usize) -> Result<Loader> {
    Loader::of_training(plan, windows.clone(), (rank, size), Position::default())
}

/// One process with the rows of all ranks.
struct Alone {
    trainer: Trainer,
    loaders: Vec<Loader>,
    batch_norm: BatchNorm,
}

impl Alone {
    fn new(plan: &Plan, windows: &Arc<Windows>, device: Device, ranks: usize) -> Result<Self> {
        let batch_norm = plan.options.batch_norm;
        // What synchronised statistics must equal is libtorch's own batch norm of the large batch.
        let own = match batch_norm {
            BatchNorm::Sync => BatchNorm::Rank,
            other => other,
        };
        let transport = Transport::new(TransportChoice::Mpi, &Solo, device)?;
        let loaders = (0..ranks).map(|rank| of_rank(plan, windows, rank, ranks));
        Ok(Self {
            trainer: trainer(&Solo, plan, windows, device, own, transport)?,
            loaders: loaders.collect::<Result<_>>()?,
            batch_norm,
        })
    }

    /// Returns the mean loss.
    fn step(&mut self, plan: &Plan, rate: f64, step: u64) -> Result<f64> {
        let trainer = &mut self.trainer;
        trainer.begin(step);
        let mut sums = (0.0, 0.0);
        let mut add = |trainer: &mut Trainer, rows: &Rows| -> Result<()> {
            let (loss, labels) = trainer.add(&Solo, rows)?;
            sums = (sums.0 + loss, sums.1 + labels);
            Ok(())
        };
        if self.batch_norm == BatchNorm::Sync {
            for _ in 0..plan.accumulate {
                let mut all = Rows::default();
                for loader in &mut self.loaders {
                    all.extend(loader.next_rows()?);
                }
                add(trainer, &all)?;
            }
        } else {
            // Each rank starts from the same running statistics; afterwards they are averaged.
            let running = trainer.net.flat.buffers.shallow_clone();
            let (before, mut sum) = (running.copy(), running.zeros_like());
            for (rank, loader) in self.loaders.iter_mut().enumerate() {
                running.shallow_clone().copy_(&before);
                for _ in 0..plan.accumulate {
                    add(trainer, &loader.next_rows()?)?;
                }
                if rank == 0 || self.batch_norm != BatchNorm::Rank0 {
                    sum += &running;
                }
            }
            let counted = match self.batch_norm {
                BatchNorm::Rank0 => 1,
                _ => self.loaders.len(),
            };
            no_grad(|| running.shallow_clone().copy_(&(sum / counted as f64)));
        }
        let (loss, labels) = sums;
        trainer.normalise(labels, plan.settings.clip_norm);
        trainer.update(rate, step);
        Ok(loss / labels)
    }
}

fn relative(a: f64, b: f64) -> f64 {
    (a - b).abs() / b.abs()
}

/// The largest difference of a named tensor relative to its largest value, and its name.
fn largest(slots: &[Slot], own: &Tensor, expected: &Tensor) -> (f64, String) {
    if own.numel() == 0 {
        return (0.0, String::new());
    }
    let max = |tensor: Tensor| tensor.abs().max().double_value(&[]);
    let floor = FLOOR * max(expected.shallow_clone());
    let differences = slots.iter().map(|slot| {
        let difference = max(slot.view(own) - slot.view(expected));
        let scale = max(slot.view(expected)).max(floor).max(f64::MIN_POSITIVE);
        (difference / scale, slot.name.clone())
    });
    differences
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .unwrap_or_default()
}
