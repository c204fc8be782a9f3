//! Tracks of signal from bigWig files, in blocks.

use std::fs::File;
use std::io::BufReader;
use std::ops::Range;
use std::path::{Path, PathBuf};

use bigtools::BigWigRead;
use clap::ValueEnum;
use half::f16;
use serde::Serialize;

use crate::error::{Error, contig_hint, other_spelling};
use crate::fasta::Genome;

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Normalise {
    /// ln(1 + value / mean of the track over its genome): of the order of 1 at any sequencing depth
    Depth,
    /// ln(1 + value)
    #[value(name = "log1p")]
    #[serde(rename = "log1p")]
    Log1p,
    None,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Missing {
    /// A base that the bigWig does not cover is 0.
    Zero,
    Error,
}

/// One bigWig, read from left to right along each contig.
pub struct Track {
    path: PathBuf,
    bigwig: BigWigRead<BufReader<File>>,
    normalise: Normalise,
    /// What values are divided by first: the track's mean over its genome, or 1.
    scale: f32,
    missing: Missing,
    contig: String,
    /// Whether the bigWig has the contig.
    covered: bool,
    size: u64,
    start: u64,
    /// Normalised values from `start` on; NaN where the bigWig has none.
    values: Vec<f16>,
}

impl Track {
    const BLOCK: u64 = 1 << 20;

    pub fn open(path: &Path, normalise: Normalise, missing: Missing) -> Result<Self, Error> {
        let file = File::open(path).map_err(Error::io(path))?;
        if file.metadata().map_err(Error::io(path))?.len() == 0 {
            return Err(Error::Empty {
                path: path.to_owned(),
                what: "signal",
            });
        }
        let damaged = |reason: String| Error::BigWig {
            path: path.to_owned(),
            reason,
        };
        let mut bigwig =
            BigWigRead::open(BufReader::new(file)).map_err(|error| damaged(error.to_string()))?;
        let mut scale = 1.0;
        if normalise == Normalise::Depth {
            let bases: u64 = bigwig
                .chroms()
                .iter()
                .map(|chrom| u64::from(chrom.length))
                .sum();
            let summary = bigwig
                .get_summary()
                .map_err(|error| damaged(error.to_string()))?;
            scale = (summary.sum / bases as f64) as f32;
            if !(scale > 0.0 && scale.is_finite()) {
                return Err(Error::Depth {
                    path: path.to_owned(),
                    mean: scale,
                });
            }
        }
        Ok(Self {
            path: path.to_owned(),
            bigwig,
            normalise,
            scale,
            missing,
            contig: String::new(),
            covered: false,
            size: 0,
            start: 0,
            values: Vec::new(),
        })
    }

    /// Compares the contigs with the FASTA's. Those `used` must be there, or count as missing; what the user should know
    /// of these.
    pub fn check_contigs(
        &self,
        genome: &Genome,
        used: impl Fn(usize) -> bool,
    ) -> Result<Option<String>, Error> {
        let mut absent = Vec::new();
        for (index, contig) in genome.contigs.iter().enumerate() {
            let chroms = self.bigwig.chroms();
            let known = |name: &str| chroms.iter().any(|chrom| chrom.name == name);
            match chroms.iter().find(|chrom| chrom.name == contig.name) {
                Some(chrom) if u64::from(chrom.length) != contig.size => {
                    return Err(Error::Assembly {
                        path: self.path.clone(),
                        contig: contig.name.clone(),
                        found: chrom.length.into(),
                        expected: contig.size,
                    });
                }
                // A file of other names would be 0 throughout.
                None if used(index)
                    && self.missing == Missing::Zero
                    && !known(&other_spelling(&contig.name))
                    && genome.names().any(known) =>
                {
                    absent.push(contig.name.as_str());
                }
                None if used(index) => {
                    return Err(Error::TrackContig {
                        path: self.path.clone(),
                        contig: contig.name.clone(),
                        hint: contig_hint(
                            &contig.name,
                            chroms.iter().map(|chrom| chrom.name.as_str()),
                        ),
                    });
                }
                _ => {}
            }
        }
        let path = self.path.display();
        Ok(absent.first().map(|first| {
            format!(
                "{path}: the bigWig lacks {} of the contigs that the splits use, such as {first}; their bases are 0 and \
                 counted as missing",
                absent.len()
            )
        }))
    }

    pub fn enter(&mut self, contig: &str, size: u64) {
        let mut chroms = self.bigwig.chroms().iter();
        self.covered = chroms.any(|chrom| chrom.name == contig);
        contig.clone_into(&mut self.contig);
        self.size = size;
        self.start = 0;
        self.values.clear();
    }

    /// Appends the values of `range`, 0 past the contig; returns how many of the contig are missing.
    pub fn append(&mut self, range: Range<i64>, signal: &mut Vec<f16>) -> Result<u64, Error> {
        let known = range.start.max(0) as u64..(range.end.max(0) as u64).min(self.size);
        if self.start + (self.values.len() as u64) < known.end {
            self.load(known.clone())?;
        }
        let first = signal.len();
        signal.resize(first + (range.end - range.start) as usize, f16::ZERO);
        let left = (known.start as i64 - range.start) as usize;
        let from = (known.start - self.start) as usize;
        let values = &self.values[from..][..(known.end - known.start) as usize];
        let mut missing = 0;
        for (at, (slot, &value)) in signal[first + left..].iter_mut().zip(values).enumerate() {
            if !value.is_nan() {
                *slot = value;
                continue;
            }
            missing += 1;
            if self.missing == Missing::Error {
                return Err(Error::Uncovered {
                    path: self.path.clone(),
                    contig: self.contig.clone(),
                    position: known.start + at as u64,
                });
            }
        }
        Ok(missing)
    }

    /// Forgets what lies left of `range` and reads on, at least to its end.
    fn load(&mut self, range: Range<u64>) -> Result<(), Error> {
        let held = self.start + self.values.len() as u64;
        let keep_from = range.start.min(held);
        self.values.drain(..(keep_from - self.start) as usize);
        self.start = range.start;
        let from = held.max(range.start);
        let until = (from + Self::BLOCK).max(range.end).min(self.size);
        let offset = (from - self.start) as usize;
        self.values
            .resize(offset + (until - from) as usize, f16::NAN);
        if !self.covered {
            return Ok(());
        }

        let damaged = |error: bigtools::BBIReadError| Error::BigWig {
            path: self.path.clone(),
            reason: error.to_string(),
        };
        // bigWig coordinates are 32 bits wide, and the contig's size came from one.
        let block = self
            .bigwig
            .get_interval(&self.contig, from as u32, until as u32)
            .map_err(damaged)?;
        for interval in block {
            let interval = interval.map_err(damaged)?;
            let (start, end) = (
                u64::from(interval.start).max(from),
                u64::from(interval.end).min(until),
            );
            let value =
                normalised(interval.value, self.normalise, self.scale).map_err(|problem| {
                    Error::Value {
                        path: self.path.clone(),
                        contig: self.contig.clone(),
                        position: start,
                        value: interval.value,
                        problem,
                    }
                })?;
            if start < end {
                self.values[(start - self.start) as usize..(end - self.start) as usize].fill(value);
            }
        }
        Ok(())
    }
}

fn normalised(value: f32, normalise: Normalise, scale: f32) -> Result<f16, &'static str> {
    if !value.is_finite() {
        return Err("expected a finite number");
    }
    if normalise != Normalise::None && value < 0.0 {
        return Err("of which a logarithm makes no sense; use `--normalise none`");
    }
    let scaled = match normalise {
        Normalise::Depth | Normalise::Log1p => (value / scale).ln_1p(),
        Normalise::None => value,
    };
    let half = f16::from_f32(scaled);
    if half.is_finite() {
        Ok(half)
    } else {
        Err("beyond ±65504, the range of 16-bit floats; use `--normalise log1p`")
    }
}
