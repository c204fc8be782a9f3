//! FASTA in a stream: whatever the length of a contig or of a line, memory stays small.

use std::collections::HashMap;
use std::io::BufRead;
use std::ops::Range;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::error::Error;
use crate::intervals::Intervals;
use crate::schema::{Contig, N, SOFT_MASKED};
use crate::text;

const ILLEGAL: u8 = 0xff;
const NEW_LINE: u8 = 0xfe;
const SKIPPED: u8 = 0xfd;

/// Base code of every byte, or one of the three marks above.
const CODES: [u8; 256] = codes();

const fn codes() -> [u8; 256] {
    let mut codes = [ILLEGAL; 256];
    // The code of a letter is its place here, at most N: the IUPAC letters of several bases are N.
    let letters = b"ACGTNRYSWKMBDHVU";
    let mut place = 0;
    while place < letters.len() {
        let code = match letters[place] {
            b'U' => 3,
            _ if place as u8 > N => N,
            _ => place as u8,
        };
        codes[letters[place] as usize] = code;
        codes[letters[place].to_ascii_lowercase() as usize] = code | SOFT_MASKED;
        place += 1;
    }
    codes[b'\n' as usize] = NEW_LINE;
    codes[b'\r' as usize] = SKIPPED;
    codes
}

/// Reads contigs one after the other, and each in pieces.
pub struct FastaReader {
    path: PathBuf,
    reader: Box<dyn BufRead>,
    line: u64,
    line_start: bool,
    contig: String,
}

impl FastaReader {
    pub fn open(path: &Path) -> Result<Self, Error> {
        Ok(Self {
            path: path.to_owned(),
            reader: text::open(path)?,
            line: 1,
            line_start: true,
            contig: String::new(),
        })
    }

    /// Moves to the next contig, passing over what is left of this one.
    pub fn next_contig(&mut self) -> Result<Option<String>, Error> {
        let mut passed = Vec::new();
        while self.read_bases(1 << 16, &mut passed)? > 0 {
            passed.clear();
        }
        let mut header = Vec::new();
        let read = self
            .reader
            .read_until(b'\n', &mut header)
            .map_err(text::read_error(&self.path))?;
        if read == 0 {
            return Ok(None);
        }
        let header = String::from_utf8_lossy(&header[1..]);
        self.contig = header
            .split_whitespace()
            .next()
            .unwrap_or_default()
            .to_owned();
        if self.contig.is_empty() {
            let problem = "a header without a name".to_owned();
            return Err(Error::Line {
                path: self.path.clone(),
                line: self.line,
                problem,
            });
        }
        self.line += 1;
        self.line_start = true;
        Ok(Some(self.contig.clone()))
    }

    /// Moves to the next contig, which has to be the one that an earlier pass found here.
    pub fn enter(&mut self, name: &str) -> Result<(), Error> {
        match self.next_contig()? {
            Some(found) if found == name => Ok(()),
            _ => Err(self.changed()),
        }
    }

    /// For a second pass that finds something else than the first.
    pub fn changed(&self) -> Error {
        let path = self.path.display();
        Error::Request(format!("{path}: the file changed while it was read"))
    }

    /// Appends up to `limit` base codes of the contig; 0 at its end.
    pub fn read_bases(&mut self, limit: usize, bases: &mut Vec<u8>) -> Result<usize, Error> {
        let before = bases.len();
        loop {
            let piece = self
                .reader
                .fill_buf()
                .map_err(text::read_error(&self.path))?;
            let mut used = 0;
            let mut done = piece.is_empty();
            for &byte in piece {
                if bases.len() - before == limit || (byte == b'>' && self.line_start) {
                    done = true;
                    break;
                }
                used += 1;
                match CODES[byte as usize] {
                    NEW_LINE => {
                        self.line += 1;
                        self.line_start = true;
                    }
                    SKIPPED => {}
                    _ if self.contig.is_empty() => {
                        return Err(Error::NoHeader {
                            path: self.path.clone(),
                            line: self.line,
                        });
                    }
                    ILLEGAL => {
                        return Err(Error::Letter {
                            path: self.path.clone(),
                            line: self.line,
                            contig: self.contig.clone(),
                            letter: byte as char,
                        });
                    }
                    code => {
                        bases.push(code);
                        self.line_start = false;
                    }
                }
            }
            self.reader.consume(used);
            if done {
                return Ok(bases.len() - before);
            }
        }
    }
}

