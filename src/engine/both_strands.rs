//! A model that is asked about both strands, as DeepSEA and DanQ are tested: the probability of a place is the mean of
//! those of the window and of its reverse complement.

use anyhow::{Result, bail};
use tch::Tensor;

use super::{Engine, Net};
use crate::{
    compute::Compute,
    data::Rows,
    flat::FlatTensors,
    model::{Io, SumOverRanks},
    timeline::Timeline,
};

struct BothStrands {
    engine: Box<dyn Engine>,
    io: Io,
}

impl Net {
    /// For labels of 0 and 1.
    pub fn on_both_strands(self, io: Io) -> Self {
        assert_eq!(
            io.classes, 1,
            "a class has another name on the other strand"
        );
        let engine = self.engine;
        Self {
            engine: Box::new(BothStrands { engine, io }),
            ..self
        }
    }
}

impl Engine for BothStrands {
    fn gradients(
        &mut self,
        rows: &Rows,
        timeline: &mut Timeline,
        sum: SumOverRanks,
    ) -> Result<(f64, f64)> {
        self.engine.gradients(rows, timeline, sum)
    }

    fn compute_as(&mut self, compute: &Compute, flat: &FlatTensors) -> Result<()> {
        self.engine.compute_as(compute, flat)
    }

    fn input_gradient(&self, _: &Tensor, _: &dyn Fn(&Tensor) -> Tensor) -> Result<Tensor> {
        bail!("--both-strands: relevance is of one strand")
    }

    fn logits(&mut self, rows: &Rows) -> Result<Vec<f32>> {
        let mut logits = self.engine.logits(rows)?;
        let turned = rows.reverse_complement(self.io);
        let others = self.engine.logits(&turned)?;
        let places = if self.io.per_base { self.io.length } else { 1 } as usize;
        let both = logits.chunks_mut(places).zip(others.chunks(places));
        for (own, other) in both.flat_map(|(own, other)| own.iter_mut().zip(other.iter().rev())) {
            *own = logit_of_mean(f64::from(*own), f64::from(*other)) as f32;
        }
        Ok(logits)
    }
}

/// Of the mean of two probabilities, each given as a logit.
fn logit_of_mean(a: f64, b: f64) -> f64 {
    // ln of the sum of two sigmoids; far below zero a sigmoid is its exponential.
    let sum = |a: f64, b: f64| {
        let ln = |z: f64| z.min(0.0) - (-z.abs()).exp().ln_1p();
        let (low, high) = (ln(a).min(ln(b)), ln(a).max(ln(b)));
        high + (low - high).exp().ln_1p()
    };
    sum(a, b) - sum(-a, -b)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mean_is_of_probabilities_and_holds_far_out() {
        let sigmoid = |z: f64| 1.0 / (1.0 + (-z).exp());
        for (a, b) in [(0.3, -2.0), (4.0, 4.0), (-9.0, 1.0)] {
            let mean: f64 = (sigmoid(a) + sigmoid(b)) / 2.0;
            assert!((logit_of_mean(a, b) - (mean / (1.0 - mean)).ln()).abs() < 1e-9);
        }
        assert!((logit_of_mean(-2000.0, -2000.0) + 2000.0).abs() < 1e-9);
        // One strand is certain, the other certain of the opposite.
        assert!(logit_of_mean(2000.0, -2000.0).abs() < 1e-9);
    }
}
