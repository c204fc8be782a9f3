use std::path::Path;

use super::store::Store;
use super::{Error, Header, Split, WINDOWS};

/// The order in which splits are listed; others follow by name.
const USUAL_SPLITS: [&str; 4] = ["train", "valid", "test", "predict"];

/// A data file whose header and shapes have been checked.
#[derive(Debug)]
pub struct DataFile {
    store: Store,
    header: Header,
    bin: Option<usize>,
    splits: Vec<Split>,
}

impl DataFile {
    pub fn open(path: impl AsRef<Path>) -> Result<Self, Error> {
        let store = Store::open(path.as_ref(), WINDOWS)?;
        let header = read_header(&store)?;
        let bin = store.bin(header.length)?;
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
            bin,
            splits,
        })
    }

    pub fn header(&self) -> &Header {
        &self.header
    }

    /// Of windows with one label, the central bases that it is of; none where it is of all, or a file does not say.
    pub fn bin(&self) -> Option<usize> {
        self.bin
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
    let targets = store.strings("targets")?;
    // Older files have none.
    let groups = match store.file.link_exists("groups") {
        true => store.strings("groups")?,
        false => vec![String::new(); targets.len()],
    };
    if groups.len() != targets.len() {
        return Err(Error::Shape {
            path: store.path.clone(),
            dataset: "groups".to_owned(),
            found: vec![groups.len()],
            expected: vec![targets.len()],
        });
    }
    Ok(Header {
        task: store.word("task")?,
        length: size("length")?,
        margin: size("margin")?,
        genome: store.text("genome")?,
        contigs: store.contigs()?,
        tracks: store.strings("tracks")?,
        targets,
        groups,
        normalise: store.text("normalise")?,
        missing: store.text("missing")?,
        recipe: store.text("recipe")?,
        recipe_hash: store.text("recipe_hash")?,
    })
}
