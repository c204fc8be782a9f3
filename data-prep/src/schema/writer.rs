use std::collections::BTreeMap;
use std::path::Path;

use half::f16;
use hdf5::{Dataset, File, Group};

use super::rows::{growing, write_rows};
use super::store::Store;
use super::{Counts, Error, Header, Locus, MASKED, Task, WINDOWS, Window};
use crate::partial::PartialFile;

/// Loci are small: so many are collected before they are written.
const LOCI_PER_CHUNK: usize = 1024;
/// A label chunk is one window, or as many as fill so many bytes where a window has few labels.
const LABEL_CHUNK_BYTES: usize = 512;

/// Writes a data file beside its target; it appears when [`finish`](Self::finish)ed.
#[derive(Debug)]
pub struct DataWriter {
    // Before `partial`, so that HDF5 closes the file before it is removed.
    splits: BTreeMap<String, SplitWriter>,
    store: Store,
    header: Header,
    masked_labels: bool,
    partial: PartialFile,
}

impl DataWriter {
    /// `masked_labels`: whether labels may be -1; where not, they are stored as bits.
    pub fn create(
        path: impl AsRef<Path>,
        header: &Header,
        masked_labels: bool,
    ) -> Result<Self, Error> {
        if let Task::Central(_) = header.task {
            panic!(
                "windows of the task {} are written as one sequence",
                header.task
            );
        }
        let (partial, store) = create_data_file(path.as_ref(), header)?;
        Ok(Self {
            splits: BTreeMap::new(),
            store,
            header: header.clone(),
            masked_labels,
            partial,
        })
    }

    /// The central bases of a window that its one label is of, if not all.
    pub fn set_bin(&self, bin: usize) -> Result<(), Error> {
        self.store.write_number(&self.store.file, "bin", bin as u64)
    }

    pub fn push(&mut self, split: &str, window: &Window) -> Result<(), Error> {
        self.check_shape(window)?;
        if !self.masked_labels && window.label.contains(&MASKED) {
            let (path, split) = (self.store.path.clone(), split.to_owned());
            return Err(Error::MaskedLabel { path, split });
        }
        let failed = self.store.failed(&format!("split `{split}`"));
        self.writer(split)?.push(window).map_err(failed)
    }

    /// Adds to the split's count of bases that a track did not cover.
    pub fn add_missing(&mut self, split: &str, bases: u64) -> Result<(), Error> {
        self.writer(split)?.counts.missing_bases += bases;
        Ok(())
    }

    pub fn counts(&self, split: &str) -> Counts {
        self.splits
            .get(split)
            .map_or(Counts::default(), |split| split.counts)
    }

    /// Completes the file and gives it its name.
    pub fn finish(mut self) -> Result<(), Error> {
        for (name, split) in &mut self.splits {
            split
                .flush_loci()
                .map_err(self.store.failed(&format!("{name}/locus")))?;
            self.store.write_counts(&split.group, split.counts)?;
        }
        drop(self.splits);
        commit_store(self.store, self.partial)
    }

    fn check_shape(&self, window: &Window) -> Result<(), Error> {
        let header = &self.header;
        for (array, found, expected) in [
            ("seq", window.seq.len(), header.width()),
            (
                "signal",
                window.signal.len(),
                header.tracks.len() * header.width(),
            ),
            (
                "label",
                window.label.len(),
                header.targets.len() * header.label_len(),
            ),
        ] {
            if found != expected {
                let path = self.store.path.clone();
                return Err(Error::WindowShape {
                    path,
                    array,
                    found,
                    expected,
                });
            }
        }
        Ok(())
    }

    fn writer(&mut self, split: &str) -> Result<&mut SplitWriter, Error> {
        if !self.splits.contains_key(split) {
            let writer =
                SplitWriter::create(&self.store.file, split, &self.header, self.masked_labels)
                    .map_err(self.store.failed(&format!("split `{split}`")))?;
            self.splits.insert(split.to_owned(), writer);
        }
        Ok(self.splits.get_mut(split).expect("inserted above"))
    }
}

#[derive(Debug)]
struct SplitWriter {
    group: Group,
    seq: Dataset,
    signal: Option<Dataset>,
    label: Dataset,
    locus: Dataset,
    packed: bool,
    label_len: usize,
    pending: Vec<Locus>,
    counts: Counts,
}

