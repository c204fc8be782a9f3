//! Which windows are kept, and their labels: all that needs no sequence and no signal.

use std::ops::Range;

use crate::fasta::Genome;
use crate::intervals::{Intervals, TargetIntervals};
use crate::regions::Region;
use crate::schema::{self, MASKED, Task};

/// The labels of windows.
pub struct Labels {
    pub task: Task,
    pub length: u64,
    /// Of a window that has one label, the central bases that decide it.
    pub bin: u64,
    pub targets: usize,
    /// Per contig.
    pub peaks: Vec<TargetIntervals>,
    /// Per contig.
    pub mask: Vec<Intervals>,
}

impl Labels {
    /// Labels of the window at `start`, row-major [targets, label_len]. What lies past `end`, the end of the
    /// window's region, is masked: it may belong to another split, or to no contig at all.
    pub fn of(&self, contig: usize, start: u64, end: u64) -> Vec<i8> {
        match self.task {
            Task::PerBase => {
                let mut labels = self.per_base(contig, start..start + self.length);
                let inside = (end - start).min(self.length) as usize;
                for labels in labels.chunks_exact_mut(self.length as usize) {
                    labels[inside..].fill(MASKED);
                }
                labels
            }
            _ => self.per_window(contig, self.bin_at(start)),
        }
    }

    fn per_base(&self, contig: usize, window: Range<u64>) -> Vec<i8> {
        let length = self.length as usize;
        let mut labels = vec![0; self.targets * length];
        let inside = |part: Range<u64>| {
            (part.start - window.start) as usize..(part.end - window.start) as usize
        };
        for (target, part) in self.peaks[contig].within(window.clone()) {
            labels[target * length..][inside(part)].fill(1);
        }
        for part in self.mask[contig].within(window.clone()) {
            for labels in labels.chunks_exact_mut(length) {
                labels[inside(part.clone())].fill(MASKED);
            }
        }
        labels
    }

    /// 1 where peaks cover more than half of the bin, as DeepSEA has it (Zhou & Troyanskaya 2015).
    fn per_window(&self, contig: usize, bin: Range<u64>) -> Vec<i8> {
        if self.mask[contig].bases_within(bin.clone()) > 0 {
            return vec![MASKED; self.targets];
        }
        let mut covered = vec![0; self.targets];
        for (target, part) in self.peaks[contig].within(bin) {
            covered[target] += part.end - part.start;
        }
        let label = |covered: u64| i8::from(2 * covered > self.bin);
        covered.into_iter().map(label).collect()
    }

    fn bin_at(&self, start: u64) -> Range<u64> {
        let labelled = schema::labelled(self.length as usize, Some(self.bin as usize));
        start + labelled.start as u64..start + labelled.end as u64
    }

    /// Whether one of these targets has a positive in the window.
    fn any_positive(&self, targets: &[usize], contig: usize, start: u64, end: u64) -> bool {
        let labels = self.of(contig, start, end);
        let label_len = self.task.label_len(self.length as usize);
        let of = |target: usize| &labels[target * label_len..][..label_len];
        targets.iter().any(|&target| of(target).contains(&1))
    }

    /// Whether the bin of the window reaches past its region, into what may be another split.
    fn leaves_region(&self, start: u64, end: u64) -> bool {
        self.task != Task::PerBase && self.bin_at(start).end > end
    }

    /// Whether no label of the window counts, for the mask.
    fn wholly_masked(&self, contig: usize, start: u64, end: u64) -> bool {
        let mask = &self.mask[contig];
        match self.task {
            Task::PerBase => {
                let inside = start..end.min(start + self.length);
                mask.bases_within(inside.clone()) == inside.end - inside.start
            }
            _ => mask.bases_within(self.bin_at(start)) > 0,
        }
    }
}

/// The windows of all regions that pass the filters.
pub struct Plan<'a> {
    pub genome: &'a Genome,
    /// In genome order.
    pub regions: Vec<Region>,
    pub labels: &'a Labels,
    pub stride: u64,
    pub max_unknown: f64,
    /// Where set, windows of the train split without a positive are kept if their hash is below.
    keep_below: Option<u64>,
    /// Where set, windows are kept in which one of these targets is positive.
    wanted: Option<Vec<usize>>,
}

/// Bins of the histogram of hashes, and the width of one.
const HASH_BINS: usize = 1 << 16;
const HASH_BIN: u64 = 1 << (64 - 16);

impl<'a> Plan<'a> {
    pub fn new(
        genome: &'a Genome,
        regions: Vec<Region>,
        labels: &'a Labels,
        stride: u64,
        max_unknown: f64,
    ) -> Self {
        Self {
            genome,
            regions,
            labels,
            stride,
            max_unknown,
            keep_below: None,
            wanted: None,
        }
    }

    /// Keeps only windows in which one of these targets is positive.
    pub fn keep_only(&mut self, targets: Vec<usize>) {
        self.wanted = Some(targets);
    }

