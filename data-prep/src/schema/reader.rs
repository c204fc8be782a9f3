use std::fmt;
use std::path::{Path, PathBuf};

use half::f16;
use hdf5::Dataset;

use super::rows::read_rows;
use super::store::Store;
use super::{Counts, Error, Header, Locus, WINDOWS};

/// The order in which splits are listed; others follow by name.
const USUAL_SPLITS: [&str; 4] = ["train", "valid", "test", "predict"];

/// A data file whose header and shapes have been checked.
#[derive(Debug)]
pub struct DataFile {
    store: Store,
    header: Header,
    splits: Vec<Split>,
}

impl DataFile {
    pub fn open(path: impl AsRef<Path>) -> Result<Self, Error> {
        let store = Store::open(path.as_ref(), WINDOWS)?;
        let header = read_header(&store)?;
        let mut names = store
            .file
            .member_names()
            .map_err(store.failed("the root group"))?;
        names.retain(|name| name != "contigs" && store.file.group(name).is_ok());
        names.sort_by_key(|name| {
            let usual = USUAL_SPLITS.iter().position(|usual| usual == name);
            (usual.unwrap_or(USUAL_SPLITS.len()), name.clone())
        });
        let splits = names
            .iter()
            .map(|name| Split::open(&store, &header, name))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            store,
            header,
            splits,
        })
    }

    pub fn header(&self) -> &Header {
        &self.header
    }

    pub fn splits(&self) -> Vec<String> {
        self.splits.iter().map(|split| split.name.clone()).collect()
    }

    pub fn split(&self, name: &str) -> Result<Split, Error> {
        let found = self.splits.iter().find(|split| split.name == name);
        found.cloned().ok_or_else(|| Error::NoSplit {
            path: self.store.path.clone(),
            split: name.to_owned(),
            present: match self.splits().join(", ") {
                none if none.is_empty() => "no splits".to_owned(),
                some => some,
            },
        })
    }
}

fn read_header(store: &Store) -> Result<Header, Error> {
    let size = |name| store.number(&store.file, name).map(|size| size as usize);
    Ok(Header {
        task: store.word("task")?,
        length: size("length")?,
        margin: size("margin")?,
        genome: store.text("genome")?,
        contigs: store.contigs()?,
        tracks: store.strings("tracks")?,
        targets: store.strings("targets")?,
        normalise: store.text("normalise")?,
        missing: store.text("missing")?,
        recipe: store.text("recipe")?,
        recipe_hash: store.text("recipe_hash")?,
    })
}

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
    packed: bool,
    seq: Dataset,
    signal: Option<Dataset>,
    label: Dataset,
    locus: Dataset,
    counts: Counts,
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
    fn open(store: &Store, header: &Header, name: &str) -> Result<Self, Error> {
        let group = store.file.group(name).map_err(store.failed(name))?;
        let count = |what| store.number(&group, what);
        let counts = Counts {
            windows: count("windows")?,
            positives: count("positives")?,
            negatives: count("negatives")?,
            masked: count("masked")?,
            missing_bases: count("missing_bases")?,
        };
        let rows = counts.windows as usize;
        let (tracks, targets) = (header.tracks.len(), header.targets.len());
        let member = |dataset: &str| format!("{name}/{dataset}");
        let label_name = member("label");
        let packed = store.dataset(&label_name)?.attr("packed").is_ok();
        let label_len = header.label_len();
        let label = if packed {
            store.shaped::<u8>(&label_name, &[rows, targets, label_len.div_ceil(8)])?
        } else {
            store.shaped::<i8>(&label_name, &[rows, targets, label_len])?
        };
        let signal = match tracks {
            0 => None,
            _ => Some(store.shaped::<f16>(&member("signal"), &[rows, tracks, header.width()])?),
        };
        Ok(Self {
            path: store.path.clone(),
            name: name.to_owned(),
            rows,
            tracks: header.tracks.clone(),
            targets: header.targets.clone(),
            width: header.width(),
            label_len,
            packed,
            seq: store.shaped::<u8>(&member("seq"), &[rows, header.width()])?,
            signal,
            label,
            locus: store.shaped::<Locus>(&member("locus"), &[rows])?,
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
        self.locus
            .read_raw()
            .map_err(|source| self.failed("locus", source))
    }

    pub fn locus(&self, row: usize) -> Result<Locus, Error> {
        let loci = read_rows(&self.locus, row..row + 1);
        loci.map(|loci| loci[0])
            .map_err(|source| self.failed("locus", source))
    }

    /// Appends the window of `row` to the three buffers, checking every value.
    pub fn read_into(
        &self,
        row: usize,
        seq: &mut Vec<u8>,
        signal: &mut Vec<f16>,
        label: &mut Vec<i8>,
    ) -> Result<(), Error> {
        if row >= self.rows {
            let (path, split) = (self.path.clone(), self.name.clone());
            return Err(Error::NoRow {
                path,
                split,
                row,
                rows: self.rows,
            });
        }
        let rows = row..row + 1;
        let failed = |what: &str| {
            let item = format!("{what}, row {row}");
            move |source| self.failed(&item, source)
        };
        let codes = read_rows::<u8>(&self.seq, rows.clone()).map_err(failed("seq"))?;
        self.check_codes(row, &codes)?;
        seq.extend_from_slice(&codes);

        if let Some(dataset) = &self.signal {
            let values = read_rows::<f16>(dataset, rows.clone()).map_err(failed("signal"))?;
            self.check_signal(row, &values)?;
            signal.extend_from_slice(&values);
        }

        if self.packed {
            let bytes = read_rows::<u8>(&self.label, rows).map_err(failed("label"))?;
            for target in bytes.chunks_exact(self.label_len.div_ceil(8)) {
                label.extend(
                    (0..self.label_len).map(|bit| (target[bit / 8] >> (bit % 8) & 1) as i8),
                );
            }
        } else {
            let values = read_rows::<i8>(&self.label, rows).map_err(failed("label"))?;
            self.check_labels(row, &values)?;
            label.extend_from_slice(&values);
        }
        Ok(())
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
