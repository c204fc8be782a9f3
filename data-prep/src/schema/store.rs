//! What the two kinds of file have in common: opening, attributes, strings, contigs.

use std::fs::File as PlainFile;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use hdf5::types::VarLenUnicode;
use hdf5::{Dataset, File, FileBuilder, Group, H5Type};

use super::{Contig, Error, VERSION};

const NEWEST: u64 = VERSION as u64;
const SIGNATURE: [u8; 8] = *b"\x89HDF\r\n\x1a\n";

/// An open file that knows its path, for errors.
#[derive(Debug, Clone)]
pub(super) struct Store {
    pub path: PathBuf,
    pub file: File,
}

/// The `schema` of a file: which of the two kinds it is.
pub fn schema_of(path: impl AsRef<Path>) -> Result<String, Error> {
    open_any(path.as_ref())?.1.ok_or(Error::NotOurs {
        path: path.as_ref().to_owned(),
    })
}

fn open_any(path: &Path) -> Result<(Store, Option<String>), Error> {
    let path = path.to_owned();
    let mut plain = match PlainFile::open(&path) {
        Ok(plain) => plain,
        Err(source) if source.kind() == io::ErrorKind::NotFound => {
            return Err(Error::Absent { path });
        }
        Err(source) => return Err(Error::Io { path, source }),
    };
    let mut signature = [0; 8];
    if plain.read_exact(&mut signature).is_err() || signature != SIGNATURE {
        let size = plain.metadata().map_or(0, |metadata| metadata.len());
        return Err(Error::NotHdf5 { path, size });
    }
    // Files appear whole and never change, so a lock guards nothing; some cluster file systems refuse it.
    let file = FileBuilder::new()
        .with_fapl(|access| access.file_locking(false))
        .open(&path)
        .map_err(|source| Error::Damaged {
            path: path.clone(),
            reason: source.to_string(),
        })?;
    let store = Store { path, file };
    let schema = match store.file.attr("schema") {
        Ok(_) => Some(store.text("schema")?),
        Err(_) => None,
    };
    Ok((store, schema))
}

impl Store {
    /// Opens a file of the given `schema`, of a version that is known.
    pub fn open(path: &Path, expected: &str) -> Result<Self, Error> {
        let (store, schema) = open_any(path)?;
        let path = || store.path.clone();
        match schema {
            None => return Err(Error::NotOurs { path: path() }),
            Some(found) if found != expected => {
                let expected = expected.to_owned();
                return Err(Error::WrongSchema {
                    path: path(),
                    found,
                    expected,
                });
            }
            Some(_) => {}
        }
        match store.number(&store.file, "schema_version")? {
            1..=NEWEST => Ok(store),
            found => Err(Error::Version {
                path: path(),
                found,
                expected: VERSION,
            }),
        }
    }

    pub fn failed(&self, item: &str) -> impl FnOnce(hdf5::Error) -> Error + use<> {
        let (path, item) = (self.path.clone(), item.to_owned());
        move |source| Error::Hdf5 { path, item, source }
    }

    fn bad_attribute(
        &self,
        name: &str,
        expected: &str,
    ) -> impl FnOnce(hdf5::Error) -> Error + use<> {
        let path = self.path.clone();
        let (attribute, expected) = (name.to_owned(), expected.to_owned());
        move |source| Error::Attribute {
            path,
            attribute,
            found: source.to_string(),
            expected,
        }
    }

    pub fn text(&self, name: &str) -> Result<String, Error> {
        self.file
            .attr(name)
            .and_then(|attr| attr.read_scalar::<VarLenUnicode>())
            .map(|text| text.as_str().to_owned())
            .map_err(self.bad_attribute(name, "a string"))
    }

    pub fn number(&self, group: &Group, name: &str) -> Result<u64, Error> {
        group
            .attr(name)
            .and_then(|attr| attr.read_scalar::<u64>())
            .map_err(self.bad_attribute(name, "a count"))
    }

    /// Of windows with one label, the central bases that it is of; older files do not say.
    pub fn bin(&self, length: usize) -> Result<Option<usize>, Error> {
        if self.file.attr("bin").is_err() {
            return Ok(None);
        }
        let bin = self.number(&self.file, "bin")?;
        if (1..=length as u64).contains(&bin) {
            return Ok(Some(bin as usize));
        }
        Err(Error::Attribute {
            path: self.path.clone(),
            attribute: "bin".to_owned(),
            found: bin.to_string(),
            expected: format!("1 to the length, {length}"),
        })
    }

    pub fn four(&self, group: &Group, name: &str) -> Result<[u64; 4], Error> {
        let values = group.attr(name).and_then(|attr| attr.read_raw::<u64>());
        let values = values.and_then(|values| {
            let four = values.try_into();
            four.map_err(|values: Vec<u64>| format!("{values:?}").into())
        });
        values.map_err(self.bad_attribute(name, "four counts"))
    }