    /// The kept windows of a contig, as region and start, from left to right.
    pub fn windows(&self, contig: usize) -> impl Iterator<Item = (&Region, u64)> + '_ {
        self.regions_of(contig).iter().flat_map(move |region| {
            // Evaluation sees every label once.
            let stride = match (region.split.as_str(), self.labels.task) {
                ("valid" | "test", Task::PerBase) => self.labels.length,
                ("valid" | "test", _) => self.stride.max(self.labels.bin),
                _ => self.stride,
            };
            let starts = tile(region.start..region.end, self.labels.length, stride);
            let kept = starts.filter(move |&start| self.keeps(region, start));
            kept.map(move |start| (region, start))
        })
    }

    /// Whether some label is masked: by a mask, or because the last window of a region reaches past it.
    pub fn masks_labels(&self) -> bool {
        let past = |(region, start): (&Region, u64)| start + self.labels.length > region.end;
        self.labels
            .mask
            .iter()
            .any(|mask| mask.bases_within(0..u64::MAX) > 0)
            || (self.labels.task == Task::PerBase
                && (0..self.genome.contigs.len()).any(|contig| self.windows(contig).any(past)))
    }

    pub fn uses(&self, contig: usize) -> bool {
        !self.regions_of(contig).is_empty()
    }

    fn regions_of(&self, contig: usize) -> &[Region] {
        let first = self.regions.partition_point(|of| of.contig < contig);
        let of_contig = self.regions[first..].partition_point(|of| of.contig == contig);
        &self.regions[first..][..of_contig]
    }

    fn keeps(&self, region: &Region, start: u64) -> bool {
        let (contig, length) = (region.contig, self.labels.length);
        let unknown = self.genome.unknown[contig].bases_within(start..start + length);
        if unknown as f64 > self.max_unknown * length as f64
            || self.labels.leaves_region(start, region.end)
        {
            return false;
        }
        // What is predicted depends on no label, and no peak need be known there.
        region.split == "predict"
            || !self.labels.wholly_masked(contig, start, region.end)
                && self.wanted.as_ref().is_none_or(|targets| {
                    self.labels.any_positive(targets, contig, start, region.end)
                })
                && self.keep_below.is_none_or(|limit| {
                    region.split != "train"
                        || hash(&region.name, start) < limit
                        || self.labels.of(contig, start, region.end).contains(&1)
                })
    }

    /// Keeps in train at most `per_positive` windows without a positive for each with one.
    ///
    /// Chosen by hash, through a histogram of hashes, so that memory does not grow with the windows;
    /// what this costs is at most the last bin's share of windows.
    pub fn thin(&mut self, per_positive: u64) {
        let mut without = vec![0u64; HASH_BINS];
        let mut with = 0u64;
        for (contig, name) in self.genome.names().enumerate() {
            for (region, start) in self
                .windows(contig)
                .filter(|(region, _)| region.split == "train")
            {
                if self.labels.of(contig, start, region.end).contains(&1) {
                    with += 1;
                } else {
                    without[(hash(name, start) / HASH_BIN) as usize] += 1;
                }
            }
        }
        let mut room = with.saturating_mul(per_positive);
        let full = without
            .iter()
            .position(|&windows| match room.checked_sub(windows) {
                Some(left) => {
                    room = left;
                    false
                }
                None => true,
            });
        self.keep_below = full.map(|bin| bin as u64 * HASH_BIN);
    }
}

/// Starts of the windows that cover `region`, each a whole number of strides from its start: the last one may reach
/// past its end, so that no base is seen twice and bins stay where they are.
fn tile(region: Range<u64>, length: u64, stride: u64) -> impl Iterator<Item = u64> {
    let starts = region.clone().step_by(stride as usize);
    starts.take_while(move |&start| start == region.start || start - stride + length < region.end)
}

/// FNV-1a over name and start, then the finaliser of MurmurHash3 to spread the low bits.
fn hash(contig: &str, start: u64) -> u64 {
    let bytes = contig.bytes().chain(start.to_le_bytes());
    let mut hash = bytes.fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    hash ^ (hash >> 33)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tiles_cover_every_base() {
        let starts = |region, length, stride| tile(region, length, stride).collect::<Vec<_>>();
        assert_eq!(starts(0..10, 4, 4), [0, 4, 8]);
        assert_eq!(starts(2..10, 4, 4), [2, 6]);
        assert_eq!(starts(5..7, 4, 2), [5]);
        assert_eq!(starts(0..9, 4, 2), [0, 2, 4, 6]);
    }

    #[test]
    fn hashes_spread() {
        let below = (0..10_000)
            .filter(|&start| hash("chr1", start * 1024) < u64::MAX / 4)
            .count();
        assert!(
            (2300..2700).contains(&below),
            "{below} of 10000 in a quarter"
        );
    }
}
