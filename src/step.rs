//! One step of data-parallel training in its parts: the gradients of this rank's rows, their sum over all ranks, the
//! update. The training loop and `verify` are made of these.

mod ahead;
mod counted;

pub use ahead::{Outcome, steps_ahead};
pub use counted::share_counts_of_rank_0;

use anyhow::{Result, ensure};
use tch::{Device, Tensor, no_grad};

use crate::{
    comm::{Comm, Transport},
    data::Rows,
    engine::Net,
    model::BatchNorm,
    optim::{Optimizer, clip},
    sampler::SplitMix,
    timeline::{Phase, Timeline},
};

pub struct Trainer {
    pub net: Net,
    pub optimizer: Optimizer,
    pub timeline: Timeline,
    /// Seed and rank, for dropout.
    random: Option<[u64; 2]>,
    transport: Transport,
    batch_norm: BatchNorm,
    /// What `net.flat.sent` adds up to over the ranks; on one rank the same memory.
    sums: Tensor,
    /// Running statistics before the step.
    before: Tensor,
    squares: Option<Squares>,
    /// Where the host does not look at every step.
    ahead: Option<ahead::Ahead>,
    /// Loss and labels of this rank in the step under way.
    own: (f64, f64),
    /// Of the steps that nobody has asked about yet.
    outcomes: Vec<Outcome>,
}

const FNV_BASIS: u64 = 0xcbf2_9ce4_8422_2325;

/// The squared mean gradients of micro-batches, for the Adam that is invariant to their number.
struct Squares {
    /// The flat gradient after the last micro-batch [P].
    before: Tensor,
    /// The sum of this rank's micro-batches, and their number [P + 1].
    own: Tensor,
    /// The same of all ranks.
    sums: Tensor,
}

impl Trainer {
    pub fn new(
        comm: &dyn Comm,
        net: Net,
        optimizer: Optimizer,
        batch_norm: BatchNorm,
        transport: Transport,
        timeline: Timeline,
    ) -> Self {
        let (sent, buffers) = (&net.flat.sent, &net.flat.buffers);
        let squares = optimizer.takes_squares().then(|| {
            let gradients = &net.flat.gradients;
            let own = gradients.new_zeros(
                [gradients.numel() as i64 + 1],
                (gradients.kind(), gradients.device()),
            );
            Squares {
                before: gradients.zeros_like(),
                sums: own.zeros_like(),
                own,
            }
        });
        Self {
            random: None,
            transport,
            batch_norm,
            sums: match comm.size() {
                1 => sent.shallow_clone(),
                _ => sent.zeros_like(),
            },
            before: buffers.copy(),
            squares,
            ahead: None,
            own: (0.0, 0.0),
            outcomes: Vec::new(),
            net,
            optimizer,
            timeline,
        }
    }

    /// Each rank draws dropout of its own, as a function of seed and step: a run that goes on draws what it would have.
    pub fn seeded(mut self, comm: &dyn Comm, seed: u64) -> Self {
        self.random = Some([seed, comm.rank() as u64]);
        self
    }

    /// The host looks at the loss every so many steps; on a GPU Adam decides there what it leaves out, even if that is
    /// every step.
    pub fn looking_every(mut self, steps: u64) -> Self {
        let on_gpu = self.net.flat.parameters.device() != Device::Cpu;
        if self.optimizer.can_run_ahead() && (steps > 1 || on_gpu) {
            self.ahead = Some(ahead::Ahead::new(&self.net.flat.parameters));
        }
        self
    }

    pub fn begin(&mut self, step: u64) {
        self.timeline.begin(step);
        if let Some([seed, rank]) = self.random {
            tch::manual_seed(SplitMix::keyed(&[seed, rank, step, 2]).next_u64() as i64);
        }
        let _ = self.net.flat.gradients.zero_();
        self.before.copy_(&self.net.flat.buffers);
        if let Some(squares) = &mut self.squares {
            let _ = squares.before.zero_();
            let _ = squares.own.zero_();
        }
    }

    /// Adds the gradients of a micro-batch of this rank; returns its loss sum and number of valid labels.
    pub fn add(&mut self, comm: &dyn Comm, rows: &Rows) -> Result<(f64, f64)> {
        let transport = &self.transport;
        let sum = |values: &mut Tensor| transport.sum_statistics(comm, values);
        let engine = &mut self.net.engine;
        let (loss, labels) = engine.gradients(rows, &mut self.timeline, &sum)?;
        if let Some(squares) = self.squares.as_mut().filter(|_| labels > 0.0) {
            squares.add(&self.net.flat.gradients, labels);
        }
        Ok((loss, labels))
    }

    /// One message: gradients become their sum, running statistics their mean, so that all ranks hold the same after
    /// every step and a checkpoint of rank 0 is one of all.
    pub fn sum_over_ranks(&mut self, comm: &dyn Comm) -> Result<()> {
        if comm.size() > 1 && self.net.flat.sent.numel() > 0 {
            let flat = &mut self.net.flat;
            self.transport.sum(comm, &flat.sent, &mut self.sums)?;
            // Synchronised statistics are the same on all ranks already.
            if self.batch_norm == BatchNorm::Rank && flat.buffers.numel() > 0 {
                let first = flat.gradients.numel() as i64;
                let running = self.sums.narrow(0, first, flat.buffers.numel() as i64);
                no_grad(|| flat.buffers.copy_(&(running / comm.size() as f64)));
            }
        }
        if let Some(squares) = &mut self.squares {
            match comm.size() {
                1 => squares.sums.copy_(&squares.own),
                _ => self.transport.sum(comm, &squares.own, &mut squares.sums)?,
            }
            let numel = squares.before.numel() as i64;
            let count = squares.sums.narrow(0, numel, 1);
            self.optimizer.squares = Some(squares.sums.narrow(0, 0, numel) / count);
        }
        self.timeline.lap(Phase::Transfer);
        Ok(())
    }

