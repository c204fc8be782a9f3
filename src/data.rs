//! One split of a data file as the trainer sees it: rows of base codes, signal and labels, never a chromosome.

mod kept;
#[cfg(test)]
pub(crate) mod tests;

use std::{iter::repeat_n, ops::Range, path::Path, sync::Arc};

use anyhow::{Result, ensure};
use half::f16;
use tch::{Device, Tensor};
use tfbind_prep::schema::{Counts, DataFile, Header, Locus, SOFT_MASKED, Split, Task};

use crate::{
    feed::{Form, Resident},
    model::Io,
    sampler::SplitMix,
};
use kept::Kept;

/// What one row of a batch is made of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Draw {
    pub row: u32,
    /// The window that begins in the middle of this row and ends in the middle of the next.
    pub between: bool,
    /// Bases by which the input is shifted within the margin.
    pub shift: i64,
    pub reverse_complement: bool,
}

impl From<u32> for Draw {
    fn from(row: u32) -> Self {
        Self {
            row,
            ..Self::default()
        }
    }
}

/// Random changes of a training row: a pure function of (seed, epoch, row).
#[derive(Clone, Copy, Debug)]
pub struct Augment {
    pub seed: u64,
    pub reverse_complement: bool,
    pub max_shift: i64,
}

impl Augment {
    pub fn draw(&self, epoch: u64, row: u32) -> Draw {
        let mut random = SplitMix::keyed(&[self.seed, epoch, u64::from(row), 1]);
        Draw {
            row,
            between: false,
            shift: random.below(2 * self.max_shift as u64 + 1) as i64 - self.max_shift,
            reverse_complement: self.reverse_complement && random.below(2) == 1,
        }
    }
}

/// Rows in the form they have in the file, cut to the window: 3 to 10 times smaller than what the model reads.
#[derive(Clone, Debug, Default)]
pub struct Rows {
    pub draws: Vec<Draw>,
    /// [B, L], A C G T N = 0..4
    pub seq: Vec<u8>,
    /// [B, S, L]
    pub signal: Vec<f16>,
    /// [B, T, M]
    pub label: Vec<i8>,
    /// Whether the genome is soft-masked (a repeat) at the central base of the window [B]; none where the rows lie on
    /// the device.
    pub repeat: Vec<bool>,
    /// Where the rows lie if not here, which is on the device.
    pub resident: Option<Arc<Resident>>,
}

pub struct Windows {
    pub header: Header,
    pub counts: Counts,
    /// Of windows with one label, the central bases that it is of; all if none.
    pub bin: Option<usize>,
    split: Split,
    kept: Kept,
}

/// What a model of such windows reads and says.
pub fn io(header: &Header) -> Io {
    Io {
        channels: 4 + header.tracks.len() as i64,
        length: header.length as i64,
        targets: header.targets.len() as i64,
        per_base: header.task == Task::PerBase,
        classes: header.classes() as i64,
    }
}

impl Windows {
    pub fn open(path: &Path, name: &str) -> Result<Self> {
        let file = DataFile::open(path)?;
        let split = file.split(name)?;
        ensure!(
            !split.is_empty(),
            "{}: the split `{name}` has no windows",
            path.display()
        );
        ensure!(
            u32::try_from(split.len()).is_ok(),
            "{}: {} windows in a split are too many",
            path.display(),
            split.len()
        );
        let mut windows = Self {
            header: file.header().clone(),
            counts: split.counts(),
            bin: file.bin(),
            split,
            kept: Kept::default(),
        };
        windows.kept = Kept::of(&windows);
        Ok(windows)
    }

    pub fn num_rows(&self) -> usize {
        self.split.len()
    }

    /// Of the labels that are known; none where they are classes.
    pub fn positive_share(&self) -> Option<f64> {
        let Counts {
            positives,
            negatives,
            ..
        } = self.counts;
        (self.header.classes() == 1).then(|| positives as f64 / (positives + negatives) as f64)
    }

    pub fn loci(&self) -> Result<Vec<Locus>> {
        Ok(self.split.loci()?)
    }

    pub fn locus(&self, row: u32) -> Result<Locus> {
        Ok(self.split.locus(row as usize)?)
    }

    pub fn io(&self) -> Io {
        io(&self.header)
    }

    pub fn read(&self, draws: &[Draw]) -> Result<Rows> {
        let mut rows = Rows {
            draws: draws.to_vec(),
            ..Rows::default()
        };
        let (mut seq, mut signal, mut label) = (Vec::new(), Vec::new(), Vec::new());
        for draw in draws {
            for row in draw.row..=draw.row + u32::from(draw.between) {
                let (row, split) = (row as usize, &self.split);
                self.kept
                    .read_into(split, row, &mut seq, &mut signal, &mut label)?;
            }
            self.cut(*draw, &seq, &signal, &label, &mut rows);
            seq.clear();
            signal.clear();
            label.clear();
        }
        Ok(rows)
    }

