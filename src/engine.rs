//! The narrow door between the training loop and what computes.

mod both_strands;
mod counting;
mod isa;
mod libtorch;
mod native;
mod replay;

use anyhow::{Context, Result, bail, ensure};
use tch::{Device, Kind, Tensor, nn::VarStore, no_grad};

use counting::Counting;
#[cfg(all(test, target_arch = "x86_64"))]
pub(crate) use isa::Isa;
pub(crate) use isa::bf16;
use libtorch::Libtorch;
pub use libtorch::masked_loss;
pub use native::EngineChoice;
#[cfg(test)]
pub(crate) use native::fill;

use crate::{
    compute::Compute,
    counts::Counter,
    data::Rows,
    flat::FlatTensors,
    loss::Loss,
    model::{Arch, Graph, Io, Options, SumOverRanks},
    timeline::Timeline,
};

pub trait Engine {
    /// Adds the gradient of the summed loss to the flat gradients; returns the sum and the number of valid labels.
    /// `sum` serves synchronised batch norm, for which every rank calls this with or without rows.
    fn gradients(
        &mut self,
        rows: &Rows,
        timeline: &mut Timeline,
        sum: SumOverRanks,
    ) -> Result<(f64, f64)>;
    /// As `gradients`, but adds the sum and the number to the first two of `sums` [2..] f64, which lie where the model
    /// computes: the host need not wait for them.
    fn launch(
        &mut self,
        rows: &Rows,
        timeline: &mut Timeline,
        sum: SumOverRanks,
        sums: &Tensor,
    ) -> Result<()> {
        let (loss, valid) = self.gradients(rows, timeline, sum)?;
        add_to(sums, &Tensor::from_slice(&[loss, valid]));
        Ok(())
    }
    /// Computes in another form from now on; an error where the engine has but one.
    fn compute_as(&mut self, compute: &Compute, _: &FlatTensors) -> Result<()> {
        let plain = Compute {
            look_every: compute.look_every,
            ..Compute::PLAIN
        };
        ensure!(
            *compute == plain,
            "this engine computes in f32 and its own layout: --precision, --layout, --replay and --feed are libtorch's"
        );
        Ok(())
    }
    /// The gradient, with respect to the input [B, C, L], of the sum that `score` makes of the logits [B, T, M] with
    /// running statistics.
    fn input_gradient(&self, _: &Tensor, _: &dyn Fn(&Tensor) -> Tensor) -> Result<Tensor> {
        bail!("this engine has no gradient of its input")
    }
    /// Logits [B, T, M] with running statistics, in row-major order.
    fn logits(&mut self, rows: &Rows) -> Result<Vec<f32>>;
    /// What is counted in place of learned, or read beside it.
    fn counter(&self) -> Option<&Counter> {
        None
    }
    fn counter_mut(&mut self) -> Option<&mut Counter> {
        None
    }
    /// The windows to come were all counted: each is scored as if it had not been. Weights know nothing of windows.
    fn leave_one_out(&mut self) {}
}

fn add_to(sums: &Tensor, numbers: &Tensor) {
    let mut first = sums.narrow(0, 0, numbers.numel() as i64);
    no_grad(|| first += numbers.to_device(sums.device()));
}

/// A model ready to run: what computes, and the flat tensors its weights live in.
pub struct Net {
    pub engine: Box<dyn Engine>,
    pub flat: FlatTensors,
    /// The engine's name.
    pub name: &'static str,
}

/// What a model is made of.
#[derive(Clone, Copy, Debug)]
pub struct Build {
    pub arch: Arch,
    pub options: Options,
    pub io: Io,
    pub device: Device,
    pub engine: EngineChoice,
    /// Double is for proofs; the first weights are the same as in single precision.
    pub kind: Kind,
    pub seed: u64,
    /// The share of positives at which a fresh model's output starts.
    pub prior: Option<f64>,
}

impl Build {
    pub fn net(self) -> Result<Net> {
        tch::manual_seed(self.seed as i64);
        let mut store = VarStore::new(self.device);
        let model = self.arch.build(&store.root(), self.io, self.options)?;
        if let Some(prior) = self.prior {
            model.start_at_prior(prior)?;
        }
        store.set_kind(self.kind);
        let flat = FlatTensors::new(&store);
        ensure!(
            self.io.classes == 1 || self.options.loss == Loss::CrossEntropy,
            "--loss: of several classes only the cross-entropy is known"
        );
        if model.counter().is_some() && flat.parameters.numel() == 0 {
            ensure!(
                self.engine == EngineChoice::Auto,
                "--engine: {} is counted, by neither libtorch nor the native engine",
                self.arch.name()
            );
            let engine = Box::new(Counting::new(model, self.io.length));
            let name = "counts";
            return Ok(Net { engine, flat, name });
        }
        let native = match self.engine {
            EngineChoice::Libtorch => None,
            EngineChoice::Auto => {
                isa::Isa::check_wish()?;
                self.native(&model, &flat).ok()
            }
            EngineChoice::Native => Some(
                self.native(&model, &flat)
                    .with_context(|| format!("--engine native: {}", self.arch.name()))?,
            ),
        };
        let (engine, name) = native.unwrap_or_else(|| {
            let engine = Libtorch::new(model, self.io, self.options.loss, self.device, self.kind);
            (Box::new(engine), "libtorch")
        });
        Ok(Net { engine, flat, name })
    }

    fn native(&self, model: &Graph, flat: &FlatTensors) -> Result<(Box<dyn Engine>, &'static str)> {
        ensure!(
            self.options.loss == Loss::CrossEntropy,
            "the native engine minimises the cross-entropy"
        );
        native::native(model, flat, self.io, self.device, self.kind)
    }
}

impl Net {
    pub fn compute_as(&mut self, compute: &Compute) -> Result<()> {
        self.engine.compute_as(compute, &self.flat)
    }
}
