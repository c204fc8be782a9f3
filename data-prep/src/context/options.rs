use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use clap::{Args, ValueEnum};
use serde::{Serialize, Serializer};

use crate::error::Error;
use crate::fasta::Genome;
use crate::recipe::{self, Recipe};
use crate::regions::SplitOptions;
use crate::schema::{Central, Header, Task};

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Target {
    /// Which of A, C, G, T it is
    Base,
    /// C-G or A-T
    BasePair,
    /// A or G, against C or T
    Purine,
}

/// What `context` is asked for; all but `out` is kept in the file as its recipe.
#[derive(Debug, Clone, Args, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct ContextOptions {
    /// Genome as FASTA, plain, gzip or bgzip; lower case marks repeats
    #[arg(long)]
    pub(super) fasta: PathBuf,
    /// Bases that are seen on each side of the hidden one
    #[arg(long, value_name = "K")]
    pub(super) flank: usize,
    /// What is to be told of the hidden base
    #[arg(long, value_enum, default_value = "base")]
    target: Target,
    #[arg(long)]
    #[serde(skip)]
    pub(super) out: PathBuf,
    #[command(flatten)]
    #[serde(flatten)]
    pub(super) splits: SplitOptions,
    /// Windows of each split, drawn at random, or `whole` for all; for one split as in
    /// `--sample train=whole,valid=50000,test=50000`
    #[arg(
        long,
        value_name = "[SPLIT=]N",
        value_delimiter = ',',
        default_value = "whole"
    )]
    sample: Vec<Sample>,
    /// Of the random draw that a number of --sample asks for [default: 1]
    // TOML, in which the options are kept, ends there.
    #[arg(long, value_parser = clap::value_parser!(u64).range(..=i64::MAX as u64))]
    seed: Option<u64>,
    /// Name of the assembly; the FASTA's file name if not given
    #[arg(long)]
    genome: Option<String>,
}

/// How many windows are drawn, of every split or of one.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Sample {
    split: Option<String>,
    /// All if none.
    windows: Option<usize>,
}

impl FromStr for Sample {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (split, number) = match text.split_once('=') {
            Some((split, number)) => (Some(split.to_owned()), number),
            None => (None, text),
        };
        let windows = match (number, number.parse()) {
            ("whole", _) => None,
            (_, Ok(windows @ 1..)) => Some(windows),
            _ => {
                return Err(format!(
                    "`{number}` is neither a number of windows nor `whole`"
                ));
            }
        };
        Ok(Self { split, windows })
    }
}

impl fmt::Display for Sample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(split) = &self.split {
            write!(f, "{split}=")?;
        }
        match self.windows {
            Some(windows) => windows.fmt(f),
            None => f.write_str("whole"),
        }
    }
}

impl Serialize for Sample {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl ContextOptions {
    pub(super) fn width(&self) -> u64 {
        (self.flank as u64).saturating_mul(2).saturating_add(1)
    }

    pub(super) fn check(&self) -> Result<(), Error> {
        if self.flank == 0 {
            return Err(Error::Request(
                "--flank 0: a base is told from at least one on each side".to_owned(),
            ));
        }
        let splits = self.splits.asked().map(|(split, _)| split);
        let unknown = |split: &&String| !splits.contains(&split.as_str());
        match self
            .sample
            .iter()
            .filter_map(|sample| sample.split.as_ref())
            .find(unknown)
        {
            Some(split) => Err(Error::Request(format!(
                "--sample {split}=…: expected one of {}",
                splits.join(", ")
            ))),
            None => self.check_sampled(),
        }?;
        match self.seed {
            Some(seed) if !self.draws() => Err(Error::Request(format!(
                "--seed {seed}: all windows are taken, none drawn; --sample N draws some"
            ))),
            _ => Ok(()),
        }
    }

    fn draws(&self) -> bool {
        self.sample.iter().any(|sample| sample.windows.is_some())
    }

    pub(super) fn seed(&self) -> u64 {
        self.seed.unwrap_or(1)
    }

    /// With the seed that stands for one that was not given, where there is something to draw.
    pub(super) fn filled_in(&self) -> Self {
        Self {
            seed: self.draws().then(|| self.seed()),
            ..self.clone()
        }
    }

    /// A number of windows for a split that is not asked for.
    fn check_sampled(&self) -> Result<(), Error> {
        let asked = self.splits.asked();
        let given = |name: &str| {
            asked
                .iter()
                .any(|(split, of)| *split == name && !of.is_empty())
        };
        // Train is there without being asked for, beside one that is held out.
        let there =
            |name: &str| given(name) || name == "train" && (given("valid") || given("test"));
        let sampled = self
            .sample
            .iter()
            .filter_map(|sample| sample.split.as_ref());
        match sampled.into_iter().find(|split| !there(split)) {
            Some(split) => Err(Error::Request(format!(
                "--sample {split}=…: there is no {split} split; name its contigs with --{split}"
            ))),
            None => Ok(()),
        }
    }

    /// How many windows of a split are drawn, if not all.
    pub(super) fn sample(&self, split: &str) -> Option<usize> {
        let of = |name: Option<&str>| {
            let mut last_first = self.sample.iter().rev();
            last_first.find(|sample| sample.split.as_deref() == name)
        };
        of(Some(split))
            .or(of(None))
            .and_then(|sample| sample.windows)
    }

    pub(super) fn header(&self, genome: &Genome, mut recipe: Recipe) -> Header {
        recipe.add_genome(genome);
        let task = Task::Central(match self.target {
            Target::Base => Central::Base,
            Target::BasePair => Central::BasePair,
            Target::Purine => Central::Purine,
        });
        Header {
            task,
            length: self.width() as usize,
            margin: 0,
            genome: recipe::assembly(self.genome.as_deref(), &self.fasta),
            contigs: genome.contigs.clone(),
            tracks: Vec::new(),
            targets: vec![task.to_string()],
            groups: vec![String::new()],
            normalise: "none".to_owned(),
            missing: "none".to_owned(),
            recipe_hash: recipe.hash(),
            recipe: recipe.text,
        }
    }
}
