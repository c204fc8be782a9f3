//! The CPU engine for stacks of convolution, ReLU, batch norm, dropout, pooling, concatenation, sums and gates: forward
//! and backward written out, layer by layer over all windows of a batch, in vectors of AVX-512, AVX2 or NEON.
//!
//! A channel is two rows, its even and its odd places (`phases`), which saves a fifth of a convolution's products. Stages of
//! a step: convolution with bias and ReLU, at once the moments of each block it wrote; the norm is applied by whoever reads
//! (`input`) · pooling · ... · loss · and back: norm and ReLU, the input of a window while its rows are in the cache, with
//! the sums that the norm below needs, then weights of a few windows at once. Weights, gradients and running statistics are
//! those of the flat tensors.

// SAFETY of the whole room: kernels read and write rows of an `Arena`, whose sizes a `Program` fixed before.
#![allow(unsafe_code, unsafe_op_in_unsafe_fn)]
// Tiles are indexed as in their formulas.
#![allow(clippy::needless_range_loop)]

mod adam;
mod arena;
mod backward;
mod conv;
mod forward;
mod infer;
mod input;
mod lanes;
mod loss;
mod norm;
mod pack;
mod phases;
mod pointwise;
mod program;
mod resample;
#[cfg(test)]
mod tests;
mod weights;
mod workers;

use std::{ops::Range, sync::Mutex};

pub use adam::{Rates, adam};
use arena::{Arena, Place, Shape};
use input::{Input, ScaleShift};
#[cfg(all(test, target_arch = "x86_64"))]
use lanes::Avx512Bf16;
use lanes::Kernel;
#[cfg(target_arch = "aarch64")]
pub use lanes::Neon;
#[cfg(target_arch = "x86_64")]
pub use lanes::{Avx2, Avx512};
pub use lanes::{Double, Element, Lanes};
use norm::Sums;
use pack::{Form, Packed};
use program::{Kind, Program, Stage};
use workers::Workers;

pub use program::Program as Stages;

/// Adds doubles up over the ranks, in place.
pub type SumDoubles<'a> = &'a dyn Fn(&mut [f64]);

/// What batch norm normalises by while training.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Statistics {
    /// Of the batch, on this rank or on all by the sum that is given.
    Batch,
    /// The running ones.
    Running,
}

/// Numbers of a batch norm in the present step, mostly one a channel. They stay for the next: a step takes no memory.
struct NormState<T> {
    mean: Vec<T>,
    /// 1 / deviation
    inverse: Vec<T>,
    /// Mean and variance in double.
    exact: [Vec<f64>; 2],
    /// What is summed over the ranks.
    totals: Vec<f64>,
    /// Sums of this rank, by window: [B, C]. Each worker writes those of its windows.
    moments: Mutex<Vec<Sums>>,
    /// The same of g and of g (x - mean).
    sums: Mutex<Vec<(f64, f64)>>,
    /// Numbers behind mean and deviation.
    count: f64,
    /// Of [`norm::ThroughNorm`].
    scale: Vec<T>,
    mean_g: Vec<T>,
    slope: Vec<T>,
}

impl<T: Element> NormState<T> {
    fn new(channels: usize) -> Self {
        let zeros = || vec![T::default(); channels];
        Self {
            mean: zeros(),
            inverse: zeros(),
            exact: [vec![0.0; channels], vec![0.0; channels]],
            totals: Vec::with_capacity(2 * channels + 1),
            moments: Mutex::default(),
            sums: Mutex::default(),
            count: 0.0,
            scale: zeros(),
            mean_g: zeros(),
            slope: zeros(),
        }
    }

    /// Room for the sums of so many windows.
    fn begin(&mut self, batch: usize) {
        let size = batch * self.mean.len();
        let moments = self.moments.get_mut().expect("no worker panics");
        moments.resize(size, Sums::default());
        let sums = self.sums.get_mut().expect("no worker panics");
        sums.resize(size, (0.0, 0.0));
    }
}

/// So many zeros where others were.
fn cleared<T: Copy + Default>(numbers: &mut Vec<T>, size: usize) -> &mut [T] {
    numbers.clear();
    numbers.resize(size, T::default());
    numbers
}

/// Puts a window's channels among those of all windows.
fn keep<T: Copy>(all: &Mutex<Vec<T>>, window: usize, own: &[T]) {
    all.lock().expect("no worker panics")[window * own.len()..][..own.len()].copy_from_slice(own);
}

/// What readers do to the channels of a buffer.
struct Affine<T> {
    scale: Vec<T>,
    shift: Vec<T>,
}

