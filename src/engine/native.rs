//! The native CPU engine behind the door: rows of the file into its input, flat tensors as its weights.

use anyhow::{Result, ensure};
use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor};

use super::{
    Engine,
    isa::{Isa, bf16},
};
use crate::{
    compute::{Compute, Precision},
    data::Rows,
    flat::FlatTensors,
    model::{BatchNorm, Graph, Io, SumOverRanks},
    native::{self, Double, Element, Lanes, Native, Stages, Statistics, numbers},
    timeline::{Phase, Timeline},
};

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum EngineChoice {
    /// native where it can run the model, else libtorch; the choice is printed
    #[default]
    Auto,
    /// libtorch: every model, every device
    Libtorch,
    /// This program's own kernels: convolutional models on CPUs with AVX-512, AVX2 or NEON
    Native,
}

/// The native engine and what it is called, or why there is none for this model.
pub(super) fn native(
    graph: &Graph,
    flat: &FlatTensors,
    io: Io,
    device: Device,
    kind: Kind,
) -> Result<(Box<dyn Engine>, &'static str)> {
    ensure!(
        device == Device::Cpu,
        "the native engine computes on the CPU"
    );
    ensure!(
        io.per_base && io.classes == 1,
        "the native engine computes a logit a base"
    );
    let isa = Isa::best()?;
    let statistics = match graph.batch_norm() {
        BatchNorm::Frozen => Statistics::Running,
        BatchNorm::Rank | BatchNorm::Rank0 | BatchNorm::Sync => Statistics::Batch,
    };
    let threads = tch::get_num_threads() as usize;
    let synced = graph.batch_norm() == BatchNorm::Sync;
    let tensors = [&flat.parameters, &flat.gradients, &flat.buffers].map(Tensor::shallow_clone);
    let stages = Stages::new(graph, flat)?;
    macro_rules! engine {
        ($lanes:ty) => {{
            // SAFETY: the instruction set was just found on this CPU.
            #[allow(unsafe_code)]
            let native = unsafe { Native::<$lanes>::new(stages, statistics, threads) };
            Box::new(OnFlat {
                native,
                tensors,
                io,
                synced,
            }) as Box<dyn Engine>
        }};
    }
    Ok(match (kind, isa) {
        (Kind::Double, _) => (engine!(Double), "native, double precision"),
        #[cfg(target_arch = "x86_64")]
        (_, Isa::Avx512) => (engine!(native::Avx512), "native, AVX-512"),
        #[cfg(target_arch = "x86_64")]
        (_, Isa::Avx2) => (engine!(native::Avx2), "native, AVX2"),
        #[cfg(target_arch = "aarch64")]
        (_, Isa::Neon) => (engine!(native::Neon), "native, NEON"),
    })
}

/// The engine on the flat tensors: parameters, gradients, running statistics.
struct OnFlat<L: Lanes> {
    native: Native<L>,
    tensors: [Tensor; 3],
    io: Io,
    synced: bool,
}

/// Parameters, gradients and running statistics, to be read and written.
fn slices<T: Element>(tensors: &mut [Tensor; 3]) -> [&mut [T]; 3] {
    tensors.each_mut().map(|tensor| {
        // SAFETY: they live as long as the tensors, which are different memory (gradients and running statistics are
        // parts of one) and which nobody else uses during a call of the engine.
        #[allow(unsafe_code)]
        unsafe {
            numbers(tensor)
        }
    })
}

/// Writes every second place, even or odd by `phase`, of one channel of a window: one-hot bases, then signal.
pub(crate) fn fill<T: Element>(
    rows: &Rows,
    io: Io,
    window: usize,
    channel: usize,
    phase: usize,
    to: &mut [T],
) {
    let length = io.length as usize;
    if channel < 4 {
        let bases = &rows.seq[window * length..][..length];
        for (to, &base) in to.iter_mut().zip(bases[phase..].iter().step_by(2)) {
            *to = T::of(f64::from(u8::from(base == channel as u8)));
        }
    } else {
        let row = window * (io.channels as usize - 4) + channel - 4;
        let signal = &rows.signal[row * length..][phase..length];
        for (to, signal) in to.iter_mut().zip(signal.iter().step_by(2)) {
            *to = T::of(f64::from(signal.to_f32()));
        }
    }
}

impl<L: Lanes> Engine for OnFlat<L> {
    fn gradients(
        &mut self,
        rows: &Rows,
        timeline: &mut Timeline,
        sum: SumOverRanks,
    ) -> Result<(f64, f64)> {
        if rows.is_empty() && !self.synced {
            return Ok((0.0, 0.0));
        }
        let sum = |values: &mut [f64]| {
            if self.synced {
                let mut tensor = Tensor::from_slice(values);
                sum(&mut tensor);
                tensor.copy_data(values, values.len());
            }
        };
        if self.native.has_dropout() {
            let key = Tensor::randint(i64::MAX, [1], (Kind::Int64, Device::Cpu));
            self.native.drop_by(key.int64_value(&[0]) as u64);
        }
        let (io, batch) = (self.io, rows.len());
        let [parameters, gradients, running] = slices(&mut self.tensors);
        let fill = |window: usize, channel: usize, phase: usize, to: &mut [L::T]| {
            fill(rows, io, window, channel, phase, to);
        };
        self.native.forward(batch, parameters, running, fill, &sum);
        timeline.lap(Phase::Forward);
        let sums = self
            .native
            .backward(batch, &rows.label, parameters, gradients, &sum);
        timeline.lap(Phase::Backward);
        Ok(sums)
    }

    fn compute_as(&mut self, compute: &Compute, _: &FlatTensors) -> Result<()> {
        let own = Compute {
            look_every: compute.look_every,
            precision: compute.precision,
            ..Compute::PLAIN
        };
        ensure!(
            *compute == own,
            "the native engine has a layout of its own: --layout, --replay and --feed are libtorch's"
        );
        if compute.precision == Precision::Bf16 {
            ensure!(
                L::Bf16::PAIRS && bf16(),
                "--precision bf16: the native engine needs a CPU with avx512_bf16; f32, or --engine libtorch"
            );
            // SAFETY: the instructions were just found on this CPU.
            #[allow(unsafe_code)]
            unsafe {
                self.native.in_bf16();
            }
        }
        Ok(())
    }

    fn logits(&mut self, rows: &Rows) -> Result<Vec<f32>> {
        let io = self.io;
        let [parameters, _, running] = slices(&mut self.tensors);
        let mut logits = vec![L::T::default(); rows.label.len()];
        let fill = |window: usize, channel: usize, phase: usize, to: &mut [L::T]| {
            fill(rows, io, window, channel, phase, to);
        };
        self.native
            .infer(rows.len(), parameters, running, fill, &mut logits);
        Ok(logits
            .into_iter()
            .map(|logit| logit.wide() as f32)
            .collect())
    }
}
