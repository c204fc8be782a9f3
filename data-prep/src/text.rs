//! Text files: read plain or gzip (bgzip is gzip of many members), told apart by content; written plain.

use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use flate2::bufread::MultiGzDecoder;

use crate::error::Error;
use crate::partial::PartialFile;

const GZIP: [u8; 2] = [0x1f, 0x8b];
const BUFFER: usize = 1 << 16;

pub(crate) fn open(path: &Path) -> Result<Box<dyn BufRead>, Error> {
    let mut file = BufReader::with_capacity(BUFFER, File::open(path).map_err(Error::io(path))?);
    let start = file.fill_buf().map_err(Error::io(path))?;
    if start.starts_with(&GZIP) {
        let decoder = Flagged(MultiGzDecoder::new(file));
        return Ok(Box::new(BufReader::with_capacity(BUFFER, decoder)));
    }
    Ok(Box::new(file))
}

/// Marks what the decoder reports, so that it is told from a failure of the disk.
struct Flagged<R>(R);

impl<R: Read> Read for Flagged<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => {
                io::Error::new(io::ErrorKind::InvalidData, "unexpected end")
            }
            io::ErrorKind::InvalidInput => io::Error::new(io::ErrorKind::InvalidData, error),
            _ => error,
        })
    }
}

pub(crate) fn read_error(path: &Path) -> impl FnOnce(io::Error) -> Error + use<> {
    let path = path.to_owned();
    move |source| match source.kind() {
        io::ErrorKind::InvalidData => Error::Compressed {
            path,
            reason: source.to_string(),
        },
        _ => Error::Io { path, source },
    }
}

/// The lines of a text file, with their numbers from 1.
pub(crate) struct Lines {
    path: PathBuf,
    reader: Box<dyn BufRead>,
    line: Vec<u8>,
    number: u64,
}

impl Lines {
    pub fn open(path: &Path) -> Result<Self, Error> {
        let reader = open(path)?;
        Ok(Self {
            path: path.to_owned(),
            reader,
            line: Vec::new(),
            number: 0,
        })
    }

    /// The next line without its end, lossily as UTF-8 since genome files are ASCII.
    pub fn next_line(&mut self) -> Result<Option<(u64, String)>, Error> {
        self.line.clear();
        let read = self
            .reader
            .read_until(b'\n', &mut self.line)
            .map_err(read_error(&self.path))?;
        if read == 0 {
            return Ok(None);
        }
        self.number += 1;
        let text = String::from_utf8_lossy(self.line.trim_ascii_end()).into_owned();
        Ok(Some((self.number, text)))
    }
}

/// A text file being written, which appears when it is [`close`](Self::close)d.
pub(crate) struct TextFile {
    pub written: u64,
    out: BufWriter<File>,
    partial: PartialFile,
}

impl TextFile {
    pub fn create(path: &Path) -> Result<Self, Error> {
        let partial = PartialFile::beside(path).map_err(Error::io(path))?;
        let out = BufWriter::new(File::create(partial.path()).map_err(Error::io(path))?);
        Ok(Self {
            written: 0,
            out,
            partial,
        })
    }

    pub fn put(&mut self, text: impl AsRef<[u8]>) -> Result<(), Error> {
        let text = text.as_ref();
        self.written += text.len() as u64;
        let failed = Error::io(self.partial.target());
        self.out.write_all(text).map_err(failed)
    }

    pub fn close(mut self) -> Result<(), Error> {
        let path = self.partial.target().to_owned();
        self.out.flush().map_err(Error::io(&path))?;
        drop(self.out);
        self.partial.commit().map_err(Error::io(&path))
    }
}
