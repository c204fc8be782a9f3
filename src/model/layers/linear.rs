//! A matrix and what is added: in the heart of dense layers, attention and perceptrons.

use tch::{Tensor, nn};

#[derive(Debug)]
pub struct Linear {
    /// [out, in]
    pub weight: Tensor,
    /// [out]
    pub bias: Tensor,
}

impl Linear {
    pub fn new(path: &nn::Path, inputs: i64, outputs: i64) -> Self {
        Self::stacked(path, inputs, outputs, 1)
    }

    /// `parts` matrices of `outputs` rows, one above the other; each begins Glorot-uniform as if it stood alone.
    pub fn stacked(path: &nn::Path, inputs: i64, outputs: i64, parts: i64) -> Self {
        let limit = (6.0 / (inputs + outputs) as f64).sqrt();
        let (lo, up) = (-limit, limit);
        let rows = parts * outputs;
        Self {
            weight: path.var("weight", &[rows, inputs], nn::Init::Uniform { lo, up }),
            bias: path.zeros("bias", &[rows]),
        }
    }

    /// [.., in] -> [.., out]
    pub fn apply(&self, x: &Tensor) -> Tensor {
        x.linear(&self.weight, Some(&self.bias))
    }

    /// Floating-point operations of one row.
    pub fn operations(&self) -> f64 {
        2.0 * self.weight.numel() as f64
    }
}
