//! A motif as a matrix of log-odds.

use std::path::Path;

use anyhow::Result;
use tfbind_prep::motif_file::{MotifFile, Record};

/// Added to the counts of a column, as JASPAR's own tools do.
const PSEUDOCOUNT: f64 = 0.8;
/// A column that sums to less holds probabilities, which are taken as of so many sites: MEME's number where a file gives
/// none.
const PROBABILITIES: f64 = 1.5;
const SITES: f64 = 20.0;

#[derive(Clone, Debug)]
pub struct Motif {
    pub name: String,
    /// log2 of probability over 1/4, for A C G T at each column.
    forward: Vec<[f32; 4]>,
    reverse: Vec<[f32; 4]>,
}

impl Motif {
    /// The only motif of a file, or the one whose id or name follows a `#`: `motifs.txt#REB1`.
    pub fn read(path: &Path) -> Result<Self> {
        let (file, wanted) = MotifFile::split(path);
        let motifs = MotifFile::read(file)?;
        Self::of_record(&motifs, motifs.record(wanted)?)
    }

    /// All motifs of a file, one at least.
    pub fn read_all(path: &Path) -> Result<Vec<Self>> {
        let motifs = MotifFile::read(path)?;
        let all = motifs.records().iter();
        all.map(|record| Self::of_record(&motifs, record)).collect()
    }

    fn of_record(motifs: &MotifFile, record: &Record) -> Result<Self> {
        let weights = motifs.weights(record)?;
        Ok(Self::new(record.short_name().to_string(), &weights))
    }

    /// Of A C G T at each column.
    pub fn probabilities(&self) -> impl Iterator<Item = [f32; 4]> {
        let columns = self.forward.iter();
        columns.map(|column| column.map(|log_odds| log_odds.exp2() / 4.0))
    }

    /// Counts or probabilities of A C G T at each column.
    pub(crate) fn new(name: String, weights: &[[f64; 4]]) -> Self {
        let column = |weights: &[f64; 4]| {
            let sum: f64 = weights.iter().sum();
            let sites = if sum < PROBABILITIES {
                SITES / sum
            } else {
                1.0
            };
            let total = sum * sites + PSEUDOCOUNT;
            weights.map(|weight| (4.0 * (weight * sites + PSEUDOCOUNT / 4.0) / total).log2() as f32)
        };
        let forward: Vec<[f32; 4]> = weights.iter().map(column).collect();
        let reverse = forward
            .iter()
            .rev()
            .map(|&[a, c, g, t]| [t, g, c, a])
            .collect();
        Self {
            name,
            forward,
            reverse,
        }
    }

    pub fn width(&self) -> usize {
        self.forward.len()
    }

    /// The better strand's log-odds of a site of base codes; N counts as the least likely base.
    pub fn score(&self, site: &[u8]) -> f32 {
        let strand = |columns: &[[f32; 4]]| -> f32 {
            columns
                .iter()
                .zip(site)
                .map(|(column, &base)| match column.get(base as usize) {
                    Some(&score) => score,
                    None => lowest(column),
                })
                .sum()
        };
        strand(&self.forward).max(strand(&self.reverse))
    }

    pub fn lowest_score(&self) -> f32 {
        self.forward.iter().map(lowest).sum()
    }
}

fn lowest(column: &[f32; 4]) -> f32 {
    column.iter().copied().fold(f32::INFINITY, f32::min)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scores_both_strands_and_fears_n() {
        let counts = [
            [8.0, 0.0, 0.0, 0.0],
            [0.0, 8.0, 0.0, 0.0],
            [0.0, 0.0, 8.0, 0.0],
        ];
        let motif = Motif::new("ACG".into(), &counts);
        let best = motif.score(&[0, 1, 2]);
        assert!((best - 3.0 * (4.0f32 * 8.2 / 8.8).log2()).abs() < 1e-5);
        assert_eq!(
            motif.score(&[1, 2, 3]),
            best,
            "CGT is ACG on the other strand"
        );
        assert_eq!(motif.score(&[4, 4, 4]), motif.lowest_score());
    }

    #[test]
    fn counts_and_probabilities_of_any_format_are_one_motif() {
        let folder = std::env::temp_dir().join(format!("tfbind-motifs-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let read = |name: &str, text: &str| {
            let path = folder.join(name);
            std::fs::write(&path, text).unwrap();
            Motif::read(&path)
        };
        let jaspar = ">MA1 ACGT\nA [20 0 0 0]\nC [0 20 0 0]\nG [0 0 20 0]\nT [0 0 0 20]\n";
        let homer = ">ACGT\tACGT\t6.0\n1 0 0 0\n0 1 0 0\n0 0 1 0\n0 0 0 1\n";
        let meme = "MEME version 4\n\nMOTIF ACGT\nletter-probability matrix: alength= 4 w= 4\n1 0 0 0\n0 1 0 0\n0 0 1 0\n0 0 0 1\n";
        for (name, text) in [("jaspar", jaspar), ("homer", homer), ("meme", meme)] {
            let motif = read(name, text).unwrap();
            assert_eq!(motif.name, "ACGT");
            let expected = 4.0 * (4.0f32 * 20.2 / 20.8).log2();
            assert!(
                (motif.score(&[0, 1, 2, 3]) - expected).abs() < 1e-4,
                "{name}"
            );
        }
        for (text, said) in [
            (
                jaspar.replace("A [20", "A [-3"),
                "line 2: `-3` is not a count",
            ),
            (
                jaspar.replace("A [20", "A [NaN"),
                "line 2: `NaN` is not a count",
            ),
            (
                jaspar
                    .replace("A [", "T [")
                    .replace("\nT [0 0 0 20]", "\nA [0 0 0 20]"),
                "rows of TCGA",
            ),
            ("ACGT\n".to_string(), "expected a motif"),
        ] {
            let error = read("wrong", &text).unwrap_err().to_string();
            assert!(error.contains("wrong") && error.contains(said), "{error}");
        }
        std::fs::remove_dir_all(folder).unwrap();
    }
}
