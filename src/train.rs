//! The training loop: the only one, for every model, device and number of ranks.

use std::{fs, path::Path, sync::Arc, time::Instant};

use anyhow::{Context, Result, ensure};
use tch::{Tensor, no_grad};

use crate::{
    checkpoint::{self, Checkpoint, Header, Progress},
    cli::TrainArgs,
    comm::{Comm, decide, share_text},
    data::{Augment, Draw, Windows},
    device,
    engine::Net,
    evaluate,
    flat::FlatTensors,
    loader::Loader,
    model::BatchNorm,
    optim::{Optimizer, clip},
    plan::{Metric, Plan, Settings, read_settings},
    report::Log,
    sampler::Sampler,
};

pub const BEST: &str = "best.safetensors";
pub const LAST: &str = "last.safetensors";

pub fn train(comm: &dyn Comm, args: TrainArgs) -> Result<()> {
    let last = args.run.join(LAST);
    let settings = settle(comm, &args, &last)?;
    let data = settings
        .data
        .clone()
        .context("--data is missing: the HDF5 file that tfbind-prep made")?;
    let windows = Arc::new(Windows::open(&data, "train")?);
    let valid = Arc::new(Windows::open(&data, "valid")?);
    let plan = Plan::new(
        settings,
        comm.size(),
        windows.num_rows(),
        windows.header.margin,
    )?;
    let device = device::set_up(plan.device, plan.settings.threads, comm)?;

    let labelled = (windows.counts.positives + windows.counts.negatives) as f64;
    let positive_share = windows.counts.positives as f64 / labelled;
    ensure!(
        windows.counts.positives > 0,
        "{}: the training windows hold no positive label",
        data.display()
    );
    let (of, metric) = (valid.counts, plan.metric);
    let defined = match metric {
        Metric::Loss | Metric::DiceCoef => of.positives + of.negatives > 0,
        Metric::Auroc => of.positives > 0 && of.negatives > 0,
        _ => of.positives > 0,
    };
    ensure!(
        defined,
        "{}: {} is undefined on the validation windows ({} positive labels, {} negative); choose another --metric",
        data.display(),
        metric.name(),
        of.positives,
        of.negatives
    );
    let io = windows.io();
    let mut net = Net::new(
        plan.arch,
        plan.options,
        io,
        device,
        plan.seed,
        Some(positive_share),
    )?;
    let mut optimizer = Optimizer::new(plan.optimizer, plan.momentum, &net.flat.parameters);
    let mut header = Header {
        arch: plan.arch,
        up_activation: plan.options.up_activation,
        io,
        tracks: windows.header.tracks.clone(),
        targets: windows.header.targets.clone(),
        normalise: windows.header.normalise.clone(),
        data_recipe: windows.header.recipe_hash.clone(),
        ranks: comm.size(),
        device: device::name(device),
        progress: Progress::default(),
        plan: plan.settings.clone(),
    };
    if args.resume {
        header.progress = resume(comm, &last, &header, &plan, &net.flat, &optimizer)?;
    }
    start_from_rank_0(comm, &net.flat, &optimizer);
    let mut progress = header.progress.clone();
    let mut log = Log::open(comm, &args.run, &plan, windows.num_rows(), &progress)?;

    if comm.rank() == 0 && (progress.finished || progress.epoch >= plan.epochs) {
        println!("nothing left to do: raise --epochs or --patience to go on");
    }
    let mut loader = training_rows(&plan, windows.clone(), comm, &progress)?;
    let (began, seconds_before) = (Instant::now(), progress.training_seconds);
    let mut host = Vec::new();
    while progress.epoch < plan.epochs
        && !progress.finished
        && plan
            .settings
            .stop_at
            .is_none_or(|stop| progress.step < stop)
    {
        let mut sums = [0.0, 0.0];
        let _ = net.flat.gradients.zero_();
        for _ in 0..plan.accumulate {
            let computed = loader
                .next_rows()
                .and_then(|rows| net.engine.gradients(&rows));
            let (loss, valid) = computed.with_context(|| format!("step {}", progress.step + 1))?;
            sums = [sums[0] + loss, sums[1] + valid];
        }
        let computed = Instant::now();
        let buffers = plan.options.batch_norm == BatchNorm::Rank;
        sum_over_ranks(comm, &net.flat, buffers, &mut host);
        comm.sum_f64(&mut sums);
        let communicated = computed.elapsed();
        let [loss_sum, labels] = sums;

        let epochs_done = progress.epoch as f64 + progress.done as f64 / windows.num_rows() as f64;
        let rate = plan.schedule.rate(progress.step, epochs_done);
        if labels > 0.0 {
            // Divided by the number of valid labels of all ranks: each label weighs the same on any number of ranks.
            let _ = net.flat.gradients.g_div_scalar_(labels);
            let norm = clip(
                &net.flat.gradients,
                plan.settings.clip_norm.unwrap_or(f64::INFINITY),
            );
            ensure!(
                loss_sum.is_finite() && norm.is_finite(),
                "step {}: loss {}, gradient norm {norm}: not finite; the last checkpoint is good; lower --lr or set \
                 --clip-norm",
                progress.step + 1,
                loss_sum / labels
            );
            optimizer.step(
                &net.flat.parameters,
                &net.flat.gradients,
                rate,
                progress.step + 1,
            );
        }

        let seen = plan.global_batch.min(windows.num_rows() - progress.done);
        let (epoch, next) = (
            progress.epoch,
            Sampler::after(progress.position(), windows.num_rows(), plan.global_batch),
        );
        (progress.step, progress.epoch, progress.done) = (next.step, next.epoch, next.done);
        progress.samples += seen as u64;
        progress.training_seconds = seconds_before + began.elapsed().as_secs_f64();
        log.step(
            &progress,
            epoch,
            loss_sum / labels,
            rate,
            seen,
            communicated,
            loader.waited,
        )?;

        let due =
            |every: Option<u64>| every.is_some_and(|every| progress.step.is_multiple_of(every));
        let epoch_ended = progress.epoch != epoch;
        let evaluates = plan.settings.eval_every.map_or(epoch_ended, |every| {
            progress.step.is_multiple_of(every) || progress.epoch == plan.epochs
        });
        let saves = due(plan.settings.save_every) || plan.settings.stop_at == Some(progress.step);
        if evaluates {
            let metrics =
                evaluate::tally(comm, net.engine.as_mut(), &valid, plan.eval_batch, None)?
                    .metrics();
            let value = metrics.value(&plan.metric.name());
            let improved = decide(comm, || plan.metric.better(value, progress.best));
            progress.waited += 1;
            if improved {
                (progress.best, progress.best_step, progress.waited) = (value, progress.step, 0);
            }
            progress.finished = decide(comm, || {
                plan.settings
                    .patience
                    .is_some_and(|patience| progress.waited >= patience)
            });
            progress.training_seconds = seconds_before + began.elapsed().as_secs_f64();
            log.evaluation(&progress, &metrics)?;
            header.progress = progress.clone();
            if comm.rank() == 0 && improved {
                checkpoint::save(&args.run.join(BEST), &header, &net.flat, &optimizer)?;
            }
        }
        if (evaluates || saves) && comm.rank() == 0 {
            header.progress = progress.clone();
            checkpoint::save(&last, &header, &net.flat, &optimizer)?;
            keep(
                &args.run,
                &last,
                progress.step,
                plan.settings.keep.unwrap_or(0),
            )?;
        }
    }
    log.finish(&progress, &device::name(device), loader.waited)
}