/// Weights of a stage in the order of the kernels.
struct StageWeights<T> {
    forward: Packed<T>,
    backward: Option<Packed<T>>,
    /// Where two phases share a bias.
    bias: Vec<T>,
}

/// Places of a phase over which a worker sums a weight's gradient before it is added up: short rows of several windows.
const GROUP_PLACES: usize = 4096;

/// Memory of a worker: a thread and the windows it has.
struct Worker<T> {
    /// For the present kernel's own use.
    scratch: Vec<T>,
    /// A window's sums for a norm, a channel each.
    moments: Vec<Sums>,
    sums: Vec<(f64, f64)>,
    /// Rows of the gradient of transposed convolutions.
    apart: Arena<T>,
    /// Gradients of its windows, as the flat gradients.
    gradients: Vec<T>,
    /// Of convolutions, as their kernel leaves them.
    products: Vec<Vec<T>>,
}

impl Stage {
    /// Rows of the gradient of a transposed convolution, apart by the phase of its output.
    fn apart(&self) -> Shape {
        Shape::of(2 * self.y.channels, self.x.length)
    }

    /// Windows whose weight gradients are computed at once.
    fn group(&self) -> usize {
        match self.kind {
            Kind::Conv { taps, .. } if taps > 1 => {
                (GROUP_PLACES / Shape::of(0, self.x.length).padded()).max(1)
            }
            _ => 1,
        }
    }

    /// Elements of a worker's scratch.
    fn scratch<T>(&self) -> usize {
        let (inputs, outputs) = (self.x.channels, self.y.channels);
        match self.kind {
            Kind::Conv { .. } => {
                let padded = Shape::of(0, self.x.length).padded();
                let weights = weights::scratch::<T>(inputs, outputs, padded, self.group());
                let products = weights::products_scratch(inputs + outputs);
                let conv = [inputs, outputs].map(conv::scratch::<T>);
                weights.max(products).max(conv[0]).max(conv[1])
            }
            Kind::UpConv => weights::products_scratch(inputs + 2 * outputs)
                .max(conv::scratch::<T>(inputs))
                .max(conv::scratch::<T>(2 * outputs)),
            Kind::Pool | Kind::Dropout(_) | Kind::Add | Kind::Gate => 0,
        }
    }
}

pub struct Native<L: Lanes> {
    program: Program,
    statistics: Statistics,
    bf16: bool,
    /// What dropout draws from in the present step.
    key: u64,
    workers: Workers,
    values: Arena<L::T>,
    gradients: Arena<L::T>,
    norms: Vec<Option<NormState<L::T>>>,
    /// The norms of the present step by buffer, a channel each.
    affine: Vec<Option<Affine<L::T>>>,
    weights: Vec<Option<StageWeights<L::T>>>,
    of_workers: Vec<Mutex<Worker<L::T>>>,
    /// Loss and labels of each window.
    losses: Mutex<Vec<(f64, f64)>>,
    /// Values of one window a worker, for inference.
    single: Vec<Arena<L::T>>,
}

