//! What a preparation wrote, as it is told to the user.

use std::fmt;
use std::path::{Path, PathBuf};

use crate::error::Error;
use crate::schema::{Central, Counts, Task};

#[derive(Debug)]
pub struct Made {
    pub task: Task,
    pub splits: Vec<(String, Counts)>,
    pub notes: Vec<String>,
    pub path: PathBuf,
    pub bytes: u64,
}

impl Made {
    /// The file at `path` is finished.
    pub(crate) fn at(
        path: &Path,
        task: Task,
        splits: Vec<(String, Counts)>,
        notes: Vec<String>,
    ) -> Result<Self, Error> {
        let bytes = std::fs::metadata(path).map_err(Error::io(path))?.len();
        Ok(Self {
            task,
            splits,
            notes,
            path: path.to_owned(),
            bytes,
        })
    }

    /// Of windows around a hidden base: shares of the classes.
    fn classes(&self, f: &mut fmt::Formatter<'_>, central: Central) -> fmt::Result {
        write!(f, "{:<8} {:>13}", "split", "windows")?;
        central
            .class_names()
            .iter()
            .try_for_each(|class| write!(f, " {class:>8}"))?;
        writeln!(f)?;
        for (split, counts) in &self.splits {
            write!(f, "{split:<8} {:>13}", counts.windows)?;
            let labels = if central == Central::Base {
                &counts.bases[..]
            } else {
                &[counts.positives]
            };
            for &count in labels {
                let share = 100.0 * count as f64 / counts.windows as f64;
                write!(f, " {share:>7.2}%")?;
            }
            writeln!(f)?;
        }
        Ok(())
    }

    fn labels(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:<8} {:>10} {:>13} {:>9} {:>13} {:>13}",
            "split", "windows", "positives", "share", "masked", "missing"
        )?;
        for (split, counts) in &self.splits {
            let labels = counts.positives + counts.negatives + counts.masked;
            let share = format!(
                "{:.3}%",
                100.0 * counts.positives as f64 / labels.max(1) as f64
            );
            let Counts {
                windows,
                positives,
                masked,
                missing_bases,
                ..
            } = counts;
            writeln!(
                f,
                "{split:<8} {windows:>10} {positives:>13} {share:>9} {masked:>13} {missing_bases:>13}"
            )?;
        }
        for (split, _) in self
            .splits
            .iter()
            .filter(|(_, counts)| counts.positives == 0)
        {
            writeln!(f, "warning: the {split} split has no positives")?;
        }
        Ok(())
    }
}

impl fmt::Display for Made {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for note in &self.notes {
            writeln!(f, "note: {note}")?;
        }
        match self.task {
            Task::Central(central) => self.classes(f, central)?,
            _ => self.labels(f)?,
        }
        write!(
            f,
            "{} ({:.1} MB)",
            self.path.display(),
            self.bytes as f64 / 1e6
        )
    }
}
