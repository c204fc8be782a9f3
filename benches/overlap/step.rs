//! A training step with its allreduce after, between or beside the segments of backward.

use std::{
    fmt,
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use mpi::{
    collective::SystemOperation,
    request::{self, LocalScope, Request},
    topology::SimpleCommunicator,
    traits::*,
};
use tch::{Tensor, no_grad};
use tfbind_mpi::{
    comm::{floats, floats_mut},
    flat::FlatTensors,
    optim::{Optimizer, Rule},
};

use crate::deepsea::{DeepSea, by_layer};

/// How long the sleeping thread lets the core to the computation between two looks at the wire.
const NAP: Duration = Duration::from_micros(50);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    Alone,
    Simple,
    Segments,
    Polled,
    Thread,
    SleepyThread,
}

impl How {
    pub const ALL: [How; 6] = [
        How::Alone,
        How::Simple,
        How::Segments,
        How::Polled,
        How::Thread,
        How::SleepyThread,
    ];

    pub fn communicates(self) -> bool {
        !matches!(self, How::Alone | How::Segments)
    }

    pub fn needs_threads(self) -> bool {
        matches!(self, How::Thread | How::SleepyThread)
    }
}

impl fmt::Display for How {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.pad(match self {
            How::Alone => "a. no communication",
            How::Simple => "b. simple: backward, then one allreduce",
            How::Segments => "   as a, backward in segments",
            How::Polled => "c. overlap, polled between segments",
            How::Thread => "d. overlap, blocking in a thread",
            How::SleepyThread => "e. overlap, thread that polls and sleeps",
        })
    }
}

/// Part of the gradients that travels at once: this rank's, and their sum over the ranks.
struct Bucket {
    own: Tensor,
    sum: Tensor,
}

pub struct Trainer {
    model: DeepSea,
    pub flat: FlatTensors,
    /// MPI_IN_PLACE is not in rsmpi, so sums have a tensor of their own.
    sums: Tensor,
    /// Of each layer, last first.
    buckets: Vec<Vec<Bucket>>,
    optimizer: Optimizer,
    step: u64,
    /// Backward left when the gradients of the linear layers are whole: behind this 91 % can hide.
    pub window: Duration,
}

impl Trainer {
    /// No bucket is larger than `most` numbers.
    pub fn new(batch: i64, rank: i64, most: i64) -> Self {
        let (model, flat) = DeepSea::new(batch, rank);
        let sums = flat.gradients.zeros_like();
        let bucket = |start, n| Bucket {
            own: flat.gradients.narrow(0, start, n),
            sum: sums.narrow(0, start, n),
        };
        let cut = |(start, n): (i64, i64)| {
            let starts = (start..start + n).step_by(most as usize);
            starts
                .map(|from| bucket(from, most.min(start + n - from)))
                .collect()
        };
        let buckets = by_layer(&flat).into_iter().map(cut).collect();
        let optimizer = Optimizer::new(Rule::Adam, 0.0, &flat.parameters);
        Self {
            model,
            sums,
            buckets,
            optimizer,
            flat,
            step: 0,
            window: Duration::ZERO,
        }
    }

    /// Back to these weights, and to an optimizer that has seen nothing.
    pub fn restart(&mut self, weights: &Tensor) {
        no_grad(|| self.flat.parameters.copy_(weights));
        self.optimizer = Optimizer::new(Rule::Adam, 0.0, &self.flat.parameters);
        self.step = 0;
    }