    /// The gradient of all ranks, after the sum.
    pub fn gradient(&self) -> Tensor {
        let numel = self.net.flat.gradients.numel() as i64;
        self.sums.narrow(0, 0, numel)
    }

    /// The mean gradient's norm before clipping: divided by the labels of all ranks, so that each label weighs the same
    /// on any number of ranks. All ranks get the same number.
    pub fn normalise(&mut self, comm: &dyn Comm, labels: f64, clip_norm: Option<f64>) -> f64 {
        let mut gradient = self.gradient();
        let _ = gradient.g_div_scalar_(labels);
        let mut norm = 0.0;
        // On a GPU the host waits here for the sum.
        comm.watched(&mut || norm = clip(&gradient, clip_norm.unwrap_or(f64::INFINITY)));
        norm
    }

    /// Ends the transport; all ranks have to come.
    pub fn finish(self) -> Result<()> {
        self.transport.finish()
    }

    pub fn update(&mut self, rate: f64, step: u64) {
        let gradient = self.gradient();
        let parameters = &self.net.flat.parameters;
        self.optimizer.step(parameters, &gradient, rate, step);
        self.timeline.lap(Phase::Optimizer);
    }

    /// The weights were not touched yet; running statistics are as before the step again.
    pub fn undo(&mut self) {
        self.net.flat.buffers.copy_(&self.before);
    }

    /// Weights, running statistics and moments of rank 0 reach everyone.
    pub fn start_from_rank_0(&mut self, comm: &dyn Comm) {
        comm.note("the weights of rank 0", 0);
        for tensor in self.state() {
            broadcast(comm, tensor);
        }
        share_counts_of_rank_0(comm, &mut self.net);
    }

    /// Errors where a rank holds other weights, statistics or moments than rank 0: bit for bit, as every rank adds the
    /// same sums to the same weights.
    pub fn check_ranks_agree(&self, comm: &dyn Comm, step: u64) -> Result<u64> {
        comm.note("the check that all ranks hold the same weights", step);
        let own = self.checksum();
        let all = comm.gather(&own.to_le_bytes());
        let others: Vec<String> = (0..all.len())
            .filter(|&rank| all[rank] != own.to_le_bytes())
            .map(|rank| rank.to_string())
            .collect();
        ensure!(
            others.is_empty(),
            "step {step}: the weights of rank {} differ from rank 0's: faulty memory or a bug; the last checkpoint is \
             older and good: --resume",
            others.join(", ")
        );
        Ok(own)
    }

    fn checksum(&self) -> u64 {
        let tensors = self.state().into_iter();
        // Where each rank has running statistics of its own, they differ by design.
        let own = self.batch_norm == BatchNorm::Rank0;
        let shared =
            tensors.filter(|of| !(own && of.data_ptr() == self.net.flat.buffers.data_ptr()));
        let weights = shared.fold(FNV_BASIS, |hash, tensor| {
            fold(hash, bytes_of(tensor).as_chunks::<4>().0)
        });
        self.net.engine.counter().map_or(weights, |counter| {
            let entries = counter.total().to_bytes(&(0..counter.all_keys()));
            fold(weights, entries.as_chunks::<4>().0)
        })
    }

    /// Everything that a step changes.
    pub fn state(&self) -> [&Tensor; 4] {
        let (flat, optimizer) = (&self.net.flat, &self.optimizer);
        let moments = [&optimizer.first, &optimizer.second];
        [&flat.parameters, &flat.buffers, moments[0], moments[1]]
    }
}

impl Squares {
    fn add(&mut self, gradients: &Tensor, labels: f64) {
        let numel = self.before.numel() as i64;
        let mean = (gradients - &self.before) / labels;
        let (mut sum, mut count) = (self.own.narrow(0, 0, numel), self.own.narrow(0, numel, 1));
        sum += mean.square();
        count += 1.0;
        self.before.copy_(gradients);
    }
}

/// FNV-1a (Fowler, Noll, Vo) over the bits, a word of 32 at a time.
fn fold(hash: u64, words: &[[u8; 4]]) -> u64 {
    words.iter().fold(hash, |hash, word| {
        (hash ^ u64::from(u32::from_ne_bytes(*word))).wrapping_mul(0x0100_0000_01b3)
    })
}

fn bytes_of(tensor: &Tensor) -> Vec<u8> {
    let mut bytes = vec![0u8; tensor.numel() * tensor.kind().elt_size_in_bytes()];
    if !bytes.is_empty() {
        tensor.copy_data_u8(&mut bytes, tensor.numel());
    }
    bytes
}

pub fn broadcast(comm: &dyn Comm, tensor: &Tensor) {
    if comm.size() == 1 || tensor.numel() == 0 {
        return;
    }
    let mut bytes = bytes_of(tensor);
    comm.broadcast(&mut bytes);
    let of_rank_0 = Tensor::from_data_size(&bytes, &tensor.size(), tensor.kind());
    no_grad(|| tensor.shallow_clone().copy_(&of_rank_0));
}
