//! The narrow door between the training loop and what computes.

mod libtorch;

use anyhow::Result;
use tch::{Device, Kind, nn::VarStore};

use libtorch::Libtorch;
pub use libtorch::masked_loss;

use crate::{
    data::Rows,
    flat::FlatTensors,
    model::{Arch, Io, Options, SumOverRanks},
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
    /// Logits [B, T, M] with running statistics, in row-major order.
    fn logits(&mut self, rows: &Rows) -> Result<Vec<f32>>;
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
