//! Where the keys of a table begin that share their first digits.

use std::ops::Range;

use super::Seen;

/// Of a key: eight bases, and what stands in that context. The index is 2 MB, and of 10 million keys 40 share a place.
const BITS: u32 = 18;

#[derive(Clone, Debug)]
pub struct Index {
    /// Bits of a key beyond those that are looked up.
    shift: u32,
    /// Place of the first key of each number of leading bits, and the end.
    starts: Vec<usize>,
}

impl Index {
    pub fn of(seen: &Seen, all_keys: u64) -> Self {
        let shift = (all_keys - 1).ilog2().saturating_sub(BITS - 1);
        let count = ((all_keys - 1) >> shift) as usize + 1;
        let mut starts = vec![0; count + 1];
        for &key in seen.keys() {
            starts[(key >> shift) as usize + 1] += 1;
        }
        for place in 1..=count {
            starts[place] += starts[place - 1];
        }
        Self { shift, starts }
    }

    /// Where a range of keys lies, if it begins and ends where the index looks.
    pub fn find(&self, keys: &Range<u64>) -> Option<Range<usize>> {
        let whole = |key: u64| key >> self.shift << self.shift == key;
        let place = |key: u64| self.starts[(key >> self.shift) as usize];
        (whole(keys.start) && whole(keys.end)).then(|| place(keys.start)..place(keys.end))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn ranges_lie_where_a_search_finds_them(
            keys in prop::collection::vec(any::<u32>(), 0..300), digits in 1u32..15, outcomes in 2u64..5,
            level in 0u32..15, number in any::<u64>(),
        ) {
            let all = outcomes << (2 * digits);
            let keys = keys.into_iter().map(|key| (u64::from(key) % all) as u32).collect();
            let seen = Seen::of(keys);
            let index = Index::of(&seen, all);
            let beyond = 2 * (digits - level.min(digits));
            let first = (number % all) >> beyond << beyond;
            let range = first..first + (1 << beyond);
            match index.find(&range) {
                Some(places) => prop_assert_eq!(places, seen.find(&(0..seen.len()), &range)),
                None => prop_assert!(level > 8 || digits + 1 > BITS / 2),
            }
            prop_assert!(level > 8 || index.find(&range).is_some());
        }
    }
}
