//! Intervals from narrowPeak and BED files.

use std::ops::Range;
use std::path::{Path, PathBuf};

use crate::error::{Error, contig_hint};
use crate::fasta::Genome;
use crate::intervals::Intervals;
use crate::text::Lines;

/// Columns of a narrowPeak; a BED has fewer, or the 12 of which the tenth is no summit.
const NARROW_PEAK: usize = 10;

/// How to read a file of intervals.
#[derive(Debug, Clone, Copy, Default)]
pub struct Reading {
    /// Takes summit - n .. summit + n instead of the interval.
    pub widen: Option<u64>,
    pub skip_unknown_contigs: bool,
}

/// The intervals of one file.
pub struct Peaks {
    /// Per contig of the genome.
    pub intervals: Vec<Vec<Range<u64>>>,
    /// Intervals skipped because the FASTA lacks their contig.
    pub skipped: u64,
}

struct Record {
    contig: String,
    interval: Range<u64>,
    summit: u64,
}

impl Peaks {
    pub fn read(path: &Path, genome: &Genome, reading: Reading) -> Result<Self, Error> {
        let mut lines = Lines::open(path)?;
        let mut intervals = vec![Vec::new(); genome.contigs.len()];
        let (mut kept, mut skipped, mut unknown) = (0u64, 0, None);
        // Files come sorted, and a draft genome has many contigs to look through.
        let mut last = (String::new(), None);
        while let Some((line, text)) = lines.next_line()? {
            if ["#", "track", "browser"]
                .iter()
                .any(|word| text.starts_with(word))
                || text.is_empty()
            {
                continue;
            }
            let record = Record::parse(&text).map_err(|problem| Error::Line {
                path: path.to_owned(),
                line,
                problem,
            })?;
            if last.0 != record.contig {
                last = (record.contig.clone(), genome.index(&record.contig));
            }
            let Some(contig) = last.1 else {
                skipped += 1;
                unknown.get_or_insert(record.contig);
                continue;
            };
            let size = genome.contigs[contig].size;
            let Range { start, end } = record.interval;
            if end > size {
                let (path, contig) = (path.to_owned(), record.contig);
                return Err(Error::PastContig {
                    path,
                    line,
                    contig,
                    start,
                    end,
                    size,
                });
            }
            kept += 1;
            intervals[contig].push(match reading.widen {
                Some(widen) => {
                    record.summit.saturating_sub(widen)..(record.summit + widen).min(size)
                }
                None => start..end,
            });
        }
        match unknown {
            None if kept == 0 => Err(Error::Empty {
                path: path.to_owned(),
                what: "intervals",
            }),
            Some(contig) if kept == 0 || !reading.skip_unknown_contigs => {
                let mut hint = contig_hint(&contig, genome.names());
                if kept > 0 {
                    hint += "; --skip-unknown-contigs leaves them out";
                }
                Err(Error::UnknownContigs {
                    path: path.to_owned(),
                    intervals: skipped,
                    contig,
                    hint,
                })
            }
            _ => Ok(Self { intervals, skipped }),
        }
    }
}

impl Record {
    fn parse(text: &str) -> Result<Self, String> {
        // A name may hold spaces, and be empty: where the line has tabs, they alone divide it.
        let fields: Vec<_> = match text.contains('\t') {
            true => text.split('\t').map(str::trim).collect(),
            false => text.split_whitespace().collect(),
        };
        let [contig, start, end, ..] = fields[..] else {
            return Err(format!(
                "{} columns, expected contig, start and end",
                fields.len()
            ));
        };
        let number = |what: &str, field: &str| {
            let number = field.parse::<u64>();
            number.map_err(|_| format!("the {what} `{field}` is not a whole number from 0"))
        };
        let (start, end) = (number("start", start)?, number("end", end)?);
        if start >= end {
            return Err(format!("start {start} is not below end {end}"));
        }
        let offset = match fields.get(NARROW_PEAK - 1) {
            Some(&field) if fields.len() == NARROW_PEAK && field != "-1" => {
                number("summit of column 10", field)?
            }
            _ => (end - start) / 2,
        };
        if offset >= end - start {
            return Err(format!(
                "the summit {offset} of column 10 lies outside {start}..{end}"
            ));
        }
        Ok(Self {
            contig: contig.to_owned(),
            interval: start..end,
            summit: start + offset,
        })
    }
}

/// Reads several files into one set of intervals per contig; returns also how many were skipped.
pub fn read_merged(
    paths: &[PathBuf],
    genome: &Genome,
    reading: Reading,
) -> Result<(Vec<Intervals>, u64), Error> {
    let mut all = vec![Vec::new(); genome.contigs.len()];
    let mut skipped = 0;
    for path in paths {
        let peaks = Peaks::read(path, genome, reading)?;
        skipped += peaks.skipped;
        for (all, one) in all.iter_mut().zip(peaks.intervals) {
            all.extend(one);
        }
    }
    Ok((all.into_iter().map(Intervals::merged).collect(), skipped))
}
