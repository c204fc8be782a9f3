//! The training loop: the only one, for every model, device and number of ranks.

mod labels;
mod start;

pub use start::{open_windows, plan_on};

use std::{collections::VecDeque, process::ExitCode, sync::Arc, time::Instant};

use anyhow::{Context, Result};

use crate::{
    checkpoint::{self, Header, Progress},
    cli::TrainArgs,
    comm::{Comm, Transport, decide, share_text},
    compute::Compute,
    data::{Rows, Windows},
    device,
    engine::Build,
    evaluate,
    feed::Filling,
    init,
    job::RESUMABLE,
    kmer_input,
    loader::Loader,
    metrics::Metrics,
    model::Options,
    nonfinite::{self, Diverged, NonFinite},
    optim::Optimizer,
    plan::{Metric, Plan},
    report::{Log, StepLine},
    resume::{BEST, LAST, keep, resume, shared_settings},
    sampler::Sampler,
    step::{Outcome, Trainer, steps_ahead},
    stop,
    timeline::{Phase, Timeline},
};
use start::{settle, take};

/// How a run ended that met no error.
pub struct Trained {
    pub progress: Progress,
    /// By a signal: it can go on.
    pub stopped: bool,
}

impl Trained {
    pub fn code(&self) -> ExitCode {
        match self.stopped {
            true => ExitCode::from(RESUMABLE),
            false => ExitCode::SUCCESS,
        }
    }
}

