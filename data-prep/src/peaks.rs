//! Intervals from narrowPeak and BED files.

use std::ops::{AddAssign, Range};
use std::path::{Path, PathBuf};

use crate::error::{Error, contig_hint};
use crate::fasta::Genome;
use crate::intervals::Intervals;
use crate::text::Lines;

/// Columns of a narrowPeak, the last of which is the summit; other programs add theirs behind it.
const NARROW_PEAK: usize = 10;

/// How to read a file of intervals.
#[derive(Debug, Clone, Copy, Default)]
pub struct Reading {
    /// Takes summit - n .. summit + n instead of the interval.
    pub widen: Option<u64>,
    pub skip_unknown_contigs: bool,
}

/// The intervals of one file.
struct Peaks {
    /// Per contig of the genome.
    intervals: Vec<Vec<Range<u64>>>,
    tally: Tally,
}

/// How many intervals were not taken as they stand.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Skipped because the FASTA lacks their contig.
    pub skipped: u64,
    /// Widened about their middle for want of a summit.
    pub middles: u64,
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.skipped += other.skipped;
        self.middles += other.middles;
    }
}

struct Record {
    contig: String,
    interval: Range<u64>,
    /// The text of the column, where it is one.
    summit: Option<String>,
}

impl Peaks {
    fn read(path: &Path, genome: &Genome, reading: Reading) -> Result<Self, Error> {
        let mut lines = Lines::open(path)?;
        let mut intervals = vec![Vec::new(); genome.contigs.len()];
        let (mut kept, mut tally, mut unknown) = (0u64, Tally::default(), None);
        // Files come sorted, and a draft genome has many contigs to look through.
        let mut last = (String::new(), None);
        while let Some((line, text)) = lines.next_line()? {
            // A contig may be called track1.
            let word = text.split_whitespace().next();
            if text.starts_with('#') || matches!(word, None | Some("track" | "browser")) {
                continue;
            }
            let wrong = |problem| Error::Line {
                path: path.to_owned(),
                line,
                problem,
            };
            let record = Record::parse(&text).map_err(wrong)?;
            if last.0 != record.contig {
                last = (record.contig.clone(), genome.index(&record.contig));
            }
            let Some(contig) = last.1 else {
                tally.skipped += 1;
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
                    let summit = record.summit().map_err(wrong)?;
                    tally.middles += u64::from(summit.is_none());
                    let about = summit.unwrap_or(start + (end - start) / 2);
                    about.saturating_sub(widen)..about.saturating_add(widen).min(size)
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
                    intervals: tally.skipped,
                    contig,
                    hint,
                })
            }
            _ => Ok(Self { intervals, tally }),
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
        let (start, end) = (number("start", start)?, number("end", end)?);
        if start >= end {
            return Err(format!("start {start} is not below end {end}"));
        }
        let summit = fields.get(NARROW_PEAK - 1);
        let summit = summit.filter(|_| !has_blocks(&fields, end - start));
        Ok(Self {
            contig: contig.to_owned(),
            interval: start..end,
            summit: summit.map(|&field| field.to_owned()),
        })
    }

    /// Where the column that --widen alone asks for says, if there is one and it is not -1, which stands for none.
    fn summit(&self) -> Result<Option<u64>, String> {
        let Range { start, end } = self.interval;
        let Some(field) = self.summit.as_deref().filter(|&field| field != "-1") else {
            return Ok(None);
        };
        let offset = number("summit of column 10", field)?;
        if offset >= end - start {
            return Err(format!(
                "the summit {offset} of column 10 lies outside {start}..{end}"
            ));
        }
        Ok(Some(start + offset))
    }
}

fn number(what: &str, field: &str) -> Result<u64, String> {
    let number = field.parse();
    number.map_err(|_| format!("the {what} `{field}` is not a whole number from 0"))
}

/// Whether columns 10 to 12 are a BED12's: a number of blocks, their sizes and their starts, of which the last block
/// ends with the interval.
fn has_blocks(fields: &[&str], bases: u64) -> bool {
    let [count, sizes, starts] = match fields.get(NARROW_PEAK - 1..NARROW_PEAK + 2) {
        Some(&[count, sizes, starts]) => [count, sizes, starts],
        _ => return false,
    };
    let list = |field: &str| -> Option<Vec<u64>> {
        let field = field.strip_suffix(',').unwrap_or(field);
        field.split(',').map(|one| one.parse().ok()).collect()
    };
    let (Some(sizes), Some(starts)) = (list(sizes), list(starts)) else {
        return false;
    };
    let ends = |(start, size): (&u64, &u64)| start.checked_add(*size) == Some(bases);
    count.parse() == Ok(sizes.len())
        && sizes.len() == starts.len()
        && starts.last().zip(sizes.last()).is_some_and(ends)
}

/// Reads several files into one set of intervals per contig.
pub fn read_merged(
    paths: &[PathBuf],
    genome: &Genome,
    reading: Reading,
) -> Result<(Vec<Intervals>, Tally), Error> {
    let mut all = vec![Vec::new(); genome.contigs.len()];
    let mut tally = Tally::default();
    for path in paths {
        let peaks = Peaks::read(path, genome, reading)?;
        tally += peaks.tally;
        for (all, one) in all.iter_mut().zip(peaks.intervals) {
            all.extend(one);
        }
    }
    Ok((all.into_iter().map(Intervals::merged).collect(), tally))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn summits_are_told_from_blocks() {
        let narrow = "c\t100\t200\t.\t0\t.\t1\t-1\t-1";
        let bed = "c\t100\t200\tn\t0\t+\t100\t200\t0";
        let summit = |text: String| Record::parse(&text).unwrap().summit();
        for more in ["", "\t5", "\t5\t0", "\tx\ty\tz"] {
            assert_eq!(summit(format!("{narrow}\t12{more}")), Ok(Some(112)));
        }
        assert_eq!(summit(format!("{narrow}\t-1\t5")), Ok(None));
        for blocks in [
            "2\t10,20,\t0,80,",
            "2\t10,20\t0,80",
            "1\t100\t0",
            "1\t100,\t0,\tmore",
        ] {
            assert_eq!(summit(format!("{bed}\t{blocks}")), Ok(None), "{blocks}");
        }
        assert_eq!(summit("c\t100\t200".to_owned()), Ok(None));
        assert!(summit(format!("{narrow}\tx")).is_err());
        assert!(summit(format!("{narrow}\t100")).is_err());
    }
}