impl<L: Lanes> Native<L> {
    /// # Safety
    /// The CPU has the instructions of `L`.
    pub unsafe fn new(program: Program, statistics: Statistics, threads: usize) -> Self {
        let workers = Workers::new(threads);
        let empty = || Arena::new(&[], 0);
        let norms = program.stages.iter().map(|stage| match stage.kind {
            Kind::Conv { norm: Some(_), .. } => Some(NormState::new(stage.y.channels)),
            _ => None,
        });
        let weights = program.stages.iter().map(|stage| {
            let inputs = stage.x.channels;
            let (forward, taps) = match stage.kind {
                Kind::Conv { taps, .. } => {
                    (Packed::new(stage.y.channels, inputs, taps, L::ROWS), taps)
                }
                // A transposed convolution of stride 2 and 2 taps is one of 1 tap to twice the channels.
                Kind::UpConv => (
                    Packed::of(Form::Up, 2 * stage.y.channels, inputs, L::ROWS),
                    1,
                ),
                Kind::Pool | Kind::Dropout(_) | Kind::Add | Kind::Gate => return None,
            };
            let outputs = forward.outputs;
            let backward = stage.dx != program::Write::Nowhere;
            Some(StageWeights {
                forward,
                backward: backward.then(|| Packed::new(inputs, outputs, taps, L::ROWS)),
                bias: vec![L::T::default(); outputs],
            })
        });
        let scratch = program.stages.iter().map(Stage::scratch::<L::T>).max();
        let apart = program.stages.iter().map(|stage| match stage.kind {
            Kind::UpConv => Some(stage.apart()),
            _ => None,
        });
        let apart: Vec<_> = apart.collect();
        let of_workers = (0..threads).map(|_| {
            let products = program.stages.iter().map(|stage| match stage.kind {
                Kind::Conv { taps, .. } if taps > 1 => {
                    vec![
                        L::T::default();
                        weights::products(stage.y.channels, stage.x.channels, taps)
                    ]
                }
                Kind::UpConv => vec![L::T::default(); 2 * stage.y.channels * stage.x.channels],
                _ => Vec::new(),
            });
            Mutex::new(Worker {
                // A kernel may load one vector more.
                scratch: vec![L::T::default(); scratch.unwrap_or(0) + 2 * conv::HALO],
                moments: Vec::new(),
                sums: Vec::new(),
                apart: Arena::new(&apart, 1),
                gradients: Vec::new(),
                products: products.collect(),
            })
        });
        let affine = program.buffers.iter().enumerate().map(|(buffer, shape)| {
            let normed = program.stages.iter().any(|stage| {
                matches!(stage.kind, Kind::Conv { norm: Some(_), .. }) && stage.y.buffer == buffer
            });
            // Channels without a norm stay as they are: x 1 + 0.
            normed.then(|| Affine {
                scale: vec![L::T::of(1.0); shape.rows / 2],
                shift: vec![L::T::default(); shape.rows / 2],
            })
        });
        Self {
            affine: affine.collect(),
            norms: norms.collect(),
            weights: weights.collect(),
            of_workers: of_workers.collect(),
            statistics,
            bf16: false,
            key: 0,
            workers,
            values: empty(),
            gradients: empty(),
            losses: Mutex::default(),
            single: Vec::new(),
            program,
        }
    }

    /// From now on convolutions and the gradients of their weights multiply numbers rounded to bf16, and sum in f32.
    ///
    /// # Safety
    /// The CPU has the instructions of `L::Bf16`.
    pub unsafe fn in_bf16(&mut self) {
        assert!(L::Bf16::PAIRS && !self.bf16);
        self.bf16 = true;
        for weights in self.weights.iter_mut().flatten() {
            weights.forward.in_pairs();
            weights.backward.iter_mut().for_each(Packed::in_pairs);
        }
    }

    /// # Safety
    /// As the kernel's; its rows are of the shapes of the weights.
    unsafe fn multiply<K: Kernel<T = L::T>>(&self, kernel: K) -> K::Output {
        match self.bf16 {
            true => L::Bf16::run(kernel),
            false => L::run(kernel),
        }
    }

    pub fn has_dropout(&self) -> bool {
        let mut stages = self.program.stages.iter();
        stages.any(|stage| matches!(stage.kind, Kind::Dropout(_)))
    }

    /// The next steps drop by this number.
    pub fn drop_by(&mut self, key: u64) {
        self.key = key;
    }

    /// A place of a window as kernels read it in a training step.
    fn input(&self, place: Place, window: usize) -> Input<'_, L::T> {
        let channels = place.first..place.first + place.channels;
        let norm = self.affine[place.buffer].as_ref();
        Input {
            rows: self.values.rows(place, window),
            length: place.length,
            norm: norm.map(|affine| ScaleShift {
                scale: &affine.scale[channels.clone()],
                shift: &affine.shift[channels],
            }),
        }
    }

    /// Memory for a batch; it is kept, and grows for a larger one.
    fn take_memory(&mut self, batch: usize) {
        if self.values.batch() < batch {
            let all = self.program.buffers.iter().copied();
            self.values = Arena::new(&all.clone().map(Some).collect::<Vec<_>>(), batch);
            // Data have no gradient.
            let made = |(buffer, shape)| self.program.is_made(buffer).then_some(shape);
            let shapes: Vec<_> = all.enumerate().map(made).collect();
            self.gradients = Arena::new(&shapes, batch);
        }
    }
}

/// Windows of each of `workers`.
fn windows(batch: usize, worker: usize, workers: usize) -> Range<usize> {
    batch * worker / workers..batch * (worker + 1) / workers
}

/// The numbers of a tensor, to be read and written.
///
/// # Safety
/// Nobody else reads or writes them meanwhile, and the tensor is alive.
pub unsafe fn numbers<'a, T: Element>(tensor: &tch::Tensor) -> &'a mut [T] {
    assert!(
        tensor.kind() == T::KIND && tensor.device() == tch::Device::Cpu && tensor.is_contiguous()
    );
    match tensor.numel() {
        0 => &mut [],
        numel => std::slice::from_raw_parts_mut(tensor.data_ptr().cast(), numel),
    }
}
