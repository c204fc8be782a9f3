//! A motif as a matrix of log-odds, read from JASPAR counts.

use std::{fs, path::Path};

use anyhow::{Context, Result, bail, ensure};

/// Added to every count, as JASPAR's own tools do.
const PSEUDOCOUNT: f32 = 0.8;

#[derive(Clone, Debug)]
pub struct Motif {
    pub name: String,
    /// log2 of probability over 1/4, for A C G T at each column.
    forward: Vec<[f32; 4]>,
    reverse: Vec<[f32; 4]>,
}

impl Motif {
    /// The only motif of a JASPAR file, or the one whose id or name follows a `#`: `motifs.txt#REB1`.
    pub fn read(path: &Path) -> Result<Self> {
        let text = path.to_string_lossy();
        let (file, wanted) = text
            .split_once('#')
            .map_or((&*text, None), |(file, name)| (file, Some(name)));
        let mut found = Self::titled(file, |title| {
            let is = |wanted| {
                title
                    .split_whitespace()
                    .any(|word| word.eq_ignore_ascii_case(wanted))
            };
            wanted.is_none_or(is)
        })?;
        ensure!(
            found.len() == 1,
            "{file}: {} motifs match, expected one; name it as {file}#NAME",
            found.len()
        );
        Ok(found.remove(0))
    }

    /// All motifs of a JASPAR file, one at least.
    pub fn read_all(path: &Path) -> Result<Vec<Self>> {
        let file = path.to_string_lossy();
        let all = Self::titled(&file, |_| true)?;
        ensure!(
            !all.is_empty(),
            "{file}: no motif, which begins with > and has four rows of counts"
        );
        Ok(all)
    }

    fn titled(file: &str, wanted: impl Fn(&str) -> bool) -> Result<Vec<Self>> {
        let text = fs::read_to_string(file).with_context(|| format!("reading {file}"))?;
        let records = text.split('>').skip(1).map(|record| {
            let (title, rows) = record.split_once('\n').unwrap_or((record, ""));
            (title.trim(), rows)
        });
        let found = records.filter(|(title, _)| wanted(title));
        found
            .map(|(title, rows)| {
                let name = title.split_whitespace().last().unwrap_or("motif");
                let motif = Self::parse(name.to_string(), rows.lines());
                motif.with_context(|| format!("{file}: motif {title}"))
            })
            .collect()
    }

    /// Of A C G T at each column.
    pub fn probabilities(&self) -> impl Iterator<Item = [f32; 4]> {
        let columns = self.forward.iter();
        columns.map(|column| column.map(|log_odds| log_odds.exp2() / 4.0))
    }

    /// Four rows of counts, with or without a leading letter and brackets.
    pub(crate) fn parse<'a>(name: String, lines: impl Iterator<Item = &'a str>) -> Result<Self> {
        let mut rows = Vec::new();
        for line in lines.filter(|line| !line.trim().is_empty()) {
            let line = line.trim().trim_start_matches(['A', 'C', 'G', 'T']);
            let words = line
                .split(|c: char| c.is_whitespace() || c == '[' || c == ']')
                .filter(|word| !word.is_empty());
            rows.push(
                words
                    .map(str::parse::<f32>)
                    .collect::<Result<Vec<_>, _>>()
                    .context("a count is not a number")?,
            );
        }
        let [a, c, g, t] = &rows[..] else {
            bail!("expected 4 rows of counts, found {}", rows.len())
        };
        ensure!(
            !a.is_empty() && [c, g, t].iter().all(|row| row.len() == a.len()),
            "rows of different length"
        );
        let column = |i: usize| {
            let counts = [a[i], c[i], g[i], t[i]].map(|count| count + PSEUDOCOUNT / 4.0);
            let total: f32 = counts.iter().sum();
            counts.map(|count| (4.0 * count / total).log2())
        };
        let forward: Vec<[f32; 4]> = (0..a.len()).map(column).collect();
        let reverse = forward
            .iter()
            .rev()
            .map(|&[a, c, g, t]| [t, g, c, a])
            .collect();
        Ok(Self {
            name,
            forward,
            reverse,
        })
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
        let lines = ["A [ 8 0 0 ]", "C [ 0 8 0 ]", "G [ 0 0 8 ]", "T [ 0 0 0 ]"];
        let motif = Motif::parse("ACG".into(), lines.into_iter()).unwrap();
        let best = motif.score(&[0, 1, 2]);
        assert!((best - 3.0 * (4.0f32 * 8.2 / 8.8).log2()).abs() < 1e-5);
        assert_eq!(
            motif.score(&[1, 2, 3]),
            best,
            "CGT is ACG on the other strand"
        );
        assert_eq!(motif.score(&[4, 4, 4]), motif.lowest_score());
        assert!(Motif::parse("short".into(), ["1 2", "3"].into_iter()).is_err());
    }
}