impl SplitWriter {
    fn create(file: &File, name: &str, header: &Header, masked: bool) -> hdf5::Result<Self> {
        let group = file.create_group(name)?;
        let (width, label_len) = (header.width(), header.label_len());
        let (tracks, targets) = (header.tracks.len(), header.targets.len());
        let bytes = if masked {
            label_len
        } else {
            label_len.div_ceil(8)
        };
        let rows = (LABEL_CHUNK_BYTES / (targets * bytes)).max(1);
        let label = if masked {
            growing::<i8>(&group, "label", rows, &[targets, bytes])?
        } else {
            let label = growing::<u8>(&group, "label", rows, &[targets, bytes])?;
            label
                .new_attr::<u8>()
                .create("packed")?
                .write_scalar(&1u8)?;
            label
        };
        let signal = match tracks {
            0 => None,
            _ => Some(growing::<f16>(&group, "signal", 1, &[tracks, width])?),
        };
        Ok(Self {
            seq: growing::<u8>(&group, "seq", 1, &[width])?,
            signal,
            label,
            locus: growing::<Locus>(&group, "locus", LOCI_PER_CHUNK, &[])?,
            group,
            packed: !masked,
            label_len,
            pending: Vec::with_capacity(LOCI_PER_CHUNK),
            counts: Counts::default(),
        })
    }

    fn push(&mut self, window: &Window) -> hdf5::Result<()> {
        let row = self.counts.windows as usize;
        let rows = row..row + 1;
        for &label in &window.label {
            match label {
                1 => self.counts.positives += 1,
                0 => self.counts.negatives += 1,
                MASKED => self.counts.masked += 1,
                other => panic!("a window with the label {other}, which is not 0, 1 or -1"),
            }
        }
        write_rows(&self.seq, rows.clone(), &window.seq)?;
        if let Some(signal) = &self.signal {
            write_rows(signal, rows.clone(), &window.signal)?;
        }
        if self.packed {
            write_rows(&self.label, rows, &pack(&window.label, self.label_len))?;
        } else {
            write_rows(&self.label, rows, &window.label)?;
        }
        self.pending.push(window.locus);
        if self.pending.len() == LOCI_PER_CHUNK {
            self.flush_loci()?;
        }
        self.counts.windows += 1;
        Ok(())
    }

    fn flush_loci(&mut self) -> hdf5::Result<()> {
        let first = self.locus.shape()[0];
        write_rows(
            &self.locus,
            first..first + self.pending.len(),
            &self.pending,
        )?;
        self.pending.clear();
        Ok(())
    }
}

/// Bit 0 of a byte is its first label; each target starts a new byte.
fn pack(labels: &[i8], label_len: usize) -> Vec<u8> {
    let byte = |labels: &[i8]| {
        let bits = labels.iter().enumerate();
        bits.fold(0u8, |byte, (bit, &label)| byte | (label as u8) << bit)
    };
    labels
        .chunks(label_len)
        .flat_map(|target| target.chunks(8).map(byte))
        .collect()
}

impl Store {
    pub(super) fn write_version(&self, task: Task) -> Result<(), Error> {
        let write = || {
            let attr = self.file.new_attr::<u32>().create("schema_version")?;
            attr.write_scalar(&task.version())
        };
        write().map_err(self.failed("attribute `schema_version`"))
    }

    pub(super) fn write_counts(&self, group: &Group, counts: Counts) -> Result<(), Error> {
        for (what, value) in [
            ("windows", counts.windows),
            ("positives", counts.positives),
            ("negatives", counts.negatives),
            ("masked", counts.masked),
            ("missing_bases", counts.missing_bases),
        ] {
            self.write_number(group, what, value)?;
        }
        Ok(())
    }
}

/// A data file with all that holds for every window.
pub(super) fn create_data_file(
    target: &Path,
    header: &Header,
) -> Result<(PartialFile, Store), Error> {
    let (partial, store) = create_store(target)?;
    store.write_text("schema", WINDOWS)?;
    store.write_version(header.task)?;
    store.write_text("task", header.task.as_str())?;
    store.write_number(&store.file, "length", header.length as u64)?;
    store.write_number(&store.file, "margin", header.margin as u64)?;
    store.write_text("genome", &header.genome)?;
    store.write_text("normalise", &header.normalise)?;
    store.write_text("missing", &header.missing)?;
    store.write_text("recipe", &header.recipe)?;
    store.write_text("recipe_hash", &header.recipe_hash)?;
    store.write_contigs(&header.contigs)?;
    store.write_strings("tracks", &header.tracks)?;
    store.write_strings("targets", &header.targets)?;
    store.write_strings("groups", &header.groups)?;
    Ok((partial, store))
}

pub(super) fn create_store(target: &Path) -> Result<(PartialFile, Store), Error> {
    let path = target.to_owned();
    let partial = PartialFile::beside(target).map_err(|source| Error::Io {
        path: path.clone(),
        source,
    })?;
    let file = File::create(partial.path()).map_err(|source| Error::Hdf5 {
        path: path.clone(),
        item: "creating the file".to_owned(),
        source,
    })?;
    Ok((partial, Store { path, file }))
}

pub(super) fn commit_store(store: Store, partial: PartialFile) -> Result<(), Error> {
    let failed = store.failed("closing the file");
    let path = store.path;
    store.file.flush().map_err(failed)?;
    drop(store.file);
    partial
        .commit()
        .map_err(|source| Error::Io { path, source })
}