    /// Rows as they are in the file, margins included, without the marks of soft-masked bases.
    pub fn read_whole(&self, range: Range<usize>) -> Result<Rows> {
        let mut rows = Rows::default();
        for row in range {
            rows.draws.push(Draw::from(row as u32));
            let Rows {
                seq, signal, label, ..
            } = &mut rows;
            self.split.read_into(row, seq, signal, label)?;
        }
        let width = self.header.width();
        let masked = |seq: &[u8]| seq[width / 2] & SOFT_MASKED != 0;
        rows.repeat = rows.seq.chunks_exact(width).map(masked).collect();
        rows.seq.iter_mut().for_each(|base| *base &= !SOFT_MASKED);
        Ok(rows)
    }

    /// Appends one window, given the row (or the two rows) it is cut from.
    fn cut(&self, draw: Draw, seq: &[u8], signal: &[f16], label: &[i8], rows: &mut Rows) {
        let (length, margin, width) = (self.header.length, self.header.margin, self.header.width());
        let labels = self.header.label_len();
        let (tracks, targets) = (self.header.tracks.len(), self.header.targets.len());
        let first = (margin as i64 + draw.shift) as usize;
        let half = if draw.between { length / 2 } else { 0 };
        // Of a row's `width` bases those that the window holds, then those of the next row.
        let from_row = first + half..first + length;
        let from_next = width + first..width + first + half;

        let start = rows.seq.len();
        let bases = seq[from_row.clone()].iter();
        rows.seq
            .extend(bases.chain(seq.get(from_next).unwrap_or_default()));
        let shown = &mut rows.seq[start..];
        rows.repeat.push(shown[length / 2] & SOFT_MASKED != 0);
        shown.iter_mut().for_each(|base| *base &= !SOFT_MASKED);
        for track in 0..tracks {
            let of = |row: usize| &signal[(row * tracks + track) * width..][..width];
            rows.signal.extend_from_slice(&of(0)[from_row.clone()]);
            if draw.between {
                rows.signal.extend_from_slice(&of(1)[first..first + half]);
            }
        }
        for target in 0..targets {
            let of = |row: usize| &label[(row * targets + target) * labels..][..labels];
            match self.header.task {
                Task::PerWindow | Task::Central(_) => rows.label.push(of(0)[0]),
                Task::PerBase if draw.between => {
                    rows.label
                        .extend(of(0)[half..].iter().chain(&of(1)[..half]));
                }
                // Bases that a shift brings in from the margin have no label.
                Task::PerBase => {
                    let unknown = (draw.shift.unsigned_abs() as usize).min(length);
                    let (before, after) = if draw.shift < 0 {
                        (unknown, 0)
                    } else {
                        (0, unknown)
                    };
                    rows.label.extend(repeat_n(-1, before));
                    rows.label.extend_from_slice(&of(0)[after..length - before]);
                    rows.label.extend(repeat_n(-1, after));
                }
            }
        }
        if draw.reverse_complement {
            let signals = rows.signal.len() - tracks * length;
            turn(&mut rows.seq[start..], &mut rows.signal[signals..], length);
            let known = rows.label.len() - targets * labels;
            let known = &mut rows.label[known..];
            known.chunks_exact_mut(labels).for_each(<[i8]>::reverse);
            if let Some(top) = self.header.task.mirror() {
                known.iter_mut().for_each(|label| *label = top - *label);
            }
        }
    }
}

/// The other strand of windows of `length` bases, one after the other.
fn turn(seq: &mut [u8], signal: &mut [f16], length: usize) {
    let complement = |base: &mut u8| *base = if *base < 4 { 3 - *base } else { *base };
    seq.iter_mut().for_each(complement);
    seq.chunks_exact_mut(length).for_each(<[u8]>::reverse);
    signal.chunks_exact_mut(length).for_each(<[f16]>::reverse);
}

impl Rows {
    pub fn len(&self) -> usize {
        self.draws.len()
    }

    pub fn is_empty(&self) -> bool {
        self.draws.is_empty()
    }

    /// One-hot bases and signal tracks on the device: [B, 4 + S, L]. N is zero in all four.
    pub fn input(&self, io: Io, device: Device) -> Tensor {
        Form::plain(io).input(&self.compact(&self.send(io, device)))
    }

    /// Labels on the device: [B, T, M], 0, 1 or -1.
    pub fn labels(&self, io: Io, device: Device) -> Tensor {
        self.compact(&self.send(io, device)).label
    }

    pub fn extend(&mut self, other: Rows) {
        self.draws.extend(other.draws);
        self.seq.extend(other.seq);
        self.signal.extend(other.signal);
        self.label.extend(other.label);
        self.repeat.extend(other.repeat);
    }

    /// Sequence and signal as the other strand has them; labels stay where they are.
    pub fn reverse_complement(&self, io: Io) -> Rows {
        let mut turned = self.clone();
        turn(&mut turned.seq, &mut turned.signal, io.length as usize);
        turned
    }

    /// Row `i` alone.
    pub fn one(&self, i: usize) -> Rows {
        fn part<T: Clone>(all: &[T], i: usize, rows: usize) -> Vec<T> {
            let len = all.len() / rows;
            all[i * len..(i + 1) * len].to_vec()
        }
        let rows = self.len();
        Rows {
            draws: vec![self.draws[i]],
            seq: part(&self.seq, i, rows),
            signal: part(&self.signal, i, rows),
            label: part(&self.label, i, rows),
            repeat: part(&self.repeat, i, rows),
            resident: self.resident.clone(),
        }
    }
}
