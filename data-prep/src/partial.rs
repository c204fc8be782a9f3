//! Output files that appear whole or not at all.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The temporary files that are there.
static UNFINISHED: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

fn unfinished() -> MutexGuard<'static, Vec<PathBuf>> {
    UNFINISHED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Removes them all, for a program that is about to end; none begins while what is returned is held.
pub fn remove_unfinished() -> impl Sized {
    let mut unfinished = unfinished();
    for path in unfinished.drain(..) {
        // As at a drop.
        let _ = fs::remove_file(path);
    }
    unfinished
}

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
        let target = replaced(target)?;
        let folder = folder(&target);
        if !folder.is_dir() {
            let message = format!(
                "the folder {} does not exist; create it first",
                folder.display()
            );
            return Err(io::Error::new(io::ErrorKind::NotFound, message));
        }
        let Some(name) = target.file_name() else {
            return Err(a_folder());
        };
        let name = format!(".{}.{}.partial", name.to_string_lossy(), std::process::id());
        let path = folder.join(name);
        let mut unfinished = unfinished();
        // Created at once, so that a folder without write permission is found before hours of work.
        File::create(&path)?;
        unfinished.push(path.clone());
        Ok(Self {
            path,
            target,
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

/// The folder that a file lies in.
pub(crate) fn folder(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// The file that the output replaces: where there is a link, what it leads to.
fn replaced(target: &Path) -> io::Result<PathBuf> {
    let wrong = |kind, text| Err(io::Error::new(kind, text));
    match fs::metadata(target) {
        Ok(found) if found.is_dir() => Err(a_folder()),
        Ok(found) if !found.is_file() => wrong(
            io::ErrorKind::InvalidInput,
            "this is a pipe or a device, which cannot be replaced; name a file",
        ),
        Ok(_) if target.is_symlink() => fs::canonicalize(target),
        Err(_) if target.is_symlink() => wrong(
            io::ErrorKind::NotFound,
            "this is a link to a file that is not there; remove the link",
        ),
        _ => Ok(target.to_owned()),
    }
}

fn a_folder() -> io::Error {
    io::Error::new(io::ErrorKind::IsADirectory, "this is a folder; name a file")
}

impl Drop for PartialFile {
    fn drop(&mut self) {
        unfinished().retain(|path| *path != self.path);
        if !self.committed {
            // Nothing can be done about a failure here, and the error that led here matters more.
            let _ = fs::remove_file(&self.path);
        }
    }
}
