//! A sorted list of what was seen and how often: its size follows what was seen, not what could be.

use std::ops::Range;

use anyhow::{Result, ensure};

/// Bytes of an entry in a message: the key, and how often it was seen.
pub const ENTRY_BYTES: usize = 12;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Ascending.
    keys: Vec<u32>,
    /// Times of this key and of all before it: those of a range are one difference.
    until: Vec<u64>,
}

impl Seen {
    /// Keys in any order, each as often as it was seen.
    pub fn of(mut keys: Vec<u32>) -> Self {
        keys.sort_unstable();
        let mut seen = Self::default();
        for same in keys.chunk_by(|a, b| a == b) {
            seen.push(same[0], same.len() as u64);
        }
        seen
    }

    /// As `keys` and `times` gave it.
    pub fn from_parts(keys: &[u32], times: &[u32]) -> Result<Self> {
        ensure!(
            keys.len() == times.len() && keys.is_sorted_by(|a, b| a < b),
            "the keys of a table of counts do not ascend, or lack their counts"
        );
        let mut seen = Self::default();
        for (&key, &times) in keys.iter().zip(times) {
            seen.push(key, u64::from(times));
        }
        Ok(seen)
    }

    fn push(&mut self, key: u32, times: u64) {
        let before = self.before(self.len());
        self.keys.push(key);
        self.until.push(before + times);
    }

    pub fn len(&self) -> usize {
        self.keys.len()
    }

    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    pub fn keys(&self) -> &[u32] {
        &self.keys
    }

    /// How often each key was seen.
    pub fn times(&self) -> impl Iterator<Item = u64> {
        (0..self.len()).map(|place| self.times_at(&(place..place + 1)))
    }

    /// All in all.
    pub fn total(&self) -> u64 {
        self.before(self.len())
    }

    /// Times of the first entries, up to a place.
    fn before(&self, place: usize) -> u64 {
        place.checked_sub(1).map_or(0, |last| self.until[last])
    }

    pub fn times_at(&self, places: &Range<usize>) -> u64 {
        self.before(places.end) - self.before(places.start)
    }

    /// Where the entries of a range of keys lie, looked for among `places`.
    pub fn find(&self, places: &Range<usize>, keys: &Range<u64>) -> Range<usize> {
        let among = &self.keys[places.clone()];
        let below = |limit: u64| move |&key: &u32| u64::from(key) < limit;
        let start = among.partition_point(below(keys.start));
        let count = among[start..].partition_point(below(keys.end));
        let start = places.start + start;
        start..start + count
    }

    /// Becomes what both saw together.
    pub fn merge(&mut self, other: &Seen) {
        if other.is_empty() {
            return;
        }
        if self.is_empty() {
            *self = other.clone();
            return;
        }
        let most = self.len() + other.len();
        let (mut keys, mut until) = (Vec::with_capacity(most), Vec::with_capacity(most));
        let (mut own, mut theirs) = (0, 0);
        while let Some(key) = match (self.keys.get(own), other.keys.get(theirs)) {
            (Some(a), Some(b)) => Some(*a.min(b)),
            (a, b) => a.or(b).copied(),
        } {
            own += usize::from(self.keys.get(own) == Some(&key));
            theirs += usize::from(other.keys.get(theirs) == Some(&key));
            keys.push(key);
            until.push(self.before(own) + other.before(theirs));
        }
        // What both saw leaves room, which for large tables is worth a copy.
        keys.shrink_to_fit();
        until.shrink_to_fit();
        (self.keys, self.until) = (keys, until);
    }

    /// What follows in the order of keys.
    pub fn append(&mut self, next: &Seen) {
        let before = self.total();
        self.keys.extend(&next.keys);
        self.until
            .extend(next.until.iter().map(|until| before + until));
    }

    /// The entries of a range of keys as a message.
    pub fn to_bytes(&self, keys: &Range<u64>) -> Vec<u8> {
        let places = self.find(&(0..self.len()), keys);
        let mut bytes = Vec::with_capacity(places.len() * ENTRY_BYTES);
        for place in places {
            bytes.extend(self.keys[place].to_le_bytes());
            bytes.extend(self.times_at(&(place..place + 1)).to_le_bytes());
        }
        bytes
    }

    pub fn from_bytes(bytes: &[u8]) -> Self {
        let mut seen = Self::default();
        for entry in bytes.as_chunks::<ENTRY_BYTES>().0 {
            let [a, b, c, d, times @ ..] = *entry;
            seen.push(u32::from_le_bytes([a, b, c, d]), u64::from_le_bytes(times));
        }
        seen
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn naive(keys: &[u32]) -> BTreeMap<u32, u64> {
        let mut times = BTreeMap::new();
        for &key in keys {
            *times.entry(key).or_insert(0) += 1;
        }
        times
    }

    fn listed(seen: &Seen) -> BTreeMap<u32, u64> {
        seen.keys().iter().copied().zip(seen.times()).collect()
    }

    proptest! {
        #[test]
        fn any_parts_in_any_order_add_up_to_the_whole(
            keys in prop::collection::vec(0u32..40, 0..300), parts in 1usize..6,
        ) {
            let mut merged = Seen::default();
            for part in 0..parts {
                let own: Vec<u32> = keys.iter().skip(part).step_by(parts).copied().collect();
                merged.merge(&Seen::of(own));
            }
            prop_assert_eq!(listed(&merged), naive(&keys));
            prop_assert_eq!(&merged, &Seen::of(keys.clone()));
            prop_assert_eq!(merged.total(), keys.len() as u64);
        }

        #[test]
        fn a_range_holds_what_lies_in_it(
            keys in prop::collection::vec(any::<u32>(), 0..50), from in any::<u32>(), span in 0u64..1 << 33,
        ) {
            let range = u64::from(from)..u64::from(from) + span;
            let seen = Seen::of(keys.clone());
            let places = seen.find(&(0..seen.len()), &range);
            let inside = keys.iter().filter(|key| range.contains(&u64::from(**key))).count();
            prop_assert_eq!(seen.times_at(&places), inside as u64);
        }

        #[test]
        fn messages_of_neighbouring_ranges_make_the_whole(
            keys in prop::collection::vec(0u32..1000, 0..200), cut in 0u64..1000,
        ) {
            let seen = Seen::of(keys);
            let mut back = Seen::from_bytes(&seen.to_bytes(&(0..cut)));
            back.append(&Seen::from_bytes(&seen.to_bytes(&(cut..1000))));
            prop_assert_eq!(&back, &seen);
            let times: Vec<u32> = seen.times().map(|times| times as u32).collect();
            prop_assert_eq!(Seen::from_parts(seen.keys(), &times).unwrap(), seen);
        }
    }

    #[test]
    fn a_table_out_of_order_is_refused() {
        for (keys, times) in [
            (vec![3, 2], vec![1, 1]),
            (vec![2, 2], vec![1, 1]),
            (vec![2], vec![]),
        ] {
            assert!(Seen::from_parts(&keys, &times).is_err(), "{keys:?}");
        }
    }
}