    pub fn step(&mut self, how: How) {
        let _ = self.flat.gradients.zero_();
        match how {
            How::Alone => self.model.backward(),
            How::Simple => {
                self.model.backward();
                self.reduce();
            }
            How::Segments => {
                let mut layers = 0;
                let mut linear_done = Instant::now();
                self.model.backward_by_layer(|| {
                    layers += 1;
                    if layers == 2 {
                        linear_done = Instant::now();
                    }
                });
                self.window = linear_done.elapsed();
            }
            How::Polled => self.polled(),
            How::Thread => self.beside(|buckets| {
                let world = SimpleCommunicator::world();
                for (own, sum) in buckets {
                    world.all_reduce_into(own, sum, SystemOperation::sum());
                }
            }),
            How::SleepyThread => self.beside(|buckets| {
                request::scope(|scope| {
                    let mut waiting = Vec::new();
                    loop {
                        match buckets.try_recv() {
                            Ok(bucket) => waiting.push(start(bucket, scope)),
                            Err(mpsc::TryRecvError::Empty) => thread::sleep(NAP),
                            Err(mpsc::TryRecvError::Disconnected) if waiting.is_empty() => break,
                            // Backward is over and the core free.
                            Err(mpsc::TryRecvError::Disconnected) => {}
                        }
                        waiting = unfinished(waiting);
                    }
                })
            }),
        }
        let mut sums = if how.communicates() {
            self.sums.shallow_clone()
        } else {
            self.flat.gradients.shallow_clone()
        };
        let ranks = SimpleCommunicator::world().size() as usize;
        let _ = sums.g_div_scalar_((self.model.num_labels() * ranks) as f64);
        self.step += 1;
        self.optimizer
            .step(&self.flat.parameters, &sums, 1e-3, self.step);
    }

    /// The whole flat gradient, blocking.
    pub fn reduce(&mut self) {
        SimpleCommunicator::world().all_reduce_into(
            floats(&self.flat.gradients),
            floats_mut(&mut self.sums),
            SystemOperation::sum(),
        );
    }

    /// The same by the non-blocking call, in the same buckets as the overlap.
    pub fn reduce_in_buckets(&mut self) {
        request::scope(|scope| {
            let buckets = self.buckets.iter_mut().flatten();
            let waiting: Vec<_> = buckets
                .map(|bucket| start(bucket.slices(), scope))
                .collect();
            waiting.into_iter().for_each(Request::wait_without_status);
        });
    }

    fn polled(&mut self) {
        let mut layers = self.buckets.iter_mut();
        request::scope(|scope| {
            let mut waiting = Vec::new();
            self.model.backward_by_layer(|| {
                let layer = layers.next().into_iter().flatten();
                waiting.extend(layer.map(|bucket| start(bucket.slices(), scope)));
                waiting = unfinished(std::mem::take(&mut waiting));
            });
            waiting.into_iter().for_each(Request::wait_without_status);
        });
    }

    /// Backward in this thread; a second one, alone with MPI meanwhile, reduces what it is sent.
    fn beside(&mut self, reduce: impl FnOnce(mpsc::Receiver<Slices>) + Send) {
        let mut layers = self.buckets.iter_mut();
        thread::scope(|scope| {
            let (finished, buckets) = mpsc::channel();
            scope.spawn(move || reduce(buckets));
            self.model.backward_by_layer(|| {
                for bucket in layers.next().into_iter().flatten() {
                    finished
                        .send(bucket.slices())
                        .expect("the thread receives until the end");
                }
            });
        });
    }
}

type Slices<'a> = (&'a [f32], &'a mut [f32]);

impl Bucket {
    fn slices(&mut self) -> Slices<'_> {
        (floats(&self.own), floats_mut(&mut self.sum))
    }
}

fn start<'a, 's>(
    (own, sum): Slices<'a>,
    scope: &'s LocalScope<'a>,
) -> Request<'a, [f32], &'s LocalScope<'a>> {
    SimpleCommunicator::world().immediate_all_reduce_into(scope, own, sum, SystemOperation::sum())
}

/// Lets every transfer go on a little; returns those not at their end.
fn unfinished<'a, 's>(
    waiting: Vec<Request<'a, [f32], &'s LocalScope<'a>>>,
) -> Vec<Request<'a, [f32], &'s LocalScope<'a>>> {
    waiting
        .into_iter()
        .filter_map(|request| request.test().err())
        .collect()
}
