//! Layers that only libtorch computes.

mod attention;
mod counted;
mod dense;
mod encoder;
mod flank;
mod linear;
mod mixture;
mod recurrent;
mod tracks;

pub(super) use encoder::Encoder;
pub(super) use recurrent::Cell;

use std::fmt;

use tch::Tensor;

use crate::counts::Counter;

/// What a [`Graph`](super::Graph) need not know more about than its shape.
pub(crate) trait Block: fmt::Debug + Send {
    /// [B, C, L] of each input -> [B, C, L] of the layer.
    fn forward(&self, inputs: &[&Tensor], train: bool) -> Tensor;

    /// Keras' name of the layer's type.
    fn kind(&self) -> &'static str;

    /// What is learned.
    fn parameters(&self) -> Vec<&Tensor>;

    fn num_parameters(&self) -> i64 {
        let numel = self.parameters().into_iter().map(Tensor::numel);
        numel.sum::<usize>() as i64
    }

    /// Floating-point operations of a window forward, a multiplication and an addition counting two.
    fn operations(&self) -> f64;

    /// The bias that logits start from, where this layer can be the last.
    fn bias(&self) -> Option<&Tensor> {
        None
    }

    /// What is counted, where something is.
    fn counter(&self) -> Option<&Counter> {
        None
    }

    fn counter_mut(&mut self) -> Option<&mut Counter> {
        None
    }
}
