//! Output files that appear whole or not at all.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

/// A file written beside its target and renamed onto it by [`commit`](Self::commit).
///
/// Dropped before that, it is removed, and whatever stood at the target is untouched.
#[derive(Debug)]
pub struct PartialFile {
    path: PathBuf,
    target: PathBuf,
    committed: bool,
}

impl PartialFile {
    /// Reserves the temporary name; the folder has to exist.
    pub fn beside(target: &Path) -> io::Result<Self> {
        let folder = match target.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        if !folder.is_dir() {
            let message = format!(
                "the folder {} does not exist; create it first",
                folder.display()
            );
            return Err(io::Error::new(io::ErrorKind::NotFound, message));
        }
        let Some(name) = target.file_name().filter(|_| !target.is_dir()) else {
            return Err(io::Error::new(
                io::ErrorKind::IsADirectory,
                "this is a folder; name a file",
            ));
        };
        let name = format!(".{}.{}.partial", name.to_string_lossy(), std::process::id());
        let path = folder.join(name);
        // Created at once, so that a folder without write permission is found before hours of work.
        File::create(&path)?;
        Ok(Self {
            path,
            target: target.to_owned(),
            committed: false,
        })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn target(&self) -> &Path {
        &self.target
    }

    /// Makes the finished file durable and gives it its name; every handle on it must be closed.
    pub fn commit(mut self) -> io::Result<()> {
        File::open(&self.path)?.sync_all()?;
        fs::rename(&self.path, &self.target)?;
        self.committed = true;
        Ok(())
    }
}

impl Drop for PartialFile {
    fn drop(&mut self) {
        if !self.committed {
            // Nothing can be done about a failure here, and the error that led here matters more.
            let _ = fs::remove_file(&self.path);
        }
    }
}
