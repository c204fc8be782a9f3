use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use serde::Serialize;

use super::targets::Target;
use crate::error::Error;
use crate::fasta::Genome;
use crate::named::NamedFile;
use crate::peaks::Reading;
use crate::recipe::{self, Recipe};
use crate::regions::SplitOptions;
use crate::schema::{Header, Task};
use crate::signal::{Missing, Normalise};

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
enum TaskArgument {
    PerBase,
    PerWindow,
}

/// What `make` is asked for; all but `out` is kept in the file as its recipe.
#[derive(Debug, Clone, Args, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct MakeOptions {
    /// Genome as FASTA, plain, gzip or bgzip
    #[arg(long)]
    pub(super) fasta: PathBuf,
    /// Input track as bigWig, optionally named; may be repeated
    #[arg(long, value_name = "[NAME=]FILE")]
    pub(super) signal: Vec<NamedFile>,
    /// Peaks of a target as narrowPeak or BED; a NAME= given twice merges its files
    #[arg(long, value_name = "[NAME=]FILE", required_unless_present_any = ["peaks_list", "peaks_dir"])]
    pub(super) peaks: Vec<NamedFile>,
    /// Table of more such files: name, file (seen from the table's folder) and, if it has one, group (TF, DNase,
    /// histone), between tabs
    #[arg(long, value_name = "TSV")]
    pub(super) peaks_list: Option<PathBuf>,
    /// Folder of more such files, which name themselves; those of a folder in it have its name as their group
    #[arg(long, value_name = "DIR")]
    pub(super) peaks_dir: Option<PathBuf>,
    #[arg(long)]
    #[serde(skip)]
    pub(super) out: PathBuf,
    /// Bases of a window
    #[arg(long, default_value_t = 10_240)]
    pub(super) length: usize,
    /// Bases between the starts of windows [default: the length, or the bin of --task per-window]. No base of valid and
    /// test is labelled twice: there windows begin a length apart, or, where they have one label, at least a bin
    #[arg(long)]
    stride: Option<usize>,
    /// Bases of context on each side of a window
    #[arg(long, default_value_t = 0)]
    pub(super) margin: usize,
    #[arg(long, value_enum, default_value = "per-base")]
    task: TaskArgument,
    /// Per-window labels: 1 if peaks cover more than half of so many central bases; a window is left out if a mask
    /// touches them, but for --predict [default: 200]
    #[arg(long)]
    bin: Option<usize>,
    #[command(flatten)]
    #[serde(flatten)]
    pub(super) splits: SplitOptions,
    /// Label the summit ± N bases instead of the whole interval: column 10, as narrowPeak has it, or the middle
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(super) widen: Option<u64>,
    /// BED of bases whose labels count neither in the loss nor in a metric; a window of nothing else is left out, but for
    /// --predict; may be repeated
    #[arg(long, value_name = "BED")]
    pub(super) mask: Vec<PathBuf>,
    #[arg(long, value_enum, default_value = "depth", requires = "signal")]
    pub(super) normalise: Normalise,
    /// What a base becomes that a bigWig does not cover, or says is NaN
    #[arg(long, value_enum, default_value = "zero", requires = "signal")]
    pub(super) missing: Missing,
    /// Drop windows with a larger share of N in their contig; what a last window shows past its contig's end does not
    /// count
    #[arg(long, default_value_t = 0.5)]
    pub(super) max_n: f64,
    /// Keep in train at most K windows without a positive for each with one
    #[arg(long, value_name = "K")]
    pub(super) negatives: Option<u64>,
    /// Keep only windows with a positive, but for --predict; with GROUP, with one of a target of that group (DeepSEA: TF)
    #[arg(long, value_name = "GROUP", num_args = 0..=1, default_missing_value = "")]
    pub(super) only_positive: Option<String>,
    /// Name of the assembly; the FASTA's file name if not given
    #[arg(long)]
    genome: Option<String>,
    /// Leave out intervals on contigs that the FASTA lacks
    #[arg(long)]
    skip_unknown_contigs: bool,
}

impl MakeOptions {
    pub(super) fn task(&self) -> Task {
        match self.task {
            TaskArgument::PerBase => Task::PerBase,
            TaskArgument::PerWindow => Task::PerWindow,
        }
    }

