//! The peak files of every target: named one by one, in a table, in a folder.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::MakeOptions;
use crate::error::{Error, plural};
use crate::named::{NamedFile, stem};
use crate::text::Lines;

/// What is labelled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    pub name: String,
    pub group: String,
    pub paths: Vec<PathBuf>,
}

/// The targets, in the order in which they were first named.
#[derive(Default)]
pub struct Targets {
    pub all: Vec<Target>,
    /// Files of the folder that hold no peaks by their name.
    others: u64,
    /// Folders in a group's folder.
    deeper: u64,
}

impl Targets {
    pub fn of(options: &MakeOptions) -> Result<Self, Error> {
        let mut targets = Self::default();
        for NamedFile { name, path, .. } in &options.peaks {
            targets.add(name.clone(), None, path.clone())?;
        }
        if let Some(list) = &options.peaks_list {
            targets.read_list(list)?;
        }
        if let Some(folder) = &options.peaks_dir {
            let before = targets.all.len();
            targets.read_folder(folder, None)?;
            if targets.all.len() == before {
                return Err(Error::Request(format!(
                    "--peaks-dir {}: no BED or narrowPeak file of a target is there",
                    folder.display()
                )));
            }
        }
        Ok(targets)
    }

    /// What of the folder was not read.
    pub fn left_out(&self) -> Vec<String> {
        let some = |count, what| (count > 0).then(|| plural(count, what));
        let files = some(self.others, "file")
            .map(|files| format!("left out {files} of --peaks-dir, neither BED nor narrowPeak"));
        let folders = some(self.deeper, "folder").map(|folders| {
            format!("did not look into {folders} in a group's folder of --peaks-dir")
        });
        files.into_iter().chain(folders).collect()
    }

    /// Targets of a group; of any if it is empty.
    pub fn of_group(&self, group: &str) -> Result<Vec<usize>, Error> {
        let all = self.all.iter().enumerate();
        let of_group: Vec<_> = all
            .filter(|(_, target)| group.is_empty() || target.group == group)
            .map(|(index, _)| index)
            .collect();
        if of_group.is_empty() {
            let mut groups: Vec<_> = self
                .all
                .iter()
                .map(|target| target.group.as_str())
                .collect();
            groups.sort_unstable();
            groups.dedup();
            return Err(Error::Request(format!(
                "--only-positive {group}: no target is of that group; there are `{}`",
                groups.join("`, `")
            )));
        }
        Ok(of_group)
    }

    fn add(&mut self, name: String, group: Option<String>, path: PathBuf) -> Result<(), Error> {
        let group = group.unwrap_or_default();
        match self.all.iter_mut().find(|target| target.name == name) {
            Some(target) if target.group != group => Err(Error::Request(format!(
                "the target {name} is of the group `{}` and, with {}, of `{group}`",
                target.group,
                path.display()
            ))),
            Some(target) => {
                target.paths.push(path);
                Ok(())
            }
            None => {
                let paths = vec![path];
                self.all.push(Target { name, group, paths });
                Ok(())
            }
        }
    }

    fn read_list(&mut self, list: &Path) -> Result<(), Error> {
        let mut lines = Lines::open(list)?;
        let before = self.all.len();
        while let Some((line, text)) = lines.next_line()? {
            let fields: Vec<_> = text.split('\t').map(str::trim).collect();
            let (name, file, group) = match fields[..] {
                [name] if name.is_empty() || name.starts_with('#') => continue,
                [name, ..] if name.starts_with('#') => continue,
                ["name", "file"] | ["name", "file", "group"] => continue,
                [name, file] => (name, file, None),
                [name, file, group] => (name, file, Some(group)),
                _ => ("", "", None),
            };
            if name.is_empty() || file.is_empty() {
                return Err(Error::Line {
                    path: list.to_owned(),
                    line,
                    problem: format!(
                        "{} columns, expected a name, a file and perhaps a group, between tabs",
                        fields.len()
                    ),
                });
            }
            let path = list.parent().unwrap_or(Path::new("")).join(file);
            self.add(name.to_owned(), group.map(str::to_owned), path)?;
        }
        if self.all.len() == before {
            return Err(Error::Empty {
                path: list.to_owned(),
                what: "peak files of targets",
            });
        }
        Ok(())
    }

    fn read_folder(&mut self, folder: &Path, group: Option<&str>) -> Result<(), Error> {
        let failed = |source: io::Error| {
            Error::Request(format!("--peaks-dir {}: {source}", folder.display()))
        };
        let entries = fs::read_dir(folder).map_err(failed)?;
        let paths = entries.map(|entry| entry.map(|entry| entry.path()));
        let mut paths: Vec<_> = paths.collect::<Result<_, _>>().map_err(failed)?;
        paths.sort();
        for path in paths {
            let name = path
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            if name.starts_with('.') {
                continue;
            }
            match group {
                None if path.is_dir() => self.read_folder(&path, Some(&name))?,
                _ if path.is_file() && holds_peaks(&path) => {
                    self.add(stem(&path), group.map(str::to_owned), path)?;
                }
                _ if path.is_dir() => self.deeper += 1,
                _ => self.others += 1,
            }
        }
        Ok(())
    }
}

fn holds_peaks(path: &Path) -> bool {
    let plain = match path.extension() {
        Some(extension) if extension == "gz" => path.with_extension(""),
        _ => path.to_owned(),
    };
    let extension = plain.extension().and_then(OsStr::to_str);
    matches!(extension, Some("bed" | "narrowPeak" | "broadPeak"))
}
