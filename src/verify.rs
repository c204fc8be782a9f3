//! Shows on a user's own data and plan that N ranks compute what one process computes that has all their rows: rank 0
//! repeats every step alone, micro-batch by micro-batch, and compares.

use std::{process::ExitCode, sync::Arc};

use anyhow::{Context, Result, ensure};
use tch::{Device, Kind, Tensor, no_grad};

use crate::{
    cli::VerifyArgs,
    comm::{Comm, Solo, Transport, TransportChoice, decide},
    compute::{Compute, Facts, Feed, Precision, Replay, Typed},
    data::{Rows, Windows},
    device,
    engine::{Build, EngineChoice},
    flat::Slot,
    init,
    loader::Loader,
    model::{BatchNorm, Options},
    optim::Optimizer,
    plan::{Plan, Settings, read_settings},
    resume::shared_settings,
    sampler::Position,
    step::Trainer,
    timeline::Timeline,
};

/// A tensor smaller than this share of the whole, by root mean square, is measured by that share: where a gradient is
/// nothing but rounding, a relative difference says nothing.
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
    let counts = plan.arch.paper().recipe.counts;
    ensure!(
        counts.is_none() && plan.settings.kmer_input.is_none(),
        "verify compares gradients; counts are whole numbers, which add up to the same on any number of ranks"
    );
    if comm.rank() == 0 {
        print!("{}", plan.table(comm.size(), rows));
    }
    let batch_norm = plan.options.batch_norm;
    let typed = Typed {
        // A GPU would round differently for batches of another size.
        precision: plan.settings.precision.or(Some(Precision::F32)),
        ..Typed::from(&plan.settings)
    };
    ensure!(
        typed.replay != Some(Replay::On)
            && typed.feed != Some(Feed::Resident)
            && typed.look_every.is_none_or(|every| every == 1),
        "verify computes step by step from the file: --replay on, --feed resident and --look-every belong to train"
    );
    let facts = Facts {
        adam: plan.runs_ahead(),
        plain_only: !plan.arch.paper().convolutional,
        libtorch: plan.engine == EngineChoice::Libtorch,
        ..Facts::of(device)?
    };
    let compute = Compute {
        replay: false,
        resident: false,
        // Each step is compared.
        look_every: 1,
        ..Compute::choose(typed, facts)?
    };
    let make = Make {
        plan: &plan,
        compute,
        ranks: comm.size(),
        windows: &windows,
        device,
        kind: if args.single {
            Kind::Float
        } else {
            Kind::Double
        },
    };
    let mut own = make.trainer(comm, batch_norm, transport)?;
    init::begin(comm, &plan, &own.net.flat)?;
    if comm.rank() == 0 {
        println!("      compute  {}", compute.line(own.net.name));
    }
    own.start_from_rank_0(comm);
    let mut loader = make.loader(comm.rank(), comm.size())?;
    let mut alone = match comm.rank() {
        0 => Some(Alone::new(&make, comm.size())?),
        _ => None,
    };
    if comm.rank() == 0 {
        println!(
            "\nrelative differences of each step, from the same weights:\n{:>5}  {:>12}  {:>10}  {:>10}  {:>10}  {:>10}  \
             {:>16}  gradient's largest in",
            "step", "loss", "of loss", "gradient", "weights", "running", "ranks' checksum"
        );
    }
    let mut worst = 0f64;
    for step in 1..=args.steps {
        comm.note("the gradients", step);
        if let Some(alone) = &alone {
            alone.start_from(&own);
        }
        own.begin(step);
        let mut sums = [0.0; 2];
        for _ in 0..plan.accumulate {
            let (loss, labels) = own.add(comm, &loader.next_rows()?)?;
            sums = [sums[0] + loss, sums[1] + labels];
        }
        comm.sum_f64(&mut sums);
        own.sum_over_ranks(comm)?;
        let [loss, labels] = sums;
        own.normalise(comm, labels, plan.settings.clip_norm);
        let rate = plan.schedule.rate(step - 1, 0.0);
        own.update(rate, step);
        let checksum = own.check_ranks_agree(comm, step)?;
        if let Some(alone) = &mut alone {
            let expected = alone.step(&plan, rate, step)?;
            let of_loss = relative(loss / labels, expected);
            let (slots, theirs) = (&own.net.flat.parameter_slots, &alone.trainer.net.flat);
            let gradient = largest(slots, &own.gradient(), &alone.trainer.gradient());
            let weights = difference(&own.net.flat.parameters, &theirs.parameters, 0.0);
            let running = difference(&own.net.flat.buffers, &theirs.buffers, 0.0);
            println!(
                "{step:>5}  {:>12.8}  {of_loss:>10.1e}  {:>10.1e}  {weights:>10.1e}  {running:>10.1e}  {checksum:016x}  {}",
                loss / labels,
                gradient.0,
                gradient.1
            );
            for value in [of_loss, gradient.0, weights, running] {
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
    own.finish()?;
    let tolerance = args.tolerance.unwrap_or(match (args.single, batch_norm) {
        (false, _) => 1e-9,
        (true, BatchNorm::Sync) => 5e-2,
        (true, _) => 1e-3,
    });
    let passes = decide(comm, || worst <= tolerance);
    if comm.rank() == 0 {
        println!(
            "{} ranks against one process: {} the tolerance of {:.0e}\nmax relative difference {worst:.2e}",
            comm.size(),
            if passes { "within" } else { "beyond" },
            tolerance
        );
    }
    Ok(ExitCode::from(u8::from(!passes)))
}

/// What both sides are made of.
struct Make<'a> {
    plan: &'a Plan,
    compute: Compute,
    ranks: usize,
    windows: &'a Arc<Windows>,
    device: Device,
    kind: Kind,
}

impl Make<'_> {
    fn trainer(
        &self,
        comm: &dyn Comm,
        batch_norm: BatchNorm,
        transport: Transport,
    ) -> Result<Trainer> {
        let plan = self.plan;
        let options = Options {
            batch_norm,
            // Every rank would draw its own.
            no_dropout: true,
            ..plan.options
        };
        let (io, prior) = (self.windows.io(), self.windows.positive_share());
        let build = Build {
            arch: plan.arch,
            options,
            io,
            device: self.device,
            engine: self.compute.engine(plan.engine),
            kind: self.kind,
            seed: plan.seed,
            prior,
        };
        let mut net = build.net()?;
        net.compute_as(&self.compute)?;
        let optimizer = Optimizer::of_training(plan, &net.flat, self.ranks);
        let timeline = Timeline::new(comm, self.device, false);
        Ok(Trainer::new(
            comm, net, optimizer, batch_norm, transport, timeline,
        ))
    }

    fn loader(&self, rank: usize, size: usize) -> Result<Loader> {
        let windows = self.windows.clone();
        Loader::of_training(self.plan, windows, (rank, size), Position::default(), None)
    }
}

