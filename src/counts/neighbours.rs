//! Which bases around a hidden one are looked at, and how they become a number.

use std::ops::Range;

/// What is counted of the neighbourhood of a base.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Neighbours {
    /// So many bases on each side
    Around(usize),
    /// So many bases before it, on either strand
    Before(usize),
}

/// What stands around a base on one strand, the nearest first: two bits a base, and zeros for what is not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Context {
    code: u32,
    /// Levels up to the first base that is not known.
    pub known: usize,
}

impl Neighbours {
    /// A level more looks one base further.
    pub fn levels(self) -> usize {
        match self {
            Self::Around(levels) | Self::Before(levels) => levels,
        }
    }

    /// Bases that so many levels look at.
    pub fn bases(self, levels: usize) -> usize {
        match self {
            Self::Around(_) => 2 * levels,
            Self::Before(_) => levels,
        }
    }

    /// Of the centre of a window [L], A C G T N = 0..4: on the window's strand, and on the other.
    pub fn contexts(self, window: &[u8]) -> [Context; 2] {
        let centre = window.len() / 2;
        let known = |base: u8| (base < 4).then_some(u32::from(base));
        let before = |distance: usize| known(window[centre - distance]);
        let after = |distance: usize| known(window[centre + distance]);
        let other = |base: Option<u32>| base.map(|base| 3 - base);
        let both = |first: Option<u32>, second: Option<u32>| Some(first? << 2 | second?);
        match self {
            Self::Around(levels) => [
                Context::read(levels, 4, |at| both(before(at), after(at))),
                Context::read(levels, 4, |at| both(other(after(at)), other(before(at)))),
            ],
            Self::Before(levels) => [
                Context::read(levels, 2, before),
                Context::read(levels, 2, |at| other(after(at))),
            ],
        }
    }

    /// Of a context known at all levels with what stands in it.
    pub fn key(self, outcome: u8, context: Context) -> u32 {
        u32::from(outcome) << (2 * self.bases(self.levels())) | context.code
    }

    /// All keys of an outcome in contexts that agree with this one up to a level.
    pub fn keys(self, outcome: u8, context: Context, level: usize) -> Range<u64> {
        let beyond = 2 * (self.bases(self.levels()) - self.bases(level));
        let first = u64::from(self.key(outcome, context)) >> beyond << beyond;
        first..first + (1 << beyond)
    }

    /// One more than the largest key of so many outcomes.
    pub fn all_keys(self, outcomes: usize) -> u64 {
        (outcomes as u64) << (2 * self.bases(self.levels()))
    }
}

impl Context {
    /// `look` gives what stands at a distance, in so many bits.
    fn read(levels: usize, bits: usize, look: impl Fn(usize) -> Option<u32>) -> Self {
        let (mut code, mut known) = (0, 0);
        while known < levels {
            let Some(found) = look(known + 1) else { break };
            code = code << bits | found;
            known += 1;
        }
        let code = code << (bits * (levels - known));
        Self { code, known }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Letters to codes.
    fn window(text: &str) -> Vec<u8> {
        let code = |letter| "ACGTN".find(letter).unwrap() as u8;
        text.chars().map(code).collect()
    }

    #[test]
    fn the_nearest_bases_lead_and_strands_mirror_each_other() {
        // Before the hidden base from near to far C G A, after it T A G.
        let found = Neighbours::Around(3).contexts(&window("AGCNTAG"));
        let code = |digits: &[u32]| digits.iter().fold(0, |code, digit| code << 2 | digit);
        let expected = [[1, 3, 2, 0, 0, 2], [0, 2, 3, 1, 1, 3]];
        assert_eq!(
            found.map(|of| of.code),
            expected.map(|digits| code(&digits))
        );
        let found = Neighbours::Before(3).contexts(&window("AGCNTAG"));
        assert_eq!(
            found.map(|of| of.code),
            [code(&[1, 2, 0]), code(&[0, 3, 1])]
        );
        for neighbours in [Neighbours::Around(3), Neighbours::Before(3)] {
            let [here, there] = neighbours.contexts(&window("AGCNTAG"));
            assert_eq!(neighbours.contexts(&window("CTANGCT")), [there, here]);
        }
    }

    #[test]
    fn what_is_unknown_ends_a_context() {
        let known =
            |neighbours: Neighbours, text| neighbours.contexts(&window(text)).map(|of| of.known);
        assert_eq!(known(Neighbours::Around(3), "NGCNTAG"), [2, 2]);
        assert_eq!(known(Neighbours::Before(3), "NGCNTAG"), [2, 3]);
        assert_eq!(known(Neighbours::Before(3), "AGCNNAG"), [3, 0]);
    }

    #[test]
    fn a_level_more_is_a_part_of_the_level_before() {
        for neighbours in [Neighbours::Around(7), Neighbours::Before(15)] {
            let text = window("ACGTTGCATCAGGTANTTGACCATGCAATCG");
            for context in neighbours.contexts(&text) {
                for outcome in 0..4 {
                    let all = |level| neighbours.keys(outcome, context, level);
                    for level in 1..=neighbours.levels() {
                        let (outer, inner) = (all(level - 1), all(level));
                        assert!(outer.start <= inner.start && inner.end <= outer.end);
                        let share = 4u64.pow(neighbours.bases(1) as u32);
                        assert_eq!(outer.end - outer.start, share * (inner.end - inner.start));
                    }
                    let last = all(neighbours.levels());
                    let key = u64::from(neighbours.key(outcome, context));
                    assert_eq!(last, key..key + 1);
                    assert!(last.end <= neighbours.all_keys(4));
                }
            }
        }
    }
}
