use std::fmt;
use std::path::PathBuf;

use half::f16;
use hdf5::Dataset;

use super::context::Context;
use super::rows::read_rows;
use super::store::Store;
use super::{Counts, Error, Header, Locus, Task};

/// One split of a data file; it can be sent to the thread that reads ahead.
#[derive(Clone)]
pub struct Split {
    pub(super) path: PathBuf,
    pub(super) name: String,
    rows: usize,
    pub(super) tracks: Vec<String>,
    pub(super) targets: Vec<String>,
    pub(super) width: usize,
    pub(super) label_len: usize,
    source: Source,
    counts: Counts,
}

#[derive(Clone)]
enum Source {
    Windows(Stored),
    Sequence(Context),
}

/// Windows that are in the file one by one.
#[derive(Clone)]
struct Stored {
    packed: bool,
    seq: Dataset,
    signal: Option<Dataset>,
    label: Dataset,
    locus: Dataset,
}

impl fmt::Debug for Split {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "split {} of {}: {:?}",
            self.name,
            self.path.display(),
            self.counts
        )
    }
}

impl Split {
    pub(super) fn open(store: &Store, header: &Header, name: &str) -> Result<Self, Error> {
        let group = store.file.group(name).map_err(store.failed(name))?;
        let count = |what| store.number(&group, what);
        let mut counts = Counts {
            windows: count("windows")?,
            positives: count("positives")?,
            negatives: count("negatives")?,
            masked: count("masked")?,
            missing_bases: count("missing_bases")?,
            bases: [0; 4],
        };
        if header.classes() > 1 {
            counts.bases = store.four(&group, "bases")?;
        }
        let source = match header.task {
            Task::Central(central) => {
                let windows = counts.windows;
                Source::Sequence(Context::open(store, header, central, name, windows)?)
            }
            _ => Source::Windows(Stored::open(store, header, name, counts.windows as usize)?),
        };
        Ok(Self {
            path: store.path.clone(),
            name: name.to_owned(),
            rows: counts.windows as usize,
            tracks: header.tracks.clone(),
            targets: header.targets.clone(),
            width: header.width(),
            label_len: header.label_len(),
            source,
            counts,
        })
    }

    pub fn len(&self) -> usize {
        self.rows
    }

    pub fn is_empty(&self) -> bool {
        self.rows == 0
    }

    pub fn counts(&self) -> Counts {
        self.counts
    }

    pub fn loci(&self) -> Result<Vec<Locus>, Error> {
        match &self.source {
            Source::Sequence(context) => Ok((0..self.rows).map(|row| context.locus(row)).collect()),
            Source::Windows(stored) => stored
                .locus
                .read_raw()
                .map_err(|source| self.failed("locus", source)),
        }
    }

    pub fn locus(&self, row: usize) -> Result<Locus, Error> {
        self.check_row(row)?;
        match &self.source {
            Source::Sequence(context) => Ok(context.locus(row)),
            Source::Windows(stored) => {
                let loci = read_rows(&stored.locus, row..row + 1);
                loci.map(|loci| loci[0])
                    .map_err(|source| self.failed("locus", source))
            }
        }
    }

    /// Appends the window of `row` to the three buffers, checking every value.
    pub fn read_into(
        &self,
        row: usize,
        seq: &mut Vec<u8>,
        signal: &mut Vec<f16>,
        label: &mut Vec<i8>,
    ) -> Result<(), Error> {
        self.check_row(row)?;
        match &self.source {
            Source::Windows(stored) => self.read_stored(stored, row, seq, signal, label),
            Source::Sequence(context) => {
                if !context.is_read() {
                    self.read_sequence(context)?;
                }
                context.append(row, seq, label);
                Ok(())
            }
        }
    }

    fn read_sequence(&self, context: &Context) -> Result<(), Error> {
        let read = context
            .read()
            .map_err(|source| self.failed("seq", source))?;
        read.map_err(|(at, found)| Error::Sequence {
            path: self.path.clone(),
            split: self.name.clone(),
            at,
            found,
        })
    }

    fn read_stored(
        &self,
        stored: &Stored,
        row: usize,
        seq: &mut Vec<u8>,
        signal: &mut Vec<f16>,
        label: &mut Vec<i8>,
    ) -> Result<(), Error> {
        let rows = row..row + 1;
        let failed = |what: &str| {
            let item = format!("{what}, row {row}");
            move |source| self.failed(&item, source)
        };
        let codes = read_rows::<u8>(&stored.seq, rows.clone()).map_err(failed("seq"))?;
        self.check_codes(row, &codes)?;
        seq.extend_from_slice(&codes);

        if let Some(dataset) = &stored.signal {
            let values = read_rows::<f16>(dataset, rows.clone()).map_err(failed("signal"))?;
            self.check_signal(row, &values)?;
            signal.extend_from_slice(&values);
        }

        if stored.packed {
            let bytes = read_rows::<u8>(&stored.label, rows).map_err(failed("label"))?;
            for target in bytes.chunks_exact(self.label_len.div_ceil(8)) {
                label.extend(
                    (0..self.label_len).map(|bit| (target[bit / 8] >> (bit % 8) & 1) as i8),
                );
            }
        } else {
            let values = read_rows::<i8>(&stored.label, rows).map_err(failed("label"))?;
            self.check_labels(row, &values)?;
            label.extend_from_slice(&values);
        }
        Ok(())
    }

    fn check_row(&self, row: usize) -> Result<(), Error> {
        if row < self.rows {
            return Ok(());
        }
        Err(Error::NoRow {
            path: self.path.clone(),
            split: self.name.clone(),
            row,
            rows: self.rows,
        })
    }

    fn failed(&self, what: &str, source: hdf5::Error) -> Error {
        let item = format!("{}/{what}", self.name);
        Error::Hdf5 {
            path: self.path.clone(),
            item,
            source,
        }
    }
}

impl Stored {
    fn open(store: &Store, header: &Header, split: &str, rows: usize) -> Result<Self, Error> {
        let (tracks, targets) = (header.tracks.len(), header.targets.len());
        let (width, label_len) = (header.width(), header.label_len());
        let member = |dataset: &str| format!("{split}/{dataset}");
        let label = member("label");
        let packed = store.dataset(&label)?.attr("packed").is_ok();
        Ok(Self {
            packed,
            seq: store.shaped::<u8>(&member("seq"), &[rows, width])?,
            signal: match tracks {
                0 => None,
                _ => Some(store.shaped::<f16>(&member("signal"), &[rows, tracks, width])?),
            },
            label: match packed {
                true => store.shaped::<u8>(&label, &[rows, targets, label_len.div_ceil(8)])?,
                false => store.shaped::<i8>(&label, &[rows, targets, label_len])?,
            },
            locus: store.shaped::<Locus>(&member("locus"), &[rows])?,
        })
    }
}
