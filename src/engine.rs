//! The narrow door between the training loop and what computes: libtorch's autograd for every model and device.

use anyhow::{Result, ensure};
use tch::{
    Device, Kind, Reduction, Tensor,
    nn::{ModuleT, VarStore},
    no_grad,
};

use crate::{
    data::Rows,
    flat::FlatTensors,
    model::{Arch, BatchNorm, Graph, Io, Options, SumOverRanks},
    timeline::{Phase, Timeline},
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
    /// Logits [B, T, M] with running statistics, in row-major order.
    fn logits(&mut self, rows: &Rows) -> Result<Vec<f32>>;
}

struct Libtorch {
    model: Graph,
    io: Io,
    device: Device,
    kind: Kind,
}

impl Engine for Libtorch {
    fn gradients(
        &mut self,
        rows: &Rows,
        timeline: &mut Timeline,
        sum: SumOverRanks,
    ) -> Result<(f64, f64)> {
        let synced = self.model.batch_norm() == BatchNorm::Sync;
        // A rank may have no rows in the last step of an epoch.
        if rows.is_empty() && !synced {
            return Ok((0.0, 0.0));
        }
        let (x, labels) = (
            rows.input(self.io, self.device).to_kind(self.kind),
            rows.labels(self.io, self.device),
        );
        timeline.lap(Phase::Input);
        let (loss, valid) = if synced {
            let loss = |logits: &Tensor| masked_loss(logits, &labels);
            self.model
                .synced_gradients(&x, loss, || timeline.lap(Phase::Forward), sum)
        } else {
            let (loss, valid) = masked_loss(&self.model.forward_t(&x, true), &labels);
            timeline.lap(Phase::Forward);
            loss.f_backward()?;
            (loss, valid)
        };
        let sums = (loss.double_value(&[]), valid.double_value(&[]));
        timeline.lap(Phase::Backward);
        Ok(sums)
    }

    fn logits(&mut self, rows: &Rows) -> Result<Vec<f32>> {
        if rows.is_empty() {
            return Ok(Vec::new());
        }
        let x = rows.input(self.io, self.device).to_kind(self.kind);
        let logits = no_grad(|| self.model.forward_t(&x, false));
        ensure!(
            logits.numel() == rows.label.len(),
            "the model's output does not fit the labels"
        );
        Ok(Vec::try_from(logits.flatten(0, -1))?)
    }
}

/// A model ready to run: what computes, and the flat tensors its weights live in.
pub struct Net {
    pub engine: Box<dyn Engine>,
    pub flat: FlatTensors,
}

impl Net {
    /// A fresh model; `prior` is the share of positives its output starts at.
    pub fn new(
        arch: Arch,
        options: Options,
        io: Io,
        device: Device,
        seed: u64,
        prior: Option<f64>,
    ) -> Result<Self> {
        Self::of_kind(Kind::Float, arch, options, io, device, seed, prior)
    }

    /// In double precision for proofs; the first weights are the same as in single.
    pub fn of_kind(
        kind: Kind,
        arch: Arch,
        options: Options,
        io: Io,
        device: Device,
        seed: u64,
        prior: Option<f64>,
    ) -> Result<Self> {
        tch::manual_seed(seed as i64);
        let mut store = VarStore::new(device);
        let model = arch.build(&store.root(), io, options)?;
        if let Some(prior) = prior {
            model.start_at_prior(prior)?;
        }
        store.set_kind(kind);
        let flat = FlatTensors::new(&store);
        let engine = Libtorch {
            model,
            io,
            device,
            kind,
        };
        Ok(Self {
            engine: Box::new(engine),
            flat,
        })
    }
}

/// Binary cross-entropy from logits, summed over the valid labels (those that are not -1), and their number.
pub fn masked_loss(logits: &Tensor, labels: &Tensor) -> (Tensor, Tensor) {
    let mask = labels.ge(0).to_kind(logits.kind());
    let target = labels.clamp_min(0).to_kind(logits.kind());
    let loss = logits.binary_cross_entropy_with_logits(
        &target,
        Some(&mask),
        None::<&Tensor>,
        Reduction::Sum,
    );
    (loss, mask.sum(Kind::Double))
}
