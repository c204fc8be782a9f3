//! Layers that only libtorch computes.

mod attention;
mod dense;
mod encoder;
mod linear;
mod recurrent;

pub(super) use encoder::Encoder;
pub(super) use recurrent::Cell;

use std::fmt;

use tch::Tensor;

/// What a [`Graph`](super::Graph) need not know more about than its shape.
pub(crate) trait Block: fmt::Debug + Send {
    /// [B, C, L] of each input -> [B, C, L] of the layer.
    fn forward(&self, inputs: &[&Tensor], train: bool) -> Tensor;

    /// Keras' name of the layer's type.
    fn kind(&self) -> &'static str;

    /// What is learned.
    fn parameters(&self) -> Vec<&Tensor>;

    /// Floating-point operations of a window forward, a multiplication and an addition counting two.
    fn operations(&self) -> f64;

    /// The bias that logits start from, where this layer can be the last.
    fn bias(&self) -> Option<&Tensor> {
        None
    }
}
