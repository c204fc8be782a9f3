//! Leopard: Li & Guan, "Fast decoding cell type-specific transcription factor binding landscape at single-nucleotide
//! resolution", Genome Res. 31:721 (2021). Input [B, 4 + tracks, L], L divisible by 32; output one logit a base.
//! 5 channels: 475,969 parameters (474,017 trained); 6 channels: 476,074.
//! Published on CTCF in K562, 1-bp PR-AUC: 0.5297 (NTHU 2022, ReLU after the transposed convolutions).
//!
//! What others made of it is a [`Shape`] of the same function: [`unet_wide`](super::unet_wide),
//! [`unet_attention`](super::unet_attention), [`transunet`](super::transunet).

use anyhow::Result;
use tch::nn;

use super::{
    Activation, Graph, Io, Options, Paper, USUAL,
    graph::{Builder, Value},
    layers::Encoder,
};

pub const UNET: Paper = Paper {
    name: LEOPARD.name,
    about: "Leopard U-Net (Li & Guan 2021)",
    io: IO,
    parameters: 475_969,
    build: |path, io, options| LEOPARD.build(path, io, options),
    convolutional: true,
    batch_norm: true,
    up_activation: Some(LEOPARD.up_activation),
    recipe: USUAL,
};

/// Of the competition's data.
pub(super) const IO: Io = Io {
    channels: 5,
    length: 10_240,
    targets: 1,
    per_base: true,
    classes: 1,
};

/// Widths 15 22 33 49 73 109, and back 72 48 32 21 14.
pub(super) const LEOPARD: Shape = Shape {
    name: "unet",
    first_width: 15,
    scale: (3, 2),
    dropout: 0.0,
    up_activation: Activation::Relu,
    gates: false,
    bottom: None,
};

const BLOCKS: usize = 5;
const KERNEL: i64 = 7;

/// What the U-Nets differ in.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shape {
    pub name: &'static str,
    pub first_width: i64,
    /// Widths grow by this ratio from block to block and shrink by it on the way back, each time rounded down.
    pub scale: (i64, i64),
    /// Share dropped after every batch norm.
    pub dropout: f64,
    /// After transposed convolutions, unless another is typed.
    pub up_activation: Activation,
    /// Whether the way back says which places of a skip it wants to see.
    pub gates: bool,
    /// What the places of the bottom, one for 32 bases, have to say to each other.
    pub bottom: Option<Encoder>,
}

impl Shape {
    pub fn build(&self, path: &nn::Path, io: Io, options: Options) -> Result<Graph> {
        io.check_per_base(self.name)?;
        io.check_length(self.name, 1 << BLOCKS)?;
        let up_activation = options.up_activation.unwrap_or(self.up_activation);
        let (grow, shrink) = self.scale;
        let (mut graph, mut x) = Builder::new(path, io, options);
        let mut width = options.first_width.unwrap_or(self.first_width);
        let mut skips = Vec::new();
        for _ in 0..BLOCKS {
            x = self.block(&mut graph, x, width);
            skips.push(x);
            x = graph.max_pool(x);
            width = width * grow / shrink;
        }
        x = self.block(&mut graph, x, width);
        if let Some(encoder) = &self.bottom {
            x = graph.conv(x, encoder.width, 1, Activation::None);
            x = graph.encoder(x, encoder);
        }
        while let Some(mut skip) = skips.pop() {
            width = width * shrink / grow;
            x = graph.up_conv(x, width, up_activation);
            if self.gates {
                skip = gated(&mut graph, skip, x);
            }
            x = graph.concat(x, skip);
            x = self.block(&mut graph, x, width);
        }
        graph.conv(x, io.outputs(), 1, Activation::None);
        Ok(graph.finish())
    }

    /// Twice convolution, ReLU, batch norm, in this order: the norm comes after the ReLU.
    fn block(&self, graph: &mut Builder, mut x: Value, width: i64) -> Value {
        for _ in 0..2 {
            x = graph.conv(x, width, KERNEL, Activation::Relu);
            x = graph.batch_norm(x);
            x = graph.dropout(x, self.dropout);
        }
        x
    }
}

/// The skip's channels times what their place is worth to `asking`: additive attention, Oktay et al. 2018, eq. 1.
fn gated(graph: &mut Builder, skip: Value, asking: Value) -> Value {
    let between = (graph.shape(skip).0 / 2).max(1);
    let offered = graph.conv(skip, between, 1, Activation::None);
    let asked = graph.conv(asking, between, 1, Activation::None);
    let both = graph.add(offered, asked, Activation::Relu);
    let score = graph.conv(both, 1, 1, Activation::None);
    graph.gate(skip, score)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::{Device, nn::VarStore};

    #[test]
    fn a_step_of_a_window_is_3_gflop() {
        let store = VarStore::new(Device::Cpu);
        let graph = LEOPARD.build(&store.root(), IO, Options::default());
        let (forward, step) = graph.unwrap().operations();
        assert_eq!((forward / 1e6).round(), 1006.0);
        assert_eq!((step / 1e6).round(), 3006.0);
    }
}
