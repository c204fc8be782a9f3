//! TransUNet: Chen et al., "TransUNet: transformers make strong encoders for medical image segmentation", 2021,
//! arXiv:2102.04306: a CNN finds features, a transformer lets them speak to each other, a U-Net's decoder with skips leads
//! back to every base. There ResNet-50 and ViT-B (105 million parameters, 12 layers of 768) on images. Here the CNN and
//! the decoder are Leopard's, as in A*STAR's entry to the 2022 APAC HPC-AI competition (four encoder blocks of 4 x 256 at
//! the bottom, no positions, no score published), with ViT's encoder in the small.
//! Input [B, 4 + tracks, L], L divisible by 32: a token for 32 bases, 320 of 10,240. 5 channels: 1,682,673 parameters.

use super::{
    Paper,
    layers::Encoder,
    unet::{LEOPARD, Shape, UNET},
};

pub const TRANSUNET: Paper = Paper {
    name: TRANS.name,
    about: "CNN, transformer, U-Net decoder (TransUNet, Chen et al. 2021)",
    parameters: 1_682_673,
    build: |path, io, options| TRANS.build(path, io, options),
    convolutional: false,
    ..UNET
};

const TRANS: Shape = Shape {
    name: "transunet",
    bottom: Some(ENCODER),
    ..LEOPARD
};

/// Half the layers of ViT-B and a sixth of its width; its heads of 64 channels are 32 here, its dropout and its four-fold
/// perceptron are kept.
pub(super) const ENCODER: Encoder = Encoder {
    width: 128,
    heads: 4,
    depth: 6,
    hidden: 512,
    dropout: 0.1,
};