/// One process with the rows of all ranks.
struct Alone {
    trainer: Trainer,
    loaders: Vec<Loader>,
    batch_norm: BatchNorm,
}

impl Alone {
    fn new(make: &Make, ranks: usize) -> Result<Self> {
        let batch_norm = make.plan.options.batch_norm;
        // What synchronised statistics must equal is libtorch's own batch norm of the large batch.
        let own = match batch_norm {
            BatchNorm::Sync => BatchNorm::Rank,
            other => other,
        };
        let transport = Transport::new(TransportChoice::Mpi, &Solo, make.device)?;
        let loaders = (0..ranks).map(|rank| make.loader(rank, ranks));
        Ok(Self {
            trainer: make.trainer(&Solo, own, transport)?,
            loaders: loaders.collect::<Result<_>>()?,
            batch_norm,
        })
    }

    /// Rounding grows from step to step (a ReLU or a maximum that falls the other way), so each begins alike.
    fn start_from(&self, own: &Trainer) {
        for (to, from) in self.trainer.state().into_iter().zip(own.state()) {
            no_grad(|| to.shallow_clone().copy_(from));
        }
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
        trainer.sum_over_ranks(&Solo)?;
        trainer.normalise(&Solo, labels, plan.settings.clip_norm);
        trainer.update(rate, step);
        Ok(loss / labels)
    }
}

fn relative(a: f64, b: f64) -> f64 {
    (a - b).abs() / b.abs()
}

/// Norm of the difference over the norm of what is expected, or over `floor` (a root mean square) if that is larger.
fn difference(own: &Tensor, expected: &Tensor, floor: f64) -> f64 {
    if own.numel() == 0 {
        return 0.0;
    }
    root_mean_square(&(own - expected))
        / root_mean_square(expected).max(floor).max(f64::MIN_POSITIVE)
}

fn root_mean_square(of: &Tensor) -> f64 {
    of.square().mean(Kind::Double).double_value(&[]).sqrt()
}

/// The largest difference of a named tensor, and its name.
fn largest(slots: &[Slot], own: &Tensor, expected: &Tensor) -> (f64, String) {
    let floor = FLOOR * root_mean_square(expected);
    let of_slot = |slot: &Slot| difference(&slot.view(own), &slot.view(expected), floor);
    let differences = slots.iter().map(|slot| (of_slot(slot), slot.name.clone()));
    differences
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .unwrap_or_default()
}
