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
}