/// What one pass over a FASTA tells: its contigs and where they are N.
#[derive(Debug)]
pub struct Genome {
    pub contigs: Vec<Contig>,
    /// Where each is among the contigs: a draft genome has many.
    places: HashMap<String, usize>,
    /// Per contig; the runs are few even in a draft genome.
    pub unknown: Vec<Intervals>,
    /// SHA-256 of the base codes of all contigs, repeats marked.
    pub digest: [u8; 32],
}

impl Genome {
    pub fn survey(path: &Path) -> Result<Self, Error> {
        let mut reader = FastaReader::open(path)?;
        let (mut contigs, mut unknown) = (Vec::new(), Vec::new());
        let mut places = HashMap::new();
        let mut piece = Vec::new();
        let mut digest = Sha256::new();
        while let Some(name) = reader.next_contig()? {
            if places.insert(name.clone(), contigs.len()).is_some() {
                let line = reader.line - 1;
                return Err(Error::DuplicateContig {
                    path: path.to_owned(),
                    line,
                    contig: name,
                });
            }
            let mut size = 0;
            let mut runs: Vec<Range<u64>> = Vec::new();
            while reader.read_bases(1 << 16, &mut piece)? > 0 {
                digest.update(&piece);
                for code in piece.drain(..) {
                    if code & !SOFT_MASKED == N {
                        match runs.last_mut() {
                            Some(run) if run.end == size => run.end += 1,
                            _ => runs.push(size..size + 1),
                        }
                    }
                    size += 1;
                }
            }
            contigs.push(Contig { name, size });
            unknown.push(Intervals::merged(runs));
        }
        if contigs.iter().all(|contig| contig.size == 0) {
            return Err(Error::Empty {
                path: path.to_owned(),
                what: "sequence",
            });
        }
        Ok(Self {
            contigs,
            places,
            unknown,
            digest: digest.finalize().into(),
        })
    }

    pub fn index(&self, name: &str) -> Option<usize> {
        self.places.get(name).copied()
    }

    pub fn names(&self) -> impl Iterator<Item = &str> + Clone {
        self.contigs.iter().map(|contig| contig.name.as_str())
    }
}

/// The bases of the reader's contig, asked for from left to right.
#[derive(Default)]
pub struct Sequence {
    start: u64,
    bases: Vec<u8>,
}

impl Sequence {
    /// Bases to read beyond those asked for.
    const AHEAD: usize = 1 << 18;

    /// Appends the codes of `range`, N where it reaches past the contig.
    pub fn append(
        &mut self,
        reader: &mut FastaReader,
        range: Range<i64>,
        codes: &mut Vec<u8>,
    ) -> Result<(), Error> {
        let known = range.start.max(0) as u64..range.end.max(0) as u64;
        while self.start + (self.bases.len() as u64) < known.end {
            let passed = (known.start.saturating_sub(self.start) as usize).min(self.bases.len());
            self.bases.drain(..passed);
            self.start += passed as u64;
            if reader.read_bases(Self::AHEAD, &mut self.bases)? == 0 {
                break;
            }
        }
        let first = codes.len();
        codes.resize(first + (range.end - range.start) as usize, N);
        let left = (known.start as i64 - range.start) as usize;
        let from = (known.start - self.start) as usize;
        let until = ((known.end - self.start) as usize).min(self.bases.len());
        codes[first + left..][..until - from].copy_from_slice(&self.bases[from..until]);
        Ok(())
    }
}