/// The settings of the run, decided on rank 0: the command line, over a file or over those of the run resumed.
fn settle(comm: &dyn Comm, args: &TrainArgs, last: &Path) -> Result<Settings> {
    let text = share_text(comm, || {
        let mut base = match &args.from {
            Some(path) => read_settings(path)?,
            None if args.resume => Checkpoint::read(last)?.header.plan,
            None => Settings::default(),
        };
        // Where a run was cut is not a property of the run.
        base.stop_at = None;
        ensure!(
            args.resume || !last.exists(),
            "{} holds a run already: --resume goes on with it; else name another --run",
            args.run.display()
        );
        Ok(toml::to_string(&args.settings.clone().over(base))?)
    })?;
    Ok(toml::from_str(&text)?)
}

/// Rank 0 reads the checkpoint; the others receive where it stood, and later its tensors.
fn resume(
    comm: &dyn Comm,
    last: &Path,
    now: &Header,
    plan: &Plan,
    flat: &FlatTensors,
    optimizer: &Optimizer,
) -> Result<Progress> {
    let text = share_text(comm, || {
        let checkpoint = Checkpoint::read(last)?;
        let then = &checkpoint.header;
        let same = [
            (
                "arch",
                format!("{:?}", then.arch),
                format!("{:?}", now.arch),
            ),
            (
                "up_activation",
                format!("{:?}", then.up_activation),
                format!("{:?}", now.up_activation),
            ),
            ("sizes", format!("{:?}", then.io), format!("{:?}", now.io)),
            ("tracks", then.tracks.join(","), now.tracks.join(",")),
            ("targets", then.targets.join(","), now.targets.join(",")),
            (
                "data recipe",
                then.data_recipe.clone(),
                now.data_recipe.clone(),
            ),
        ];
        for (what, then, now) in same {
            ensure!(
                then == now,
                "{}: trained with {what} {then}, now {now}; a run goes on only as it began",
                last.display()
            );
        }
        checkpoint.restore(flat, Some(optimizer))?;
        let mut progress = then.progress.clone();
        if then.plan.metric.is_some_and(|metric| metric != plan.metric) {
            (progress.best, progress.waited) = (None, 0);
        }
        progress.finished = plan
            .settings
            .patience
            .is_some_and(|patience| progress.waited >= patience);
        Ok(serde_json::to_string(&progress)?)
    })?;
    Ok(serde_json::from_str(&text)?)
}

