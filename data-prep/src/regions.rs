//! Which parts of the genome make up which split.

use std::collections::HashSet;
use std::fmt;

use clap::Args;
use serde::Serialize;

use crate::error::{Error, contig_hint, plural};
use crate::fasta::Genome;

/// The contigs or regions of each split, as they are typed.
#[derive(Debug, Clone, Default, Args, Serialize)]
pub struct SplitOptions {
    /// Contigs or regions contig:start-end to train on, 0-based without the end, as in BED; if not given, every contig
    /// that no other split names, but alternates of those (chr21_..._alt where chr21 is held out)
    #[arg(long, value_delimiter = ',')]
    train: Vec<String>,
    /// Contigs or regions that choose the best checkpoint, written like --train
    #[arg(long, value_delimiter = ',')]
    valid: Vec<String>,
    /// Contigs or regions to evaluate on, written like --train
    #[arg(long, value_delimiter = ',')]
    test: Vec<String>,
    /// Contigs or regions to predict on, neither trained on nor evaluated, written like --train
    #[arg(long, value_delimiter = ',')]
    predict: Vec<String>,
}

impl SplitOptions {
    pub fn asked(&self) -> [(&'static str, &[String]); 4] {
        [
            ("train", &self.train),
            ("valid", &self.valid),
            ("test", &self.test),
            ("predict", &self.predict),
        ]
    }
}

/// A part of a contig, 0-based and half-open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Region {
    pub split: String,
    pub contig: usize,
    pub name: String,
    pub start: u64,
    pub end: u64,
}

impl fmt::Display for Region {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}-{}", self.name, self.start, self.end)
    }
}

impl Region {
    fn parse(text: &str, split: &str, genome: &Genome) -> Result<Self, Error> {
        let region = |contig: usize, range: Option<(u64, u64)>| {
            let size = genome.contigs[contig].size;
            let (start, end) = range.unwrap_or((0, size));
            let name = genome.contigs[contig].name.clone();
            Self {
                split: split.to_owned(),
                contig,
                name,
                start,
                end,
            }
        };
        // A name may itself contain a colon, as HLA contigs do.
        if let Some(contig) = genome.index(text) {
            return Ok(region(contig, None));
        }
        let coordinates = text.rsplit_once(':').and_then(|(name, range)| {
            let (start, end) = range.split_once('-')?;
            Some((name, start.parse::<u64>().ok()?, end.parse::<u64>().ok()?))
        });
        let name = coordinates.map_or(text, |(name, _, _)| name);
        let Some(contig) = genome.index(name) else {
            return Err(Error::SplitContig {
                split: split.to_owned(),
                contig: name.to_owned(),
                hint: contig_hint(name, genome.names()),
            });
        };
        let size = genome.contigs[contig].size;
        match coordinates {
            Some((_, start, end)) if start < end && end <= size => {
                Ok(region(contig, Some((start, end))))
            }
            _ => Err(Error::Request(format!(
                "the {split} split names {text}; expected contig:start-end with \
                 0 <= start < end <= {size}, the length of the contig"
            ))),
        }
    }
}

pub struct Regions {
    /// In genome order.
    pub all: Vec<Region>,
    /// Which contigs train could have had but for what they hold, for the user.
    pub left_out: Option<String>,
}

impl Regions {
    /// From what was asked per split.
    ///
    /// Without a train split, every contig that no other split names is trained on; not so the alternates of those,
    /// which hold nearly the same sequence: UCSC names them after their contig, as chr21_GL383578v2_alt.
    pub fn resolve(asked: &[(&str, &[String])], genome: &Genome) -> Result<Self, Error> {
        let given = |name: &str| {
            asked
                .iter()
                .any(|(split, texts)| *split == name && !texts.is_empty())
        };
        if !given("valid") && !given("test") && !given("predict") {
            return Err(Error::Request(
                "no split is held out: give --valid and --test contigs or regions, for instance \
                 `--valid chr8 --test chr9,chr1:0-5000000` (train is then every other contig)"
                    .to_owned(),
            ));
        }
        let mut all = Vec::new();
        for (split, texts) in asked {
            for text in *texts {
                all.push(Region::parse(text, split, genome)?);
            }
        }
        let only_predict = !given("valid") && !given("test");
        let mut left_out = None;
        if !given("train") && !only_predict {
            let named: HashSet<_> = all.iter().map(|region| region.name.clone()).collect();
            let others = genome.names().filter(|&name| !named.contains(name));
            let alternate = |name: &&str| {
                let mut ends = name.match_indices('_');
                ends.any(|(end, _)| named.contains(&name[..end]))
            };
            let (alternates, others): (Vec<_>, Vec<_>) = others.partition(alternate);
            for name in others {
                all.push(Region::parse(name, "train", genome)?);
            }
            left_out = alternates.first().map(|first| {
                format!(
                    "{} not trained on: alternates of contigs that another split names, such as {first}; --train takes \
                     those that it names",
                    plural(alternates.len() as u64, "contig")
                )
            });
        }
        all.sort_by_key(|region| (region.contig, region.start));
        for pair in all.windows(2) {
            if pair[0].contig == pair[1].contig && pair[1].start < pair[0].end {
                let of = |region: &Region| format!("{region} in {}", region.split);
                return Err(Error::Overlap {
                    first: of(&pair[0]),
                    second: of(&pair[1]),
                });
            }
        }
        Ok(Self { all, left_out })
    }
}
