//! Which rows make the next step: a pure function of (seed, epoch, place in the epoch), the same on every rank.
//!
//! The order depends on the seed and the epoch alone, never on the number of ranks, so that 1 x 8 = 2 x 4 = 4 x 2
//! ranks x batch see the same rows in each step, and a run can go on with another number of ranks.

use std::ops::Range;

/// SplitMix64 (Steele, Lea & Flood 2014): a fixed generator, so that an order never changes with a library.
pub struct SplitMix(pub u64);

impl SplitMix {
    /// A stream for any combination of numbers, such as (seed, epoch, row).
    pub fn keyed(keys: &[u64]) -> Self {
        let mut state = Self(0x7466_6269_6e64);
        for &key in keys {
            state.0 ^= key;
            state.0 = state.next_u64();
        }
        state
    }

    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// Uniform in 0..n (the bias of 2^-64 * n is far below anything visible here).
    pub fn below(&mut self, n: u64) -> u64 {
        ((u128::from(self.next_u64()) * u128::from(n)) >> 64) as u64
    }
}

/// Fisher-Yates shuffle of 0..rows.
pub fn permutation(seed: u64, epoch: u64, rows: usize) -> Vec<u32> {
    let mut order = Vec::new();
    permute(&mut order, seed, epoch, rows);
    order
}

/// The same in the memory of an order that is done with: of all bases of the human genome one takes 11 GB.
fn permute(order: &mut Vec<u32>, seed: u64, epoch: u64, rows: usize) {
    order.clear();
    order.extend(0..rows as u32);
    let mut random = SplitMix::keyed(&[seed, epoch]);
    for i in (1..rows).rev() {
        order.swap(i, random.below(i as u64 + 1) as usize);
    }
}

/// The part of a global batch of `rows` rows that belongs to `rank`: as even as can be, and empty where there are
/// more ranks than rows.
pub fn share(rows: usize, rank: usize, size: usize) -> Range<usize> {
    rows * rank / size..rows * (rank + 1) / size
}

/// Where training stands: `done` rows of this epoch have been used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Position {
    pub step: u64,
    pub epoch: u64,
    pub done: usize,
}

/// Rows of one step on one rank.
#[derive(Clone, Debug)]
pub struct StepRows {
    pub epoch: u64,
    pub rows: Vec<u32>,
}

/// The sequence of steps of one rank, from a position on; endless unless told otherwise.
pub struct Sampler {
    pub seed: u64,
    pub rows: usize,
    pub global_batch: usize,
    pub rank: usize,
    pub size: usize,
    position: Position,
    /// The first epoch that is not asked for.
    until: Option<u64>,
    order: Vec<u32>,
    /// The epoch whose order that is.
    ordered: Option<u64>,
}

impl Sampler {
    pub fn new(
        seed: u64,
        rows: usize,
        global_batch: usize,
        (rank, size): (usize, usize),
        from: Position,
    ) -> Self {
        assert!(rows > 0 && global_batch > 0 && rank < size);
        Self {
            seed,
            rows,
            global_batch,
            rank,
            size,
            position: from,
            until: None,
            order: Vec::new(),
            ordered: None,
        }
    }

    /// Ends before this epoch, and makes no order for it.
    pub fn until(mut self, epoch: u64) -> Self {
        self.until = Some(epoch);
        self
    }

    /// The position after the step that starts at `from`.
    pub fn after(from: Position, rows: usize, global_batch: usize) -> Position {
        let done = from.done + global_batch;
        let (epoch, done) = if done >= rows {
            (from.epoch + 1, 0)
        } else {
            (from.epoch, done)
        };
        Position {
            step: from.step + 1,
            epoch,
            done,
        }
    }
}

impl Iterator for Sampler {
    type Item = StepRows;

    fn next(&mut self) -> Option<StepRows> {
        let from = self.position;
        if self.until.is_some_and(|until| from.epoch >= until) {
            return None;
        }
        if self.ordered != Some(from.epoch) {
            permute(&mut self.order, self.seed, from.epoch, self.rows);
            self.ordered = Some(from.epoch);
        }
        let global = &self.order[from.done..(from.done + self.global_batch).min(self.rows)];
        let rows = global[share(global.len(), self.rank, self.size)].to_vec();
        self.position = Self::after(from, self.rows, self.global_batch);
        Some(StepRows {
            epoch: from.epoch,
            rows,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_ranks_of_an_epoch_share_all_rows_and_none_twice(
            rows in 1usize..300, size in 1usize..9, batch in 1usize..40, seed in 0u64..99, epoch in 0u64..5,
        ) {
            let mut seen = vec![0; rows];
            let from = Position { step: 7, epoch, done: 0 };
            let steps = rows.div_ceil(batch);
            for rank in 0..size {
                for step in Sampler::new(seed, rows, batch, (rank, size), from).take(steps) {
                    prop_assert_eq!(step.epoch, epoch);
                    for row in step.rows {
                        seen[row as usize] += 1;
                    }
                }
            }
            prop_assert!(seen.iter().all(|&times| times == 1));
        }

        #[test]
        fn a_step_holds_the_same_rows_for_any_number_of_ranks(
            rows in 1usize..200, batch in 1usize..40, size in 1usize..9, skip in 0usize..20,
        ) {
            let step = |size: usize| -> Vec<u32> {
                (0..size)
                    .flat_map(|rank| {
                        let mut sampler = Sampler::new(3, rows, batch, (rank, size), Position::default());
                        sampler.nth(skip).unwrap().rows
                    })
                    .collect()
            };
            prop_assert_eq!(step(size), step(1));
        }

        #[test]
        fn starting_in_the_middle_continues_the_sequence(rows in 1usize..100, batch in 1usize..20, cut in 0usize..30) {
            let mut position = Position::default();
            for _ in 0..cut {
                position = Sampler::after(position, rows, batch);
            }
            let whole: Vec<_> = Sampler::new(1, rows, batch, (0, 1), Position::default())
                .skip(cut).take(10).map(|step| step.rows).collect();
            let resumed: Vec<_> =
                Sampler::new(1, rows, batch, (0, 1), position).take(10).map(|step| step.rows).collect();
            prop_assert_eq!(whole, resumed);
        }
    }

    #[test]
    fn one_order_is_held_at_a_time_and_none_beyond_the_last_epoch() {
        let from = Position::default();
        let mut sampler = Sampler::new(1, 50, 20, (0, 1), from);
        sampler.next();
        let place = sampler.order.as_ptr();
        assert_eq!(sampler.nth(2).unwrap().epoch, 1);
        assert_eq!(sampler.order.as_ptr(), place);
        assert_eq!(sampler.order, permutation(1, 1, 50));

        let mut sampler = Sampler::new(1, 50, 20, (0, 1), from).until(1);
        assert_eq!(sampler.by_ref().count(), 3);
        assert_eq!(sampler.ordered, Some(0));
        let done = Position { epoch: 1, ..from };
        let mut sampler = Sampler::new(1, 50, 20, (0, 1), done).until(1);
        assert!(sampler.next().is_none() && sampler.order.is_empty());
    }

    #[test]
    fn epochs_and_seeds_differ() {
        assert_ne!(permutation(1, 0, 50), permutation(1, 1, 50));
        assert_ne!(permutation(1, 0, 50), permutation(2, 0, 50));
    }
}
