//! The end of a step: sums over the ranks, the update, and what the host learns of it. On a CPU it learns it at once; on a
//! GPU it may run ahead and look at several steps together. Then the GPU itself leaves out an update that is not finite,
//! and all that come after it, so that weights, moments and running statistics wait as they were before that step.

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

#[cfg(test)]
mod tests {
    use tch::{Device, nn::VarStore};

    use super::*;
    use crate::{
        comm::{Solo, Transport, TransportChoice},
        data::Draw,
        engine::{Engine, Net},
        flat::FlatTensors,
        model::{BatchNorm, SumOverRanks},
        optim::{Optimizer, Rule},
        timeline::Timeline,
    };

    /// The gradient is the row, the running statistic counts rows, the loss of row 7 is not finite.
    struct Fake(FlatTensors);

    impl Engine for Fake {
        fn gradients(
            &mut self,
            rows: &Rows,
            _: &mut Timeline,
            _: SumOverRanks,
        ) -> Result<(f64, f64)> {
            let row = f64::from(rows.draws[0].row);
            let _ = self.0.gradients.g_add_scalar_(row);
            let _ = self.0.buffers.g_add_scalar_(1.0);
            Ok((if row == 7.0 { f64::NAN } else { row }, 2.0))
        }
        fn logits(&mut self, _: &Rows) -> Result<Vec<f32>> {
            Ok(Vec::new())
        }
    }

    fn trainer(look_every: u64) -> Trainer {
        let flat = || {
            let store = VarStore::new(Device::Cpu);
            let _ = store.root().ones("weight", &[3]);
            let _ = store.root().zeros_no_train("running", &[1]);
            FlatTensors::new(&store)
        };
        let flat = flat();
        let own = FlatTensors {
            parameters: flat.parameters.shallow_clone(),
            sent: flat.sent.shallow_clone(),
            gradients: flat.gradients.shallow_clone(),
            buffers: flat.buffers.shallow_clone(),
            parameter_slots: flat.parameter_slots.clone(),
            buffer_slots: flat.buffer_slots.clone(),
        };
        let engine = Box::new(Fake(own));
        let optimizer = Optimizer::new(Rule::Adam, 0.0, &flat.parameters);
        let timeline = Timeline::new(&Solo, Device::Cpu, false);
        let transport = Transport::new(TransportChoice::Mpi, &Solo, Device::Cpu).unwrap();
        let net = Net { engine, flat };
        Trainer::new(&Solo, net, optimizer, BatchNorm::Rank, transport, timeline)
            .looking_every(look_every)
    }

    /// Outcomes of the rows, a step each, and the weight and the statistic after them.
    fn run(trainer: &mut Trainer, rows: &[u32], first_step: u64) -> (Vec<Outcome>, [f64; 2]) {
        for (step, &row) in (first_step..).zip(rows) {
            trainer.begin(step);
            let rows = Rows {
                draws: vec![Draw::from(row)],
                ..Rows::default()
            };
            trainer.launch(&Solo, &rows).unwrap();
            trainer
                .complete(&Solo, false, Some(1.0), 0.1, step)
                .unwrap();
        }
        let flat = &trainer.net.flat;
        let state = [&flat.parameters, &flat.buffers].map(|of| of.double_value(&[0]));
        (trainer.outcomes(&Solo).unwrap(), state)
    }

    #[test]
    fn what_runs_after_a_bad_step_changes_nothing_until_the_host_has_looked() {
        let (mut ahead, mut looking) = (trainer(4), trainer(1));
        let near = |a: [f64; 2], b: [f64; 2]| (a[0] - b[0]).abs() < 1e-6 && a[1] == b[1];
        let (of_first, after_first) = run(&mut looking, &[3], 1);
        let (outcomes, state) = run(&mut ahead, &[3, 7, 4, 5], 1);
        assert_eq!(outcomes.len(), 4);
        assert!((outcomes[0].norm - of_first[0].norm).abs() < 1e-6);
        assert_eq!(
            (outcomes[0].loss, outcomes[0].labels, outcomes[0].asked),
            (3.0, 2.0, 0.0)
        );
        assert!(outcomes[0].is_finite() && !outcomes[1].is_finite());
        assert!(near(state, after_first), "{state:?} {after_first:?}");
        let (_, after) = run(&mut looking, &[4, 5], 3);
        let (outcomes, state) = run(&mut ahead, &[4, 5], 3);
        assert!(outcomes.iter().all(Outcome::is_finite));
        assert!(near(state, after), "{state:?} {after:?}");
        assert_eq!(after[1], 3.0);
    }

    #[test]
    fn no_step_runs_past_what_has_to_be_looked_at() {
        let ahead = |step, left, every| steps_ahead(16, step, left, 10, every, 1000);
        assert_eq!(ahead(0, 1000, [None, None]), 16);
        assert_eq!(ahead(0, 41, [None, None]), 5);
        assert_eq!(ahead(98, 1000, [Some(50), None]), 2);
        assert_eq!(ahead(98, 1000, [Some(50), Some(33)]), 1);
        assert_eq!(ahead(995, 1000, [None, None]), 5);
        assert_eq!(steps_ahead(1, 0, 1000, 10, [None, None], u64::MAX), 1);
    }
}