    pub(super) fn stride(&self) -> usize {
        // What a window labels, so that every base is labelled.
        self.stride.unwrap_or(match self.task {
            TaskArgument::PerBase => self.length,
            TaskArgument::PerWindow => self.bin(),
        })
    }

    pub(super) fn bin(&self) -> usize {
        self.bin.unwrap_or(200)
    }

    pub(super) fn reading(&self, widen: Option<u64>) -> Reading {
        Reading {
            widen,
            skip_unknown_contigs: self.skip_unknown_contigs,
        }
    }

    /// All files that are read.
    pub(super) fn inputs<'a>(&'a self, targets: &'a [Target]) -> impl Iterator<Item = &'a Path> {
        let signal = self.signal.iter().map(|track| &track.path);
        let peaks = targets.iter().flat_map(|target| &target.paths);
        let others = self
            .mask
            .iter()
            .chain(&self.peaks_list)
            .chain([&self.fasta]);
        signal.chain(peaks).chain(others).map(PathBuf::as_path)
    }

    pub(super) fn check(&self) -> Result<(), Error> {
        let wrong = |text: String| Err(Error::Request(text));
        if self.length == 0 {
            return wrong("--length 0: a window has at least one base".to_owned());
        }
        if !(0.0..=1.0).contains(&self.max_n) {
            return wrong(format!(
                "--max-n {}: expected a share from 0 to 1",
                self.max_n
            ));
        }
        if let (Some(negatives), Some(_)) = (self.negatives, &self.only_positive) {
            return wrong(format!(
                "--negatives {negatives}: --only-positive keeps no window without a positive; give one of the two"
            ));
        }
        match self.task {
            TaskArgument::PerBase if self.bin.is_some() => {
                return wrong("--bin belongs to --task per-window".to_owned());
            }
            TaskArgument::PerWindow if !(1..=self.length).contains(&self.bin()) => {
                return wrong(format!(
                    "--bin {}: expected 1 to the length, {}",
                    self.bin(),
                    self.length
                ));
            }
            _ => {}
        }
        if !(1..=self.length).contains(&self.stride()) {
            return wrong(format!(
                "--stride {}: expected 1 to {}, the length, so that every base is in a window",
                self.stride(),
                self.length
            ));
        }
        let mut names: Vec<_> = self.signal.iter().map(|track| &track.name).collect();
        names.sort();
        if let Some(pair) = names.windows(2).find(|pair| pair[0] == pair[1]) {
            return wrong(format!(
                "two tracks are named {}; name them with NAME=FILE",
                pair[0]
            ));
        }
        // CTCF/peaks.bed and REST/peaks.bed call themselves alike and are two targets.
        let alike = |file: &&NamedFile| {
            let same = self.peaks.iter().filter(|other| other.name == file.name);
            !file.typed && same.count() > 1
        };
        match self.peaks.iter().find(alike) {
            Some(file) => wrong(format!(
                "two files of --peaks are named {}; name them with NAME=FILE, alike if they are of one target",
                file.name
            )),
            None => Ok(()),
        }
    }

    pub(super) fn header(&self, genome: &Genome, targets: &[Target], recipe: Recipe) -> Header {
        Header {
            task: self.task(),
            length: self.length,
            margin: self.margin,
            genome: recipe::assembly(self.genome.as_deref(), &self.fasta),
            contigs: genome.contigs.clone(),
            tracks: self.signal.iter().map(|track| track.name.clone()).collect(),
            targets: targets.iter().map(|target| target.name.clone()).collect(),
            groups: targets.iter().map(|target| target.group.clone()).collect(),
            normalise: self.of_signal(self.normalise),
            missing: self.of_signal(self.missing),
            recipe_hash: recipe.hash(),
            recipe: recipe.text,
        }
    }

    /// The word of a choice on the command line, which is about signal.
    fn of_signal(&self, choice: impl ValueEnum) -> String {
        if self.signal.is_empty() {
            return "none".to_owned();
        }
        let value = choice.to_possible_value();
        value.expect("no choice is hidden").get_name().to_owned()
    }
}
