//! Windows around a hidden central base. What a file holds of them is the sequence, once, and which windows are rows:
//! `<split>/seq` u8 [bases], base codes of all stretches one after another; `<split>/stretch`, where they lie; and
//! `<split>/sample` u32 [rows] where not every window is a row.

mod writer;

use std::sync::{Arc, OnceLock};

use hdf5::{Dataset, H5Type};

pub use writer::ContextWriter;

use super::store::Store;
use super::{Central, Error, Header, Locus, N, SOFT_MASKED};

/// Bases in a row that are all known: each with a whole flank on either side of it is the centre of a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, H5Type)]
#[repr(C)]
pub struct Stretch {
    pub contig: u32,
    pub start: u64,
    pub bases: u64,
}

/// Which window is which row.
#[derive(Debug)]
struct Index {
    flank: u64,
    stretches: Vec<Stretch>,
    /// Windows up to the end of each stretch.
    ends: Vec<u64>,
    /// The windows that are rows, if not all.
    sample: Option<Vec<u32>>,
}

impl Index {
    fn new(flank: usize, stretches: Vec<Stretch>, sample: Option<Vec<u32>>) -> Self {
        let flank = flank as u64;
        let mut windows = 0;
        let ends = stretches.iter().map(|stretch| {
            windows += stretch.bases.saturating_sub(2 * flank);
            windows
        });
        Self {
            flank,
            ends: ends.collect(),
            stretches,
            sample,
        }
    }

    fn windows(&self) -> u64 {
        self.ends.last().copied().unwrap_or(0)
    }

    fn rows(&self) -> u64 {
        let sample = self.sample.as_ref();
        sample.map_or_else(|| self.windows(), |sample| sample.len() as u64)
    }

    /// The stretch of a row, and where in the sequence its window begins.
    fn place(&self, row: usize) -> (usize, u64) {
        let sample = self.sample.as_ref();
        let window = sample.map_or(row as u64, |sample| u64::from(sample[row]));
        let stretch = self.ends.partition_point(|&end| end <= window);
        // Every stretch before it has two flanks more bases than windows.
        (stretch, window + 2 * self.flank * stretch as u64)
    }

    fn locus(&self, row: usize) -> Locus {
        let (stretch, at) = self.place(row);
        let before = match stretch {
            0 => 0,
            _ => self.ends[stretch - 1] + 2 * self.flank * stretch as u64,
        };
        let Stretch { contig, start, .. } = self.stretches[stretch];
        Locus {
            contig,
            start: (start + at - before) as i64,
            strand: 1,
        }
    }

    /// What is wrong with what a file says.
    fn problem(&self, header: &Header) -> Option<String> {
        let whole = |stretch: &Stretch| {
            let contig = header.contigs.get(stretch.contig as usize);
            contig.is_some_and(|contig| {
                let end = stretch.start.checked_add(stretch.bases);
                end.is_some_and(|end| end <= contig.size)
            }) && stretch.bases >= header.length as u64
        };
        if let Some(wrong) = self.stretches.iter().find(|stretch| !whole(stretch)) {
            return Some(format!("{wrong:?} is short, or lies on no contig"));
        }
        let windows = self.windows();
        if windows > u64::from(u32::MAX) {
            return Some(format!("{windows} windows are too many"));
        }
        let past = |&&window: &&u32| u64::from(window) >= windows;
        let past = self.sample.iter().flatten().find(past);
        past.map(|window| format!("its sample names the window {window} of {windows}"))
    }
}

/// The rows of a split, all of whose bases are kept in memory from the first that is read: a byte a base.
#[derive(Clone)]
pub(super) struct Context {
    central: Central,
    index: Arc<Index>,
    seq: Dataset,
    codes: Arc<OnceLock<Vec<u8>>>,
}

