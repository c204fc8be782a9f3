//! Outputs that would replace what is read, or one another.

use std::fs;
use std::path::{Path, PathBuf};

use crate::error::Error;
use crate::partial::folder;

/// Refuses an output that is also an input or another output, by whatever name.
pub fn check<'a>(
    outputs: &[&Path],
    inputs: impl IntoIterator<Item = &'a Path>,
) -> Result<(), Error> {
    let inputs = inputs.into_iter();
    let mut taken: Vec<_> = inputs.map(|path| (place(path), "an input")).collect();
    for output in outputs {
        let place = place(output);
        if let Some((_, what)) = taken.iter().find(|(other, _)| *other == place) {
            return Err(Error::Request(format!(
                "{}: the output is also {what}; name another file",
                output.display()
            )));
        }
        taken.push((place, "another output"));
    }
    Ok(())
}

/// Where a file lies, links followed; one that is not there yet is in its folder.
fn place(path: &Path) -> PathBuf {
    let beside = || Some(fs::canonicalize(folder(path)).ok()?.join(path.file_name()?));
    let there = fs::canonicalize(path).ok();
    there.or_else(beside).unwrap_or_else(|| path.to_owned())
}
