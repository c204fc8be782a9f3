use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::{Serialize, Serializer};

/// `NAME=FILE`, or a file that names itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedFile {
    pub name: String,
    pub path: PathBuf,
    /// Whether the name was typed, and is not the file's own.
    pub typed: bool,
}

const EXTENSIONS: [&str; 8] = [
    "gz",
    "bed",
    "narrowPeak",
    "broadPeak",
    "bw",
    "bigWig",
    "bigwig",
    "txt",
];

impl FromStr for NamedFile {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let named = text.split_once('=').filter(|(name, _)| !name.contains('/'));
        let (name, path) = match named {
            Some((name, path)) => (name.to_owned(), PathBuf::from(path)),
            None => (stem(Path::new(text)), PathBuf::from(text)),
        };
        let typed = named.is_some();
        if name.is_empty() || path.as_os_str().is_empty() {
            return Err(format!("`{text}` is neither NAME=FILE nor FILE"));
        }
        Ok(Self { name, path, typed })
    }
}

/// What a file calls itself: its name without the extensions of its format.
pub fn stem(path: &Path) -> String {
    let file = path.file_name().unwrap_or_default().to_string_lossy();
    let mut name = file.as_ref();
    while let Some((stem, extension)) = name.rsplit_once('.')
        && EXTENSIONS.contains(&extension)
    {
        name = stem;
    }
    name.to_owned()
}

impl fmt::Display for NamedFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.name, self.path.display())
    }
}

impl Serialize for NamedFile {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_names_itself_unless_named() {
        let name = |text: &str| text.parse::<NamedFile>().unwrap().name;
        assert_eq!(name("CTCF=a/b.bed"), "CTCF");
        assert_eq!(name("a/b/HeLa.CTCF.narrowPeak.gz"), "HeLa.CTCF");
        assert_eq!(name("run=1/dnase.bigWig"), "run");
        assert_eq!(name("./run=1/dnase.bigWig"), "dnase");
        assert!("=a.bed".parse::<NamedFile>().is_err());
    }
}
