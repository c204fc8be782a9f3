//! The Leopard U-Net with gates on its skips: Oktay et al., "Attention U-Net: learning where to look for the pancreas",
//! MIDL 2018, arXiv:1804.03999. For each place x of a skip and what the way back has there, g: x sigmoid(psi . relu(W x +
//! V g)). Here g is already of the skip's length, behind the transposed convolution (Oktay's is coarser, and the score is
//! interpolated); W and V lead to half the skip's channels; no norm within the gate, as there.
//! Input [B, 4 + tracks, L], L divisible by 32. 5 channels: 485,520 parameters. Published for binding sites is only a
//! relative, with attention over channels and places: AUROC 0.986, AUPRC 0.169 at 1 bp, mean of 23 tests (Feng et al.,
//! Hereditas (Beijing) 48:522, 2026), where Leopard has 0.982 and 0.208.

use super::{
    Paper,
    unet::{LEOPARD, Shape, UNET},
};

pub const UNET_ATTENTION: Paper = Paper {
    name: GATED.name,
    about: "U-Net with attention gates on its skips (Oktay et al. 2018)",
    parameters: 485_520,
    build: |path, io, options| GATED.build(path, io, options),
    ..UNET
};

const GATED: Shape = Shape {
    name: "unet-attention",
    gates: true,
    ..LEOPARD
};
