//! A Markov chain read in both directions: the mean of what the 14 bases before a hidden one say on its strand and on
//! the other. Liang, Grønbæk, Fariselli & Krogh, BMC Genomics (2022), s12864-021-08246-1: above 50 % in human DNA, about
//! 52 % as Grønbæk et al. 2022 have it. `--markov-order` 1 to 15; 14 have 805,306,368 free shares, of which a genome
//! shows a small part: the table holds what was seen. Shorter orders stand in for what was not.

use super::{IO, RECIPE, counting};
use crate::{
    counts::{Neighbours, Reading},
    model::{Paper, Recipe},
};

pub const MARKOV: Paper = Paper {
    name: "markov",
    about: "a hidden base from counts of the 14 before it on either strand (Liang et al. 2022)",
    io: IO,
    parameters: 805_306_368,
    build: counting,
    convolutional: false,
    batch_norm: false,
    up_activation: None,
    recipe: Recipe {
        batch: 65_536,
        counts: Some(Reading {
            neighbours: Neighbours::Before(14),
            gamma: 10.0,
        }),
        ..RECIPE
    },
};
