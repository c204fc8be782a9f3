use std::ops::Range;

/// Sorted, disjoint, half-open intervals on one contig.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Intervals(Vec<Range<u64>>);

impl Intervals {
    pub fn merged(mut intervals: Vec<Range<u64>>) -> Self {
        intervals.sort_by_key(|interval| interval.start);
        let mut merged: Vec<Range<u64>> = Vec::with_capacity(intervals.len());
        for next in intervals {
            match merged.last_mut() {
                Some(last) if next.start <= last.end => last.end = last.end.max(next.end),
                _ => merged.push(next),
            }
        }
        Self(merged)
    }

    /// The parts of the intervals inside `range`.
    pub fn within(&self, range: Range<u64>) -> impl Iterator<Item = Range<u64>> + '_ {
        let Range { start, end } = range;
        let first = self.0.partition_point(|interval| interval.end <= start);
        let overlapping = self.0[first..]
            .iter()
            .take_while(move |interval| interval.start < end);
        overlapping.map(move |interval| interval.start.max(start)..interval.end.min(end))
    }

    pub fn bases_within(&self, range: Range<u64>) -> u64 {
        self.within(range).map(|part| part.end - part.start).sum()
    }
}

/// Intervals of many targets on one contig, sorted; those of one target are disjoint.
#[derive(Debug, Clone, Default)]
pub struct TargetIntervals(Vec<TargetInterval>);

#[derive(Debug, Clone, Copy)]
struct TargetInterval {
    start: u64,
    bases: u32,
    target: u32,
}

impl TargetIntervals {
    /// A longer interval is kept in pieces, so that a look-up goes back no further than this.
    const LONGEST: u64 = 2048;

    pub fn add(&mut self, target: usize, intervals: &Intervals) {
        for &Range { start, end } in &intervals.0 {
            let pieces = (start..end).step_by(Self::LONGEST as usize);
            self.0.extend(pieces.map(|start| TargetInterval {
                start,
                bases: Self::LONGEST.min(end - start) as u32,
                target: target as u32,
            }));
        }
    }

    pub fn sort(&mut self) {
        self.0
            .sort_unstable_by_key(|peak| (peak.start, peak.target));
    }

    /// The parts inside `range`, each with its target. Sorted they have to be.
    pub fn within(&self, range: Range<u64>) -> impl Iterator<Item = (usize, Range<u64>)> + '_ {
        let Range { start, end } = range;
        let first = self
            .0
            .partition_point(|peak| peak.start + Self::LONGEST <= start);
        let near = self.0[first..]
            .iter()
            .take_while(move |peak| peak.start < end);
        near.filter_map(move |peak| {
            let part = peak.start.max(start)..(peak.start + u64::from(peak.bases)).min(end);
            (!part.is_empty()).then_some((peak.target as usize, part))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn touching_and_nested_intervals_merge() {
        let intervals = Intervals::merged(vec![30..40, 0..10, 10..12, 2..5, 35..36]);
        assert_eq!(intervals, Intervals(vec![0..12, 30..40]));
        assert_eq!(intervals.bases_within(5..33), 10);
        assert_eq!(intervals.bases_within(12..30), 0);
        assert_eq!(
            intervals.within(11..31).collect::<Vec<_>>(),
            [11..12, 30..31]
        );
    }

    #[test]
    fn peaks_of_all_targets_are_those_of_each() {
        let of = |target: u64| {
            let some = (0..40).map(|i| {
                let start = (i * i * 97 + target * 1013) % 30_000;
                start..start + 1 + (i * (target + 1) * 331) % 9000
            });
            Intervals::merged(some.collect())
        };
        let targets: Vec<_> = (0..3).map(of).collect();
        let mut peaks = TargetIntervals::default();
        for (target, intervals) in targets.iter().enumerate() {
            peaks.add(target, intervals);
        }
        peaks.sort();
        for start in (0..40_000).step_by(173) {
            let range = start..start + 200 + start % 5000;
            for (target, intervals) in targets.iter().enumerate() {
                let parts = peaks.within(range.clone()).filter(|(of, _)| *of == target);
                let parts = Intervals::merged(parts.map(|(_, part)| part).collect());
                let expected = Intervals::merged(intervals.within(range.clone()).collect());
                assert_eq!(parts, expected, "target {target} in {range:?}");
            }
        }
    }
}
