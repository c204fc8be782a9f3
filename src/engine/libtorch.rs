//! libtorch's autograd: every model, every device.

use anyhow::{Result, ensure};
use tch::{Device, Kind, Reduction, Tensor, nn::ModuleT, no_grad};

use super::Engine;
use crate::{
    data::Rows,
    model::{BatchNorm, Graph, Io, SumOverRanks},
    timeline::{Phase, Timeline},
};

pub(super) struct Libtorch {
    pub model: Graph,
    pub io: Io,
    pub device: Device,
    pub kind: Kind,
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