    /// A string attribute that is one of a few words.
    pub fn word<T: std::str::FromStr<Err = String>>(&self, name: &str) -> Result<T, Error> {
        self.text(name)?
            .parse()
            .map_err(|expected| Error::Attribute {
                path: self.path.clone(),
                attribute: name.to_owned(),
                found: "unknown".to_owned(),
                expected,
            })
    }

    pub fn write_text(&self, name: &str, text: &str) -> Result<(), Error> {
        let write = || {
            let attr = self.file.new_attr::<VarLenUnicode>().create(name)?;
            attr.write_scalar(&var_len(text)?)
        };
        write().map_err(self.failed(&format!("attribute `{name}`")))
    }

    pub fn write_number(&self, group: &Group, name: &str, value: u64) -> Result<(), Error> {
        let write = || group.new_attr::<u64>().create(name)?.write_scalar(&value);
        write().map_err(self.failed(&format!("attribute `{name}`")))
    }

    pub fn dataset(&self, name: &str) -> Result<Dataset, Error> {
        self.file.dataset(name).map_err(|_| Error::MissingDataset {
            path: self.path.clone(),
            dataset: name.to_owned(),
        })
    }

    /// A dataset of element type `T` and the given shape.
    pub fn shaped<T: H5Type>(&self, name: &str, expected: &[usize]) -> Result<Dataset, Error> {
        let dataset = self.dataset(name)?;
        let found = dataset.shape();
        if found != expected {
            let expected = expected.to_owned();
            let (path, dataset) = (self.path.clone(), name.to_owned());
            return Err(Error::Shape {
                path,
                dataset,
                found,
                expected,
            });
        }
        let expected = T::type_descriptor().to_packed_repr();
        let found = dataset
            .dtype()
            .and_then(|dtype| dtype.to_descriptor())
            .map_err(self.failed(&format!("the type of `{name}`")))?;
        if found.to_packed_repr() != expected {
            return Err(Error::Type {
                path: self.path.clone(),
                dataset: name.to_owned(),
                found: found.to_string(),
                expected: expected.to_string(),
            });
        }
        Ok(dataset)
    }

    /// All values of a dataset of one axis.
    pub fn list<T: H5Type>(&self, name: &str) -> Result<Vec<T>, Error> {
        let values = self.dataset(name)?.size();
        let dataset = self.shaped::<T>(name, &[values])?;
        dataset.read_raw().map_err(self.failed(name))
    }

    pub fn strings(&self, name: &str) -> Result<Vec<String>, Error> {
        let strings = self
            .dataset(name)?
            .read_raw::<VarLenUnicode>()
            .map_err(self.failed(name))?;
        Ok(strings
            .iter()
            .map(|text| text.as_str().to_owned())
            .collect())
    }

    pub fn write_strings<S: AsRef<str>>(&self, name: &str, strings: &[S]) -> Result<(), Error> {
        let write = || {
            let texts: Result<Vec<_>, _> = strings.iter().map(|s| var_len(s.as_ref())).collect();
            let dataset = self
                .file
                .new_dataset::<VarLenUnicode>()
                .shape(strings.len())
                .create(name)?;
            if strings.is_empty() {
                Ok(())
            } else {
                dataset.write_raw(&texts?)
            }
        };
        write().map_err(self.failed(name))
    }

    pub fn contigs(&self) -> Result<Vec<Contig>, Error> {
        let names = self.strings("contigs/name")?;
        let sizes = self
            .shaped::<u64>("contigs/size", &[names.len()])?
            .read_raw::<u64>()
            .map_err(self.failed("contigs/size"))?;
        let contigs = names.into_iter().zip(sizes);
        Ok(contigs.map(|(name, size)| Contig { name, size }).collect())
    }

    pub fn write_contigs(&self, contigs: &[Contig]) -> Result<(), Error> {
        self.file
            .create_group("contigs")
            .map_err(self.failed("contigs"))?;
        let names: Vec<_> = contigs.iter().map(|contig| &contig.name).collect();
        self.write_strings("contigs/name", &names)?;
        let sizes: Vec<_> = contigs.iter().map(|contig| contig.size).collect();
        let write = || {
            let dataset = self
                .file
                .new_dataset::<u64>()
                .shape(sizes.len())
                .create("contigs/size")?;
            dataset.write_raw(&sizes)
        };
        write().map_err(self.failed("contigs/size"))
    }
}

fn var_len(text: &str) -> hdf5::Result<VarLenUnicode> {
    text.parse()
        .map_err(|error| hdf5::Error::from(format!("{error}")))
}
