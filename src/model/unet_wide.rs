//! The Leopard U-Net wide and shallow, as NCKU found it in the 2022 APAC HPC-AI competition: about a hundred trials of a
//! TPE search over dropout 0-0.5, weight of positives 1-20, 3-7 blocks, 10-30 filters, kernels of 5-13 and growth 1-2
//! ended at 30 filters, growth 1.13, 5 blocks, kernel 5, dropout 0.1535, weight 1.01, with 40 % of Leopard's parameters.
//! This is what they then trained: 25 filters, growth 1.13, kernel 7, dropout 0.15 after every batch norm, nothing after
//! the transposed convolutions; Adam, 128 windows a rank, rate 0.001 x ranks, 190 epochs. They published no score.
//! Input [B, 4 + tracks, L], L divisible by 32; widths 25 28 31 35 39 44, and back 38 33 29 25 22. 5 channels: 200,617
//! parameters.

use super::{
    Activation, Paper,
    unet::{LEOPARD, Shape, UNET},
};

pub const UNET_WIDE: Paper = Paper {
    name: WIDE.name,
    about: "U-Net wide and shallow, with dropout (NCKU 2022)",
    parameters: 200_617,
    build: |path, io, options| WIDE.build(path, io, options),
    up_activation: Some(WIDE.up_activation),
    ..UNET
};

const WIDE: Shape = Shape {
    name: "unet-wide",
    first_width: 25,
    scale: (113, 100),
    dropout: 0.15,
    up_activation: Activation::None,
    ..LEOPARD
};