impl Context {
    pub fn open(
        store: &Store,
        header: &Header,
        central: Central,
        split: &str,
        rows: u64,
    ) -> Result<Self, Error> {
        let wrong = |problem: String| Error::Index {
            path: store.path.clone(),
            split: split.to_owned(),
            problem,
        };
        if header.length.is_multiple_of(2) || header.margin > 0 || header.targets.len() != 1 {
            let found = (header.length, header.margin, header.targets.len());
            return Err(wrong(format!(
                "windows of an odd length, without a margin and of one target expected, found {found:?}"
            )));
        }
        let names = ["stretch", "sample", "seq"].map(|member| format!("{split}/{member}"));
        let [stretch, sample, seq] = &names;
        let stretches = store.list::<Stretch>(stretch)?;
        let sample = match store.file.link_exists(sample) {
            true => Some(store.list::<u32>(sample)?),
            false => None,
        };
        let index = Index::new(header.length / 2, stretches, sample);
        if let Some(problem) = index.problem(header) {
            return Err(wrong(problem));
        }
        if index.rows() != rows {
            return Err(wrong(format!(
                "it counts {rows} windows and names {}",
                index.rows()
            )));
        }
        let bases: u64 = index.stretches.iter().map(|stretch| stretch.bases).sum();
        Ok(Self {
            central,
            seq: store.shaped::<u8>(seq, &[bases as usize])?,
            index: Arc::new(index),
            codes: Arc::default(),
        })
    }

    pub fn locus(&self, row: usize) -> Locus {
        self.index.locus(row)
    }

    pub fn is_read(&self) -> bool {
        self.codes.get().is_some()
    }

    /// Reads the sequence; the place and the code of the first that is no base, if there is one.
    pub fn read(&self) -> hdf5::Result<Result<(), (usize, u8)>> {
        let codes = self.seq.read_raw::<u8>()?;
        let wrong = |code: u8| code & !SOFT_MASKED >= N;
        if let Some(at) = codes.iter().position(|&code| wrong(code)) {
            return Ok(Err((at, codes[at])));
        }
        // Another thread may have read the same meanwhile.
        let _ = self.codes.set(codes);
        Ok(Ok(()))
    }

    /// Appends the window of a row, N in place of its central base (which keeps its mark of soft-masking), and what that
    /// base says. The sequence has to be read.
    pub fn append(&self, row: usize, seq: &mut Vec<u8>, label: &mut Vec<i8>) {
        let codes = self.codes.get().expect("the sequence is read");
        let (flank, begin) = (self.index.flank as usize, self.index.place(row).1 as usize);
        let centre = seq.len() + flank;
        seq.extend_from_slice(&codes[begin..=begin + 2 * flank]);
        let base = seq[centre];
        seq[centre] = N | (base & SOFT_MASKED);
        label.push(self.central.label(base & !SOFT_MASKED));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Windows of stretches and samples of any size, against a list of all windows.
    #[test]
    fn a_row_is_the_window_of_its_number() {
        let mut state = 1u64;
        let mut random = |below: u64| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (state >> 33) % below
        };
        for _ in 0..300 {
            let flank = 1 + random(4);
            let mut end = 0;
            let stretches: Vec<Stretch> = (0..1 + random(5))
                .map(|contig| {
                    let start = end + random(9);
                    let bases = 2 * flank + 1 + random(7);
                    end = start + bases;
                    let contig = contig as u32 / 2;
                    Stretch {
                        contig,
                        start,
                        bases,
                    }
                })
                .collect();
            // (contig, start on it, start in the sequence)
            let mut all = Vec::new();
            let mut before = 0;
            for stretch in &stretches {
                for first in 0..stretch.bases - 2 * flank {
                    all.push((stretch.contig, stretch.start + first, before + first));
                }
                before += stretch.bases;
            }
            let some: Vec<u32> = (0..all.len() as u32).filter(|_| random(3) == 0).collect();
            for sample in [None, Some(some)] {
                let of = |row: usize| all[sample.as_ref().map_or(row, |rows| rows[row] as usize)];
                let index = Index::new(flank as usize, stretches.clone(), sample.clone());
                let rows = sample.as_ref().map_or(all.len(), Vec::len);
                assert_eq!(index.rows(), rows as u64);
                for row in 0..rows {
                    let (contig, start, at) = of(row);
                    assert_eq!(index.place(row).1, at, "row {row} of {index:?}");
                    let locus = index.locus(row);
                    assert_eq!((locus.contig, locus.start), (contig, start as i64));
                }
            }
        }
    }
}
