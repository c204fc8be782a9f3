//! A matrix of base counts, and the one the simulation plants.

use rand::Rng;

/// CTCF's consensus in IUPAC letters, as published for its 19-bp core site (Kim et al. 2007).
const CONSENSUS: &[u8; 19] = b"YGRCCASYAGRKGGCRSYV";

/// Percent of the sites that agree with the consensus: our rounding, highest in CCASYAGRKGGC.
const AGREEMENT: [u32; 19] = [
    60, 55, 65, 95, 97, 85, 75, 85, 92, 97, 90, 85, 97, 97, 95, 70, 65, 65, 80,
];

/// Counts sum to this in every column.
const SITES: u32 = 1200;

/// Counts of A, C, G and T per column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Motif {
    columns: Vec<[u32; 4]>,
}

impl Motif {
    pub fn ctcf() -> Self {
        let columns = CONSENSUS.iter().zip(AGREEMENT);
        Self {
            columns: columns
                .map(|(&letter, percent)| column(letter, percent))
                .collect(),
        }
    }

    pub fn len(&self) -> usize {
        self.columns.len()
    }

    /// A site drawn column by column, as letters.
    pub fn sample(&self, rng: &mut impl Rng) -> Vec<u8> {
        let draw = |column: &[u32; 4]| {
            let mut left = rng.random_range(0..column.iter().sum());
            let base = column
                .iter()
                .position(|&count| match left.checked_sub(count) {
                    Some(rest) => {
                        left = rest;
                        false
                    }
                    None => true,
                });
            b"ACGT"[base.expect("the draw is below the sum")]
        };
        self.columns.iter().map(draw).collect()
    }

    /// JASPAR's text format.
    pub fn to_jaspar(&self, id: &str, name: &str) -> String {
        let mut text = format!(">{id}\t{name}\n");
        for (base, letter) in "ACGT".chars().enumerate() {
            let counts = self
                .columns
                .iter()
                .map(|column| format!("{:>5}", column[base]));
            text += &format!("{letter} [{} ]\n", counts.collect::<String>());
        }
        text
    }
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
    fn the_other_strand() {
        assert_eq!(reverse_complement(b"AACGT"), b"ACGTT");
    }
}
