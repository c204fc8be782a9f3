//! `simulate`: data in which it is known what was planted.

mod genome;
mod sequences;

use std::fmt;

use clap::{Args, Subcommand};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use crate::error::Error;
use crate::made::Made;
pub use genome::{GenomeOptions, PlantedGenome};
pub use sequences::SequenceKind;

#[derive(Debug, Clone, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct SimulateOptions {
    #[command(subcommand)]
    kind: Option<Kind>,
    /// Without a kind, a genome
    #[command(flatten)]
    genome: Option<GenomeOptions>,
}

#[derive(Debug, Clone, Subcommand)]
enum Kind {
    /// A small genome with planted CTCF sites that bind where chromatin is open
    Genome(GenomeOptions),
    #[command(flatten)]
    Sequences(SequenceKind),
}

/// What was written.
pub enum Simulated {
    Genome(PlantedGenome),
    Sequences(Made),
}

pub fn simulate(options: &SimulateOptions) -> Result<Simulated, Error> {
    let kind = options.kind.clone();
    match kind.or(options.genome.clone().map(Kind::Genome)) {
        Some(Kind::Genome(options)) => genome::simulate(&options).map(Simulated::Genome),
        Some(Kind::Sequences(kind)) => sequences::simulate(&kind).map(Simulated::Sequences),
        None => Err(Error::Request(
            "name a kind, or a folder with --out".to_owned(),
        )),
    }
}

/// Random numbers that those of no other `number` depend on.
fn stream(seed: u64, number: u64) -> ChaCha8Rng {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(number);
    rng
}

impl fmt::Display for Simulated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Genome(planted) => write!(f, "{planted}"),
            Self::Sequences(made) => write!(f, "{made}"),
        }
    }
}
