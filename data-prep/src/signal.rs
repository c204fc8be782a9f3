//! Tracks of signal from bigWig files, in blocks.

use std::collections::HashMap;
use std::fs::File;
use std::io::BufReader;
use std::ops::Range;
use std::path::{Path, PathBuf};

use bigtools::{BBIReadError, BigWigRead};
use clap::ValueEnum;
use half::f16;
use serde::Serialize;

use crate::error::{Error, contig_hint, other_spelling, plural};
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
    /// A base that the bigWig does not cover, or says is NaN, is 0.
    Zero,
    Error,
}

/// One bigWig, read from left to right along each contig.
pub struct Track {
    path: PathBuf,
    bigwig: BigWigRead<BufReader<File>>,
    /// Bases of its contigs.
    sizes: HashMap<String, u64>,
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
        let chroms = bigwig.chroms().iter();
        let sizes: HashMap<_, _> = chroms
            .map(|chrom| (chrom.name.clone(), u64::from(chrom.length)))
            .collect();
        let mut scale = 1.0;
        if normalise == Normalise::Depth {
            let bases: u64 = sizes.values().sum();
            let summary = bigwig
                .get_summary()
                .map_err(|error| damaged(error.to_string()))?;
            let sum = match summary.sum {
                // Some programs that write bigWig let a NaN into the sum.
                sum if sum.is_nan() => {
                    sum_of_known(&mut bigwig).map_err(|error| damaged(error.to_string()))?
                }
                sum => sum,
            };
            scale = (sum / bases as f64) as f32;
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
            sizes,
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

    /// Compares the contigs with the FASTA's. Those `used` must be there and as long, or count as missing; what the user
    /// should know of the others.
    pub fn check_contigs(
        &self,
        genome: &Genome,
        used: impl Fn(usize) -> bool,
    ) -> Result<Vec<String>, Error> {
        let known = |name: &str| self.sizes.contains_key(name);
        let any_known = genome.names().any(known);
        let (mut absent, mut other) = (Vec::new(), Vec::new());
        for (index, contig) in genome.contigs.iter().enumerate() {
            match self.sizes.get(&contig.name) {
                Some(&found) if found != contig.size && used(index) => {
                    return Err(Error::Assembly {
                        path: self.path.clone(),
                        contig: contig.name.clone(),
                        found,
                        expected: contig.size,
                    });
                }
                // hg19 of UCSC has another chrM than most.
                Some(&found) if found != contig.size => other.push((contig, found)),
                // A file of other names would be 0 throughout.
                None if used(index)
                    && self.missing == Missing::Zero
                    && !known(&other_spelling(&contig.name))
                    && any_known =>
                {
                    absent.push(contig.name.as_str());
                }
                None if used(index) => {
                    return Err(Error::TrackContig {
                        path: self.path.clone(),
                        contig: contig.name.clone(),
                        hint: contig_hint(
                            &contig.name,
                            self.bigwig.chroms().iter().map(|chrom| chrom.name.as_str()),
                        ),
                    });
                }
                _ => {}
            }
        }
        let path = self.path.display();
        let absent = absent.first().map(|first| {
            format!(
                "{path}: the bigWig lacks {} of the contigs that the splits use, such as {first}; their bases are 0 and \
                 counted as missing",
                absent.len()
            )
        });
        let other = other.first().map(|(first, found)| {
            let contigs = plural(other.len() as u64, "contig");
            format!(
                "{path}: the bigWig and the FASTA differ in the length of {contigs} that no split uses, such as {}: \
                 {found} and {} bases",
                first.name, first.size
            )
        });
        Ok(absent.into_iter().chain(other).collect())
    }

    pub fn enter(&mut self, contig: &str, size: u64) {
        self.covered = self.sizes.contains_key(contig);
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

        let damaged = |error: BBIReadError| Error::BigWig {
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
            // So some programs write a base without data.
            if interval.value.is_nan() {
                continue;
            }
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

/// Of all values but NaN, each as often as it has bases.
fn sum_of_known(bigwig: &mut BigWigRead<BufReader<File>>) -> Result<f64, BBIReadError> {
    let mut sum = 0.0;
    for chrom in bigwig.chroms().to_vec() {
        for interval in bigwig.get_interval(&chrom.name, 0, chrom.length)? {
            let interval = interval?;
            if !interval.value.is_nan() {
                sum += f64::from(interval.value) * f64::from(interval.end - interval.start);
            }
        }
    }
    Ok(sum)
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