/// Weights, running statistics and moments of rank 0 reach everyone, each as one tensor ordered by name.
pub fn start_from_rank_0(comm: &dyn Comm, flat: &FlatTensors, optimizer: &Optimizer) {
    for tensor in [
        &flat.parameters,
        &flat.buffers,
        &optimizer.first,
        &optimizer.second,
    ] {
        broadcast(comm, tensor);
    }
}

pub fn broadcast(comm: &dyn Comm, tensor: &Tensor) {
    if comm.size() == 1 || tensor.numel() == 0 {
        return;
    }
    let mut values = vec![0u8; tensor.numel() * 4];
    tensor.copy_data_u8(&mut values, tensor.numel());
    comm.broadcast(&mut values);
    let values: Vec<f32> = values
        .as_chunks::<4>()
        .0
        .iter()
        .map(|word| f32::from_ne_bytes(*word))
        .collect();
    no_grad(|| tensor.shallow_clone().copy_(&Tensor::from_slice(&values)));
}

/// One reduction: gradients become their sum, running statistics their mean, so that all ranks hold the same after
/// every step and a checkpoint of rank 0 is one of all.
fn sum_over_ranks(comm: &dyn Comm, flat: &FlatTensors, buffers: bool, host: &mut Vec<f32>) {
    if comm.size() == 1 {
        return;
    }
    let gradients = flat.gradients.numel();
    let running = if buffers { flat.buffers.numel() } else { 0 };
    host.resize(gradients + running, 0.0);
    flat.gradients.copy_data(&mut host[..gradients], gradients);
    flat.buffers.copy_data(&mut host[gradients..], running);
    comm.sum_f32(host);
    no_grad(|| {
        flat.gradients
            .shallow_clone()
            .copy_(&Tensor::from_slice(&host[..gradients]));
        if buffers {
            let mean = Tensor::from_slice(&host[gradients..]) / comm.size() as f64;
            flat.buffers.shallow_clone().copy_(&mean);
        }
    });
}

/// The rows of this rank from here to the end of training, a micro-batch at a time.
fn training_rows(
    plan: &Plan,
    windows: Arc<Windows>,
    comm: &dyn Comm,
    progress: &Progress,
) -> Result<Loader> {
    let place = (comm.rank(), comm.size());
    let sampler = Sampler::new(
        plan.seed,
        windows.num_rows(),
        plan.global_batch,
        place,
        progress.position(),
    );
    let augment = Augment {
        seed: plan.seed,
        reverse_complement: plan.settings.reverse_complement.unwrap_or(false),
        max_shift: plan.shift as i64,
    };
    let (batch, accumulate) = (plan.batch, plan.accumulate);
    let batches = sampler.flat_map(move |step| {
        let draws: Vec<Draw> = step
            .rows
            .iter()
            .map(|&row| augment.draw(step.epoch, row))
            .collect();
        // A short last step leaves some micro-batches empty; every rank still counts the same number.
        (0..accumulate)
            .map(|i| draws[draws.len().min(i * batch)..draws.len().min((i + 1) * batch)].to_vec())
            .collect::<Vec<_>>()
    });
    Loader::start(windows, batches)
}

/// Keeps the newest `keep` checkpoints by step, as hard links where the file system has them.
fn keep(run: &Path, last: &Path, step: u64, keep: usize) -> Result<()> {
    if keep == 0 {
        return Ok(());
    }
    let own = run.join(format!("step-{step:08}.safetensors"));
    if !own.exists() && fs::hard_link(last, &own).is_err() {
        fs::copy(last, &own).with_context(|| format!("writing {}", own.display()))?;
    }
    let mut kept: Vec<_> = fs::read_dir(run)?
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .filter(|path| {
            path.file_name()
                .is_some_and(|name| name.to_string_lossy().starts_with("step-"))
        })
        .collect();
    kept.sort();
    for old in kept.iter().rev().skip(keep) {
        fs::remove_file(old).with_context(|| format!("removing {}", old.display()))?;
    }
    Ok(())
}
