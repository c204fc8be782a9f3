//! The end of a step: sums over the ranks, the update, and what the host learns of it. On a CPU it learns it at once; on a
//! GPU it may run ahead and look at several steps together. Then the GPU itself leaves out an update that is not finite,
//! and all that come after it, so that weights, moments and running statistics wait as they were before that step.

#[cfg(test)]
mod tests;

use anyhow::Result;
use tch::{Kind, Tensor, no_grad};

use super::Trainer;
use crate::{comm::Comm, data::Rows, timeline::Phase};

/// What a step came to, over all ranks: the same on each.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Outcome {
    pub loss: f64,
    pub labels: f64,
    /// Ranks that were asked to stop.
    pub asked: f64,
    /// Of the mean gradient, before clipping; 0 without labels.
    pub norm: f64,
}

impl Outcome {
    pub fn is_finite(&self) -> bool {
        self.loss.is_finite() && self.norm.is_finite()
    }
}

/// What lies on the device while the host does not look.
pub(super) struct Ahead {
    /// Loss, labels, ranks asked to stop: of the step under way [3] f64.
    sums: Tensor,
    /// Those and the norm of each step since the last look [4] f64.
    steps: Vec<Tensor>,
    /// 1 from the first step that is not finite to the next look [] f32.
    blocked: Tensor,
}

impl Ahead {
    pub fn new(like: &Tensor) -> Self {
        let zeros = |size: &[i64], kind| Tensor::zeros(size, (kind, like.device()));
        Self {
            sums: zeros(&[3], Kind::Double),
            steps: Vec::new(),
            blocked: zeros(&[], Kind::Float),
        }
    }
}

impl Trainer {
    /// Adds a micro-batch of this rank to the step.
    pub fn launch(&mut self, comm: &dyn Comm, rows: &Rows) -> Result<()> {
        if self.ahead.is_none() {
            let (loss, labels) = self.add(comm, rows)?;
            self.own = (self.own.0 + loss, self.own.1 + labels);
            return Ok(());
        }
        let ahead = self.ahead.as_ref().expect("just seen");
        let sums = ahead.sums.shallow_clone();
        let (transport, engine) = (&self.transport, &mut self.net.engine);
        let sum = |values: &mut Tensor| transport.sum_statistics(comm, values);
        engine.launch(rows, &mut self.timeline, &sum, &sums)
    }

    /// Sums the step over the ranks and updates the weights, unless the loss or the gradient is not finite.
    pub fn complete(
        &mut self,
        comm: &dyn Comm,
        asked: bool,
        clip_norm: Option<f64>,
        rate: f64,
        step: u64,
    ) -> Result<()> {
        let asked = f64::from(u8::from(asked));
        match self.ahead.take() {
            None => {
                let (loss, labels) = std::mem::take(&mut self.own);
                let mut sums = [loss, labels, asked];
                comm.sum_f64(&mut sums);
                self.timeline.lap(Phase::Wait);
                self.sum_over_ranks(comm)?;
                let [loss, labels, asked] = sums;
                let mut outcome = Outcome {
                    loss,
                    labels,
                    asked,
                    norm: 0.0,
                };
                if labels > 0.0 {
                    outcome.norm = self.normalise(comm, labels, clip_norm);
                    if outcome.is_finite() {
                        self.update(rate, step);
                    }
                }
                self.outcomes.push(outcome);
            }
            Some(mut ahead) => {
                let _ = ahead.sums.narrow(0, 2, 1).fill_(asked);
                if comm.size() > 1 {
                    self.transport.sum_doubles(comm, &mut ahead.sums)?;
                }
                self.timeline.lap(Phase::Wait);
                self.sum_over_ranks(comm)?;
                no_grad(|| self.update_unless_blocked(&mut ahead, clip_norm, rate, step))?;
                self.ahead = Some(ahead);
                self.timeline.lap(Phase::Optimizer);
            }
        }
        Ok(())
    }

    /// As `normalise` and `update`, decided on the device.
    fn update_unless_blocked(
        &mut self,
        ahead: &mut Ahead,
        clip_norm: Option<f64>,
        rate: f64,
        step: u64,
    ) -> Result<()> {
        let mut gradient = self.gradient();
        let (loss, labels) = (ahead.sums.narrow(0, 0, 1), ahead.sums.narrow(0, 1, 1));
        let _ = gradient.g_div_(&labels.clamp_min(1.0).to_kind(gradient.kind()));
        let norm = gradient.norm();
        if let Some(limit) = clip_norm {
            let _ = gradient.g_mul_(&(limit / &norm).clamp_max(1.0));
        }
        let norm = norm.to_kind(Kind::Double).view([1]);
        let step_is_bad = loss.isfinite().logical_and(&norm.isfinite()).logical_not();
        let step_is_bad = step_is_bad.to_kind(Kind::Float).view([] as [i64; 0]);
        ahead.blocked = ahead.blocked.maximum(&step_is_bad);
        let empty = labels.eq(0.0).to_kind(Kind::Float).view([] as [i64; 0]);
        let still = ahead.blocked.maximum(&empty);
        let flat = &self.net.flat;
        self.optimizer
            .step_unless(&still, &flat.parameters, &gradient, rate, step)?;
        if flat.buffers.numel() > 0 {
            let kept = self
                .before
                .where_self(&ahead.blocked.gt(0.0), &flat.buffers);
            flat.buffers.shallow_clone().copy_(&kept);
        }
        ahead.steps.push(Tensor::cat(&[&ahead.sums, &norm], 0));
        let _ = ahead.sums.zero_();
        Ok(())
    }

    /// Of the steps since the last look, in order. After one that is not finite the others changed nothing.
    pub fn outcomes(&mut self, comm: &dyn Comm) -> Result<Vec<Outcome>> {
        let ahead = self.ahead.as_mut();
        if let Some(ahead) = ahead.filter(|ahead| !ahead.steps.is_empty()) {
            let steps = Tensor::stack(&std::mem::take(&mut ahead.steps), 0).flatten(0, -1);
            let mut numbers = Ok(Vec::new());
            // Here the host waits for the device, and so for the other ranks.
            comm.watched(&mut || numbers = Vec::<f64>::try_from(&steps));
            self.outcomes.extend(numbers?.as_chunks::<4>().0.iter().map(
                |&[loss, labels, asked, norm]| Outcome {
                    loss,
                    labels,
                    asked,
                    norm,
                },
            ));
            let _ = ahead.blocked.zero_();
        }
        Ok(std::mem::take(&mut self.outcomes))
    }
}

/// How many steps may run before the host has to look: at most `at_most`, and none beyond the end of the epoch, an
/// evaluation, a checkpoint or the last step. `step` are done, `left` windows of the epoch are not.
pub fn steps_ahead(
    at_most: u64,
    step: u64,
    left: usize,
    global_batch: usize,
    every: [Option<u64>; 2],
    stop_at: u64,
) -> u64 {
    let of_epoch = left.div_ceil(global_batch) as u64;
    let to_next = |every: u64| every - step % every;
    let bounds = every.into_iter().flatten().map(to_next);
    bounds
        .chain([of_epoch, stop_at - step])
        .fold(at_most, u64::min)
        .max(1)
}