pub fn train(comm: &dyn Comm, args: TrainArgs) -> Result<Trained> {
    let last = args.run.join(LAST);
    let settings = shared_settings(comm, || settle(&args))?;
    let data = args.data_copy.as_ref().or(settings.data.as_ref());
    let data = data.context("--data is missing: the HDF5 file that tfbind-prep made")?;
    let [windows, valid] = open_windows(data)?.map(Arc::new);
    let rows = windows.num_rows();
    let plan = plan_on(comm, comm.size(), settings, &windows, &valid)?;
    let set_up = match args.quiet {
        true => device::set_up_quietly,
        false => device::set_up,
    };
    let device = set_up(plan.device, plan.settings.threads, comm)?;
    let transport = Transport::new(plan.transport, comm, device)?;

    let io = windows.io();
    let prior = windows.positive_share();
    let compute = Compute::of_training(&plan, &windows, device)?;
    let build = Build {
        arch: plan.arch,
        options: Options {
            mirror: windows.header.task.mirror(),
            ..plan.options
        },
        io,
        device,
        engine: compute.engine(plan.engine),
        kind: tch::Kind::Float,
        seed: plan.seed,
        prior,
    };
    let mut net = build.net()?;
    net.compute_as(&compute)?;
    let optimizer = Optimizer::of_training(&plan, &net.flat, comm.size());
    let mut header = Header {
        ranks: comm.size(),
        device: device::name(device),
        ..Header::new(
            &windows,
            plan.arch,
            plan.options.up_activation,
            plan.settings.clone(),
        )
    };
    // By rank 0, until the end.
    let mut _lock = None;
    share_text(comm, || {
        _lock = Some(take(&args.run)?);
        Ok(String::new())
    })?;
    if args.resume {
        header.progress = resume(comm, &last, &header, &plan, &mut net, &optimizer)?;
    } else {
        init::begin(comm, &plan, &net.flat)?;
        let run = plan.settings.kmer_input.as_ref();
        if let Some(run) = run.filter(|_| comm.rank() == 0) {
            let note = kmer_input::load(run, &header, &mut net)?;
            note.iter().for_each(|note| println!("{note}"));
        }
    }
    let timeline = Timeline::new(comm, device, args.trace.is_some());
    let how = [compute.line(net.name), transport.name()];
    let batch_norm = plan.options.batch_norm;
    let mut trainer = Trainer::new(comm, net, optimizer, batch_norm, transport, timeline)
        .looking_every(compute.look_every)
        .seeded(comm, plan.seed);
    trainer.start_from_rank_0(comm);
    let mut progress = header.progress.clone();
    let mut log = Log::open(comm, &args, &plan, &how, rows, &progress)?;

    let place = (comm.rank(), comm.size());
    let filling = match compute.resident {
        true => Some(Filling::start(windows.clone(), device)?),
        false => None,
    };
    let from = progress.position();
    let mut loader = Loader::of_training(&plan, windows.clone(), place, from, filling)?;
    let (began, seconds_before) = (Instant::now(), progress.training_seconds);
    let seconds = || seconds_before + began.elapsed().as_secs_f64();
    let stop_at = plan.settings.stop_at.unwrap_or(u64::MAX);
    let (mut skips_in_a_row, mut stopping) = (0, false);
    // Rows of steps that have to be done again.
    let mut again = VecDeque::new();

    let save = |trainer: &mut Trainer, header: &mut Header, progress: &Progress| -> Result<()> {
        header.progress = progress.clone();
        trainer.share_counts(comm);
        if comm.rank() == 0 {
            checkpoint::save(&last, header, &trainer.net, Some(&trainer.optimizer))?;
            keep(&args.run, &last, progress.step, plan.keep)?;
        }
        trainer.timeline.lap(Phase::Checkpoint);
        Ok(())
    };
    let nothing_left = progress.finished || progress.epoch >= plan.epochs;
    if nothing_left && !progress.due {
        log.say(match plan.arch.paper().recipe.counts {
            Some(_) => "nothing left to do: all training windows are counted",
            None => "nothing left to do: raise --epochs or --patience to go on",
        });
    }
    while !stopping {
        // A run that was interrupted in an evaluation goes on with that.
        if !progress.due {
            if progress.finished || progress.epoch >= plan.epochs || progress.step >= stop_at {
                break;
            }
            let left = rows - progress.done;
            let bounds = [plan.settings.eval_every, plan.settings.save_every];
            let (batch, most) = (plan.global_batch, compute.look_every);
            let burst = steps_ahead(most, progress.step, left, batch, bounds, stop_at);
            let mut launched = VecDeque::new();
            for ahead in 0..burst {
                let step = progress.step + ahead + 1;
                comm.note("the gradients", step);
                trainer.begin(step);
                let mut held: Vec<Rows> = again.pop_front().unwrap_or_default();
                let mut known = std::mem::take(&mut held).into_iter();
                for _ in 0..plan.accumulate {
                    let mut micro_batch = || -> Result<()> {
                        let rows = known.next().map_or_else(|| loader.next_rows(), Ok)?;
                        trainer.timeline.lap(Phase::Data);
                        trainer.launch(comm, &rows)?;
                        held.push(rows);
                        Ok(())
                    };
                    micro_batch().with_context(|| format!("step {step}"))?;
                }
                let done = progress.done + ahead as usize * plan.global_batch;
                let epochs_done = progress.epoch as f64 + done as f64 / rows as f64;
                let rate = plan.schedule.rate(step - 1, epochs_done);
                let (asked, clip_norm) = (stop::requested(), plan.settings.clip_norm);
                trainer.complete(comm, asked, clip_norm, rate, step)?;
                launched.push_back((held, rate));
            }
            for outcome in trainer.outcomes(comm)? {
                let Outcome {
                    loss, labels, norm, ..
                } = outcome;
                let (held, rate) = launched.pop_front().expect("as many as were launched");
                let step = progress.step + 1;
                stopping |= outcome.asked > 0.0;
                // The numbers are the same on all ranks, and so is what follows.
                let skipped = labels > 0.0 && !outcome.is_finite();
                if skipped {
                    skips_in_a_row += 1;
                    let (net, mean) = (&mut trainer.net, loss / labels);
                    let engine = net.engine.as_mut();
                    let culprits = nonfinite::culprits(comm, engine, &net.flat.gradients, &held)?;
                    trainer.undo();
                    let what = format!("loss {mean}, gradient norm {norm}, from {culprits}");
                    let ends = skips_in_a_row > nonfinite::SKIPS_IN_A_ROW;
                    if plan.non_finite == NonFinite::Stop || ends {
                        save(&mut trainer, &mut header, &progress)?;
                        let diverged = Diverged {
                            progress,
                            why: format!("step {step}: not finite: {what}"),
                            may_skip: !ends,
                        };
                        return Err(diverged.into());
                    }
                    progress.skipped += 1;
                    log.say(&format!("step {step} left out: {what}"));
                    // What ran after it changed nothing.
                    for (held, _) in launched.drain(..).rev() {
                        again.push_front(held);
                    }
                } else if labels > 0.0 {
                    skips_in_a_row = 0;
                }

                let seen = plan.global_batch.min(rows - progress.done);
                let next = Sampler::after(progress.position(), rows, plan.global_batch);
                let epoch = progress.epoch;
                (progress.step, progress.epoch, progress.done) = (next.step, next.epoch, next.done);
                progress.samples += seen as u64;
                if labels > 0.0 && !skipped {
                    let (sum, steps) = progress.losses;
                    progress.losses = (sum + loss / labels, steps + 1);
                }
                progress.training_seconds = seconds();
                let epoch_ended = progress.epoch != epoch;
                progress.due = plan.settings.eval_every.map_or(epoch_ended, |every| {
                    step.is_multiple_of(every) || progress.epoch == plan.epochs
                });
                log.step(&StepLine {
                    progress: &progress,
                    epoch,
                    loss: loss / labels,
                    rate,
                    samples: seen,
                    skipped,
                    timeline: &trainer.timeline,
                })?;
                if epoch_ended || progress.due {
                    trainer.share_counts(comm);
                    trainer.check_ranks_agree(comm, step)?;
                }
                if skipped {
                    break;
                }
            }
        }

        let every = plan.settings.save_every;
        let mut saves = stopping
            || progress.due
            || progress.step == stop_at
            || every.is_some_and(|every| progress.step.is_multiple_of(every));
        if saves {
            trainer.timeline.lap(Phase::Rest);
        }
        if progress.due && !stopping {
            match evaluation(comm, &mut trainer, &valid, &plan)? {
                None => stopping = true,
                Some((metrics, value)) => {
                    let improved = decide(comm, || plan.metric.better(value, progress.best));
                    progress.waited += 1;
                    if improved {
                        (progress.best, progress.best_step, progress.waited) =
                            (value, progress.step, 0);
                    }
                    progress.finished = decide(comm, || plan.ends(&progress));
                    progress.due = false;
                    progress.training_seconds = seconds();
                    log.evaluation(&progress, &metrics, value)?;
                    progress.losses = (0.0, 0);
                    header.progress = progress.clone();
                    if comm.rank() == 0 && improved {
                        let (net, optimizer) = (&trainer.net, &trainer.optimizer);
                        checkpoint::save(&args.run.join(BEST), &header, net, Some(optimizer))?;
                    }
                    saves = true;
                }
            }
            trainer.timeline.lap(Phase::Evaluation);
        }
        if saves {
            save(&mut trainer, &mut header, &progress)?;
        }
    }
    log.finish(&progress, &device::name(device), &mut trainer.timeline)?;
    if let Some(trace) = &args.trace {
        trainer.timeline.write_trace(comm, trace)?;
    }
    trainer.finish()?;
    if stopping {
        log.say(&format!("stopped by {}: --resume goes on", stop::name()));
    }
    Ok(Trained {
        progress,
        stopped: stopping,
    })
}

