use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::schema;

/// What can be wrong with the genome files, or with what was asked of them.
#[derive(Debug, Error)]
pub enum Error {
    #[error(
        "{path}: the mean of the track over its genome is {mean}, and --normalise depth divides by \
         it; --normalise log1p does not, and names the first value that is not finite"
    )]
    Depth { path: PathBuf, mean: f32 },
    #[error(transparent)]
    Schema(#[from] schema::Error),

    #[error("{path}: {source}")]
    Io { path: PathBuf, source: io::Error },

    #[error("{path}: the compressed file is cut short or damaged ({reason}); copy it again")]
    Compressed { path: PathBuf, reason: String },

    #[error("{path}: the file has no {what}")]
    Empty { path: PathBuf, what: &'static str },

    #[error("{0}")]
    Request(String),

    #[error(
        "{path}, line {line}: `{letter}` in contig {contig} is not a base; \
         expected A, C, G, T, N or another IUPAC letter"
    )]
    Letter {
        path: PathBuf,
        line: u64,
        contig: String,
        letter: char,
    },

    #[error("{path}, line {line}: expected a header that starts with `>`, found sequence")]
    NoHeader { path: PathBuf, line: u64 },

    #[error("{path}, line {line}: the contig {contig} is there twice")]
    DuplicateContig {
        path: PathBuf,
        line: u64,
        contig: String,
    },

    #[error("{path}, line {line}: {problem}")]
    Line {
        path: PathBuf,
        line: u64,
        problem: String,
    },

    #[error(
        "{path}, line {line}: {contig}:{start}-{end} ends past the contig, which has {size} bases"
    )]
    PastContig {
        path: PathBuf,
        line: u64,
        contig: String,
        start: u64,
        end: u64,
        size: u64,
    },

    #[error(
        "{path}: {} on contigs that the FASTA lacks, such as {contig}{hint}",
        plural(*.intervals, "interval")
    )]
    UnknownContigs {
        path: PathBuf,
        intervals: u64,
        contig: String,
        hint: String,
    },

    #[error("the {split} split names {contig}, which the FASTA lacks{hint}")]
    SplitContig {
        split: String,
        contig: String,
        hint: String,
    },

    #[error("the splits overlap: {first} and {second}")]
    Overlap { first: String, second: String },

    #[error("the {split} split has no windows: {why}")]
    NoWindows { split: String, why: String },

    #[error("{path}: not a readable bigWig, or cut short: {reason}")]
    BigWig { path: PathBuf, reason: String },

    #[error(
        "{path}: the bigWig says {contig} has {found} bases, the FASTA {expected}; \
         they are of different assemblies"
    )]
    Assembly {
        path: PathBuf,
        contig: String,
        found: u64,
        expected: u64,
    },

    #[error(
        "{path}: the bigWig lacks the contig {contig}, which the splits use{hint}; \
         name the contigs that train with --train, or take such bases as 0 with --missing zero"
    )]
    TrackContig {
        path: PathBuf,
        contig: String,
        hint: String,
    },

    #[error("{path}: {contig}:{position} has the value {value}, {problem}")]
    Value {
        path: PathBuf,
        contig: String,
        position: u64,
        value: f32,
        problem: &'static str,
    },

    #[error(
        "{path}: {contig}:{position} is not covered by the bigWig, or NaN in it; \
         `--missing zero` takes such bases as 0"
    )]
    Uncovered {
        path: PathBuf,
        contig: String,
        position: u64,
    },

    #[error("{path}: row {row} lies at {start} of contig {contig}, outside the genome of the file")]
    Locus {
        path: PathBuf,
        row: usize,
        contig: String,
        start: i64,
    },

    #[error("{path}: row {row} predicts {found}, expected a finite number")]
    Probability {
        path: PathBuf,
        row: usize,
        found: f32,
    },

    #[error("{path}: no value to write; lower --min")]
    NothingToExport { path: PathBuf },
}

impl Error {
    /// For `map_err` on what happens to the file at `path`.
    pub fn io(path: &Path) -> impl FnOnce(io::Error) -> Self + use<> {
        let path = path.to_owned();
        move |source| Self::Io { path, source }
    }
}

/// `1 file`, `2 files`.
pub(crate) fn plural(count: u64, what: &str) -> String {
    let ending = if count == 1 { "" } else { "s" };
    format!("{count} {what}{ending}")
}

/// A contig's name with `chr`, or without.
pub(crate) fn other_spelling(name: &str) -> String {
    match name.strip_prefix("chr") {
        Some(bare) => bare.to_owned(),
        None => format!("chr{name}"),
    }
}

/// What to add to "the FASTA lacks `name`": its other spelling, or what there is.
pub(crate) fn contig_hint<'a>(name: &str, known: impl Iterator<Item = &'a str> + Clone) -> String {
    let other = other_spelling(name);
    if known.clone().any(|contig| contig == other) {
        return format!(
            " (it has `{other}`: one file names contigs with `chr`, the other without)"
        );
    }
    let some: Vec<_> = known.clone().take(5).collect();
    let more = if known.count() > some.len() {
        ", …"
    } else {
        ""
    };
    format!(" (it has {}{more})", some.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hint_says_whether_there_are_more_contigs() {
        let hint = |known: &[&'static str]| contig_hint("chr9", known.iter().copied());
        assert_eq!(hint(&["a", "b", "c"]), " (it has a, b, c)");
        let six = ["a", "b", "c", "d", "e", "f"];
        assert_eq!(hint(&six), " (it has a, b, c, d, e, …)");
        assert_eq!(hint(&six[..5]), " (it has a, b, c, d, e)");
    }
}
