use std::ops::Range;
use std::path::Path;

use hdf5::Dataset;

use super::rows::{growing, read_rows, write_rows};
use super::store::Store;
use super::writer::{commit_store, create_store};
use super::{Contig, Error, Locus, PREDICTIONS, Task, labelled};
use crate::partial::PartialFile;

/// Values of probability in a chunk: 64 KiB, or one window where that is longer.
const CHUNK_VALUES: usize = 16_384;

/// What holds for every window of a file of predictions.
#[derive(Debug, Clone, PartialEq)]
pub struct PredictionHeader {
    pub task: Task,
    pub length: usize,
    /// Of windows with one label, the central bases that it is of; all if none.
    pub bin: Option<usize>,
    pub margin: usize,
    pub genome: String,
    pub contigs: Vec<Contig>,
    pub targets: Vec<String>,
    /// Which model predicted, for people.
    pub model: String,
}

impl PredictionHeader {
    pub fn label_len(&self) -> usize {
        self.task.label_len(self.length)
    }

    /// The bases of a window that its values are of.
    pub fn labelled(&self) -> Range<usize> {
        match self.task {
            Task::PerBase => 0..self.length,
            Task::PerWindow => labelled(self.length, self.bin),
            Task::Central(_) => labelled(self.length, Some(1)),
        }
    }

    /// Values per window over all targets.
    pub fn row_len(&self) -> usize {
        self.targets.len() * self.label_len()
    }
}

/// Writes a file of predictions beside its target; it appears when [`finish`](Self::finish)ed.
#[derive(Debug)]
pub struct PredictionWriter {
    probability: Dataset,
    locus: Dataset,
    store: Store,
    rows: usize,
    row_len: usize,
    written: usize,
    partial: PartialFile,
}

impl PredictionWriter {
    pub fn create(
        path: impl AsRef<Path>,
        header: &PredictionHeader,
        windows: usize,
    ) -> Result<Self, Error> {
        let (partial, store) = create_store(path.as_ref())?;
        store.write_text("schema", PREDICTIONS)?;
        store.write_version(header.task)?;
        store.write_text("task", header.task.as_str())?;
        store.write_number(&store.file, "length", header.length as u64)?;
        if let Some(bin) = header.bin {
            store.write_number(&store.file, "bin", bin as u64)?;
        }
        store.write_number(&store.file, "margin", header.margin as u64)?;
        store.write_text("genome", &header.genome)?;
        store.write_text("model", &header.model)?;
        store.write_contigs(&header.contigs)?;
        store.write_strings("targets", &header.targets)?;
        let chunk = (CHUNK_VALUES / header.row_len().max(1)).max(1);
        let row = [header.targets.len(), header.label_len()];
        let probability = growing::<f32>(&store.file, "probability", chunk, &row)
            .and_then(|dataset| dataset.resize([windows, row[0], row[1]]).map(|()| dataset))
            .map_err(store.failed("probability"))?;
        let locus =
            growing::<Locus>(&store.file, "locus", 1024, &[]).map_err(store.failed("locus"))?;
        Ok(Self {
            probability,
            locus,
            store,
            rows: windows,
            row_len: header.row_len(),
            written: 0,
            partial,
        })
    }

    /// Writes whole rows, flat and row-major [rows, targets, label_len], at `first_row`.
    pub fn write_rows(&mut self, first_row: usize, values: &[f32]) -> Result<(), Error> {
        if !values.len().is_multiple_of(self.row_len) {
            return Err(Error::WindowShape {
                path: self.store.path.clone(),
                array: "probability",
                found: values.len(),
                expected: values.len().next_multiple_of(self.row_len),
            });
        }
        let rows = first_row..first_row + values.len() / self.row_len;
        check_rows(&self.store, &rows, self.rows)?;
        self.written += rows.len();
        write_rows(&self.probability, rows, values).map_err(self.store.failed("probability"))
    }

    /// Writes the loci of all windows.
    pub fn write_loci(&mut self, loci: &[Locus]) -> Result<(), Error> {
        if loci.len() != self.rows {
            return Err(Error::WindowShape {
                path: self.store.path.clone(),
                array: "locus",
                found: loci.len(),
                expected: self.rows,
            });
        }
        write_rows(&self.locus, 0..loci.len(), loci).map_err(self.store.failed("locus"))
    }

    pub fn finish(self) -> Result<(), Error> {
        let (probability, locus) = (self.probability, self.locus);
        let loci = locus.shape()[0];
        for (what, written) in [("a probability", self.written), ("a locus", loci)] {
            if written < self.rows {
                let (path, rows) = (self.store.path, self.rows);
                return Err(Error::Unfinished {
                    path,
                    what,
                    written,
                    rows,
                });
            }
        }
        drop((probability, locus));
        commit_store(self.store, self.partial)
    }
}

/// A file of predictions whose header and shapes have been checked.
#[derive(Debug)]
pub struct PredictionFile {
    store: Store,
    header: PredictionHeader,
    probability: Dataset,
    locus: Dataset,
    rows: usize,
}

impl PredictionFile {
    pub fn open(path: impl AsRef<Path>) -> Result<Self, Error> {
        let store = Store::open(path.as_ref(), PREDICTIONS)?;
        let size = |name| store.number(&store.file, name).map(|size| size as usize);
        let length = size("length")?;
        let header = PredictionHeader {
            task: store.word("task")?,
            length,
            bin: store.bin(length)?,
            margin: size("margin")?,
            genome: store.text("genome")?,
            contigs: store.contigs()?,
            targets: store.strings("targets")?,
            model: store.text("model")?,
        };
        let rows = store.dataset("locus")?.size();
        let locus = store.shaped::<Locus>("locus", &[rows])?;
        let shape = [rows, header.targets.len(), header.label_len()];
        let probability = store.shaped::<f32>("probability", &shape)?;
        Ok(Self {
            store,
            header,
            probability,
            locus,
            rows,
        })
    }

    pub fn header(&self) -> &PredictionHeader {
        &self.header
    }

    pub fn len(&self) -> usize {
        self.rows
    }

    pub fn is_empty(&self) -> bool {
        self.rows == 0
    }

    pub fn loci(&self) -> Result<Vec<Locus>, Error> {
        self.locus.read_raw().map_err(self.store.failed("locus"))
    }

    /// The probabilities of whole rows, flat and row-major [rows, targets, label_len].
    pub fn read_rows(&self, rows: Range<usize>) -> Result<Vec<f32>, Error> {
        check_rows(&self.store, &rows, self.rows)?;
        read_rows(&self.probability, rows).map_err(self.store.failed("probability"))
    }
}

fn check_rows(store: &Store, rows: &Range<usize>, present: usize) -> Result<(), Error> {
    if rows.end <= present {
        return Ok(());
    }
    let (path, first, end) = (store.path.clone(), rows.start, rows.end);
    Err(Error::Rows {
        path,
        first,
        end,
        rows: present,
    })
}
