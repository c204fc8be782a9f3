//! Reads ahead of the training loop in a thread of its own.

use std::{
    sync::{
        Arc, OnceLock,
        mpsc::{Receiver, sync_channel},
    },
    thread::{self, JoinHandle},
};

use anyhow::{Context, Result, anyhow};

use crate::{
    data::{Augment, Draw, Rows, Windows},
    feed::{Filling, Resident},
    plan::Plan,
    sampler::{Position, Sampler},
};

/// Batches read ahead. HDF5 reads one at a time whatever the number of threads, so one thread and a short queue do.
const AHEAD: usize = 4;

pub struct Loader {
    batches: Option<Receiver<Result<Rows>>>,
    reader: Option<JoinHandle<()>>,
    /// Ends when the loader does.
    _filling: Option<Filling>,
}

/// Rows that may come to lie on the device while the loader runs.
type Place = Option<Arc<OnceLock<Result<Arc<Resident>, String>>>>;

impl Loader {
    pub fn start(
        windows: Arc<Windows>,
        batches: impl Iterator<Item = Vec<Draw>> + Send + 'static,
    ) -> Result<Self> {
        Self::start_beside(windows, batches, None)
    }

    /// With `filling`, rows are read until they lie on the device.
    fn start_beside(
        windows: Arc<Windows>,
        batches: impl Iterator<Item = Vec<Draw>> + Send + 'static,
        filling: Option<Filling>,
    ) -> Result<Self> {
        let place: Place = filling.as_ref().map(Filling::place);
        let (send, receive) = sync_channel(AHEAD);
        let read = move || {
            for draws in batches {
                let rows = match place.as_ref().and_then(|place| place.get()) {
                    None => windows.read(&draws),
                    Some(Ok(resident)) => Ok(Rows::drawn(draws, resident.clone())),
                    Some(Err(text)) => Err(anyhow!("the windows do not get onto the GPU: {text}")),
                };
                let failed = rows.is_err();
                // The loop may have ended early: nobody listens any more.
                if send.send(rows).is_err() || failed {
                    break;
                }
            }
        };
        let reader = thread::Builder::new()
            .name("loader".into())
            .spawn(read)
            .context("starting the loader thread")?;
        Ok(Self {
            batches: Some(receive),
            reader: Some(reader),
            _filling: filling,
        })
    }

    /// The training rows of rank `rank` of `size` from a position to the end, a micro-batch at a time.
    pub fn of_training(
        plan: &Plan,
        windows: Arc<Windows>,
        (rank, size): (usize, usize),
        from: Position,
        filling: Option<Filling>,
    ) -> Result<Self> {
        let (seed, rows) = (plan.seed, windows.num_rows());
        let sampler = Sampler::new(seed, rows, plan.global_batch, (rank, size), from);
        let sampler = match plan.arch.paper().recipe.counts {
            // One epoch: of a whole genome the next one's order would take minutes, for nothing.
            Some(_) => sampler.until(plan.epochs),
            None => sampler,
        };
        let augment = Augment {
            seed,
            reverse_complement: plan.reverse_complement,
            max_shift: plan.shift as i64,
        };
        let (batch, accumulate) = (plan.batch, plan.accumulate);
        let batches = sampler.flat_map(move |step| {
            let draw = |&row: &u32| augment.draw(step.epoch, row);
            let draws: Vec<Draw> = step.rows.iter().map(draw).collect();
            // A short last step leaves some micro-batches empty; every rank still counts the same number.
            let micro = |i: usize| {
                draws[draws.len().min(i * batch)..draws.len().min((i + 1) * batch)].to_vec()
            };
            (0..accumulate).map(micro).collect::<Vec<_>>()
        });
        Self::start_beside(windows, batches, filling)
    }

    /// The next batch; to ask for more than were ordered is an error.
    pub fn next_rows(&mut self) -> Result<Rows> {
        let batches = self.batches.as_ref().expect("present until dropped");
        batches
            .recv()
            .map_err(|_| anyhow!("the loader thread ended before its last batch"))?
    }
}

impl Drop for Loader {
    fn drop(&mut self) {
        drop(self.batches.take());
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
    }
}
