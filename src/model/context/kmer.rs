//! The central base of a k-mer, counted: Liang, Grønbæk, Fariselli & Krogh, "Context dependency of nucleotide
//! probabilities and variants in human DNA", BMC Genomics (2022), s12864-021-08246-1. `--kmer` bases on each side, 1 to 7,
//! on both strands; 5 have 3,145,728 free shares. The talk counts chr11 and tests on the rest.

use super::{IO, RECIPE, counting};
use crate::{
    counts::{Neighbours, Reading},
    model::{Paper, Recipe},
};

pub const KMER: Paper = Paper {
    name: "kmer",
    about: "a hidden base from counts of 1 to 7 bases on each side (Liang et al. 2022)",
    io: IO,
    parameters: 3_145_728,
    build: counting,
    convolutional: false,
    batch_norm: false,
    up_activation: None,
    recipe: Recipe {
        batch: 65_536,
        counts: Some(Reading {
            neighbours: Neighbours::Around(5),
            gamma: 10.0,
        }),
        ..RECIPE
    },
};
