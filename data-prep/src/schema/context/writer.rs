use std::path::Path;

use hdf5::{Dataset, Group};

use super::{Index, Stretch};
use crate::partial::PartialFile;
use crate::schema::rows::{growing, write_rows};
use crate::schema::store::Store;
use crate::schema::writer::{commit_store, create_data_file};
use crate::schema::{Central, Counts, Error, Header, SOFT_MASKED, Task};

/// Bases of sequence in a chunk.
const CHUNK: usize = 1 << 18;

/// Writes a file of windows around hidden bases beside its target; it appears when [`finish`](Self::finish)ed.
#[derive(Debug)]
pub struct ContextWriter {
    // Before `partial`, so that HDF5 closes the file before it is removed.
    splits: Vec<Split>,
    store: Store,
    central: Central,
    flank: usize,
    partial: PartialFile,
}

#[derive(Debug)]
struct Split {
    name: String,
    group: Group,
    seq: Dataset,
    index: Index,
    /// Bases that were written, and rows whose centre is among them.
    written: u64,
    counted: u64,
    counts: Counts,
}

impl ContextWriter {
    pub fn create(path: impl AsRef<Path>, header: &Header) -> Result<Self, Error> {
        let Task::Central(central) = header.task else {
            panic!("windows of the task {} are written whole", header.task);
        };
        let (partial, store) = create_data_file(path.as_ref(), header)?;
        Ok(Self {
            splits: Vec::new(),
            store,
            central,
            flank: header.length / 2,
            partial,
        })
    }

    /// A split of all windows of the stretches, or of those that `sample` names, in rising order.
    pub fn add_split(
        &mut self,
        name: &str,
        stretches: Vec<Stretch>,
        sample: Option<Vec<u32>>,
    ) -> Result<(), Error> {
        let create = || {
            let group = self.store.file.create_group(name)?;
            let dataset = growing::<Stretch>(&group, "stretch", 1024, &[])?;
            write_rows(&dataset, 0..stretches.len(), &stretches)?;
            if let Some(sample) = &sample {
                let dataset = growing::<u32>(&group, "sample", 1 << 16, &[])?;
                write_rows(&dataset, 0..sample.len(), sample)?;
            }
            let seq = growing::<u8>(&group, "seq", CHUNK, &[])?;
            Ok((group, seq))
        };
        let (group, seq) = create().map_err(self.store.failed(&format!("split `{name}`")))?;
        self.splits.push(Split {
            name: name.to_owned(),
            group,
            seq,
            index: Index::new(self.flank, stretches, sample),
            written: 0,
            counted: 0,
            counts: Counts::default(),
        });
        Ok(())
    }

    /// The next bases of a split's stretches.
    pub fn append(&mut self, split: &str, codes: &[u8]) -> Result<(), Error> {
        let failed = self.store.failed(&format!("{split}/seq"));
        let added = self.splits.iter_mut().find(|known| known.name == split);
        let split = added.expect("a split that was added");
        split.append(self.central, codes).map_err(failed)
    }

    pub fn counts(&self) -> Vec<(String, Counts)> {
        let counts = |split: &Split| (split.name.clone(), split.counts);
        self.splits.iter().map(counts).collect()
    }

    /// Completes the file and gives it its name.
    pub fn finish(self) -> Result<(), Error> {
        for split in &self.splits {
            assert_eq!(split.counted, split.index.rows(), "bases are missing");
            self.store.write_counts(&split.group, split.counts)?;
            if self.central == Central::Base {
                let write = || {
                    let attr = split.group.new_attr::<u64>().shape(4).create("bases")?;
                    attr.write_raw(&split.counts.bases)
                };
                let item = format!("{}, attribute `bases`", split.name);
                write().map_err(self.store.failed(&item))?;
            }
        }
        drop(self.splits);
        commit_store(self.store, self.partial)
    }
}

impl Split {
    fn append(&mut self, central: Central, codes: &[u8]) -> hdf5::Result<()> {
        let (first, end) = (self.written, self.written + codes.len() as u64);
        write_rows(&self.seq, first as usize..end as usize, codes)?;
        self.written = end;
        while self.counted < self.index.rows() {
            let centre = self.index.place(self.counted as usize).1 + self.index.flank;
            if centre >= end {
                break;
            }
            let base = codes[(centre - first) as usize] & !SOFT_MASKED;
            match central {
                Central::Base => self.counts.bases[usize::from(base)] += 1,
                _ if central.label(base) == 1 => self.counts.positives += 1,
                _ => self.counts.negatives += 1,
            }
            self.counted += 1;
        }
        self.counts.windows = self.counted;
        Ok(())
    }
}