/// Metrics of the validation windows and the value that chooses the best checkpoint; none if a rank was asked to stop.
fn evaluation(
    comm: &dyn Comm,
    trainer: &mut Trainer,
    valid: &Arc<Windows>,
    plan: &Plan,
) -> Result<Option<(Metrics, Option<f64>)>> {
    let engine = trainer.net.engine.as_mut();
    let batch = plan.eval_batch;
    let mut tallies = evaluate::count(comm, engine, valid, batch, None, stop::requested)?;
    comm.note("the metrics of the validation windows", 0);
    let own = match plan.metric {
        Metric::RankMeanPrAuc => tallies.metrics().value("pr_auc"),
        _ => None,
    };
    let mut sums = [
        f64::from(u8::from(stop::requested())),
        own.unwrap_or(0.0),
        f64::from(u8::from(own.is_some())),
    ];
    comm.sum_f64(&mut sums);
    if sums[0] > 0.0 {
        return Ok(None);
    }
    tallies.sum_over(comm);
    let metrics = tallies.metrics();
    let value = match plan.metric {
        Metric::RankMeanPrAuc => (sums[2] > 0.0).then_some(sums[1] / sums[2]),
        metric => metrics.value(&metric.name()),
    };
    Ok(Some((metrics, value.filter(|value| value.is_finite()))))
}
