//! Leopard: Li & Guan, "Fast decoding cell type-specific transcription factor binding landscape at single-nucleotide
//! resolution", Genome Res. 31:721 (2021). Input [B, 4 + tracks, L], L divisible by 32; output one logit a base.
//! 5 channels: 475,969 parameters (474,017 trained); 6 channels: 476,074.
//! Published on CTCF in K562, 1-bp PR-AUC: 0.5297 (NTHU 2022, ReLU after the transposed convolutions).

use anyhow::{Result, ensure};
use tch::nn;

use super::{Activation, Graph, Io, Options, Paper, USUAL, graph::Builder};

pub const UNET: Paper = Paper {
    name: "unet",
    about: "Leopard U-Net (Li & Guan 2021)",
    io: Io {
        channels: 5,
        length: 10_240,
        targets: 1,
        per_base: true,
        classes: 1,
    },
    parameters: 475_969,
    build: unet,
    convolutional: true,
    recipe: USUAL,
};

const BLOCKS: usize = 5;
const FIRST_WIDTH: i64 = 15;
const KERNEL: i64 = 7;

/// Widths are scaled by 1.5 a block and rounded down: 15 22 33 49 73 109, and back 72 48 32 21 14.
fn wider(width: i64) -> i64 {
    width * 3 / 2
}

fn narrower(width: i64) -> i64 {
    width * 2 / 3
}

fn unet(path: &nn::Path, io: Io, options: Options) -> Result<Graph> {
    io.check_per_base("unet")?;
    ensure!(
        io.length > 0 && io.length % (1 << BLOCKS) == 0,
        "the unet halves a window {BLOCKS} times: its length must be a multiple of {}, found {}",
        1 << BLOCKS,
        io.length
    );
    let up_activation = options.up_activation.unwrap_or(Activation::Relu);
    let (mut graph, mut x) = Builder::new(path, io, options);
    let (mut skips, mut width) = (Vec::new(), options.first_width.unwrap_or(FIRST_WIDTH));
    for _ in 0..BLOCKS {
        x = block(&mut graph, x, width);
        skips.push(x);
        x = graph.max_pool(x);
        width = wider(width);
    }
    x = block(&mut graph, x, width);
    while let Some(skip) = skips.pop() {
        width = narrower(width);
        x = graph.up_conv(x, width, up_activation);
        x = graph.concat(x, skip);
        x = block(&mut graph, x, width);
    }
    graph.conv(x, io.outputs(), 1, Activation::None);
    Ok(graph.finish())
}

/// Twice convolution, ReLU, batch norm, in this order: the norm comes after the ReLU.
fn block(graph: &mut Builder, mut x: super::graph::Value, width: i64) -> super::graph::Value {
    for _ in 0..2 {
        x = graph.conv(x, width, KERNEL, Activation::Relu);
        x = graph.batch_norm(x);
    }
    x
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::{Device, nn::VarStore};

    #[test]
    fn a_step_of_a_window_is_3_gflop() {
        let graph = unet(
            &VarStore::new(Device::Cpu).root(),
            UNET.io,
            Options::default(),
        )
        .unwrap();
        let (forward, step) = graph.operations();
        assert_eq!((forward / 1e6).round(), 1006.0);
        assert_eq!((step / 1e6).round(), 3006.0);
    }
}
