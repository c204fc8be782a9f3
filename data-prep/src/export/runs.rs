//! Windows of predictions, in any order in their file, to runs of equal values along the genome.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};

use crate::error::Error;
use crate::schema::{Locus, PredictionFile};

/// What the windows seen so far say about a base.
#[derive(Clone, Copy, Default)]
struct Base {
    inner_sum: f32,
    outer_sum: f32,
    inner: u32,
    outer: u32,
}

impl Base {
    /// The mean over inner parts, else over outer ones, in steps of 0.0001.
    fn value(self) -> Option<f32> {
        let mean = match self {
            Self { inner: 1.., .. } => self.inner_sum / self.inner as f32,
            Self { outer: 1.., .. } => self.outer_sum / self.outer as f32,
            _ => return None,
        };
        Some((mean * 1e4).round() / 1e4)
    }
}

/// Bases side by side of one value.
#[derive(Debug, Clone, Copy)]
pub struct Run {
    pub start: u64,
    pub end: u64,
    pub value: f32,
}

/// Runs in byte order of contig names, then by start; holds a window's length of bases.
pub struct Runs {
    path: PathBuf,
    file: PredictionFile,
    target: usize,
    /// Bases of a window that its values are of.
    length: usize,
    trim: usize,
    /// Rows and loci from the last to the first.
    windows: Vec<(usize, Locus)>,
    contig: u32,
    /// Bases from `start` on that windows to come may still change.
    bases: VecDeque<Base>,
    start: u64,
    open: Option<Run>,
    ready: VecDeque<(u32, Run)>,
}

impl Runs {
    pub fn new(
        path: &Path,
        file: PredictionFile,
        target: usize,
        trim: usize,
    ) -> Result<Self, Error> {
        let header = file.header();
        let mut windows: Vec<_> = file.loci()?.into_iter().enumerate().collect();
        let labelled = header.labelled();
        for (_, locus) in &mut windows {
            locus.start += labelled.start as i64;
        }
        for &(row, locus) in &windows {
            let contig = header.contigs.get(locus.contig as usize);
            // The last window of a contig may reach past its end, but its values begin inside.
            let inside = |size: u64| (0..size as i64).contains(&locus.start);
            if !contig.is_some_and(|contig| inside(contig.size)) {
                return Err(Error::Locus {
                    path: path.to_owned(),
                    row,
                    contig: contig.map_or(format!("number {}", locus.contig), |contig| {
                        contig.name.clone()
                    }),
                    start: locus.start,
                });
            }
        }
        let name = |locus: &Locus| &header.contigs[locus.contig as usize].name;
        windows.sort_by(|(_, one), (_, other)| {
            (name(other), other.start).cmp(&(name(one), one.start))
        });
        Ok(Self {
            path: path.to_owned(),
            file,
            target,
            length: labelled.len(),
            trim,
            windows,
            contig: 0,
            bases: VecDeque::new(),
            start: 0,
            open: None,
            ready: VecDeque::new(),
        })
    }

    fn add(&mut self, row: usize, locus: Locus) -> Result<(), Error> {
        let start = locus.start as u64;
        if locus.contig != self.contig {
            self.settle(self.bases.len());
            self.close();
            self.contig = locus.contig;
            self.start = start;
        }
        self.settle((start.saturating_sub(self.start) as usize).min(self.bases.len()));
        if self.bases.is_empty() {
            self.start = start;
        }

        let header = self.file.header();
        let (length, label_len) = (self.length, header.label_len());
        let mut values = self.file.read_rows(row..row + 1)?;
        values.drain(..self.target * label_len);
        values.truncate(label_len);
        if let Some(&found) = values.iter().find(|value| !value.is_finite()) {
            return Err(Error::Probability {
                path: self.path.clone(),
                row,
                found,
            });
        }
        if locus.strand < 0 {
            values.reverse();
        }
        if label_len < length {
            values.resize(length, values[0]);
        }
        let size = header.contigs[locus.contig as usize].size;
        values.truncate((size - start) as usize);
        let covered = self.bases.len().max(values.len());
        self.bases.resize(covered, Base::default());
        for (at, (base, value)) in self.bases.iter_mut().zip(values).enumerate() {
            if (self.trim..length - self.trim).contains(&at) {
                base.inner_sum += value;
                base.inner += 1;
            } else {
                base.outer_sum += value;
                base.outer += 1;
            }
        }
        Ok(())
    }

    /// Turns the first `count` bases into runs.
    fn settle(&mut self, count: usize) {
        for base in self.bases.drain(..count) {
            let end = self.start + 1;
            match (&mut self.open, base.value()) {
                (Some(run), Some(value)) if run.value == value && run.end == self.start => {
                    run.end = end;
                }
                (open, value) => {
                    let next = value.map(|value| Run {
                        start: self.start,
                        end,
                        value,
                    });
                    let done = std::mem::replace(open, next);
                    self.ready.extend(done.map(|run| (self.contig, run)));
                }
            }
            self.start = end;
        }
    }

    fn close(&mut self) {
        let done = self.open.take();
        self.ready.extend(done.map(|run| (self.contig, run)));
    }
}

impl Iterator for Runs {
    type Item = Result<(String, Run), Error>;

    fn next(&mut self) -> Option<Self::Item> {
        while self.ready.is_empty() {
            match self.windows.pop() {
                Some((row, locus)) => {
                    if let Err(error) = self.add(row, locus) {
                        return Some(Err(error));
                    }
                }
                None if self.bases.is_empty() && self.open.is_none() => return None,
                None => {
                    self.settle(self.bases.len());
                    self.close();
                }
            }
        }
        let (contig, run) = self.ready.pop_front()?;
        Some(Ok((
            self.file.header().contigs[contig as usize].name.clone(),
            run,
        )))
    }
}
