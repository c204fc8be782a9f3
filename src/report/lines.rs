//! `metrics.jsonl` read back.

use std::{fs, io::ErrorKind, path::Path};

use anyhow::{Context, Result};
use serde_json::Value;

use crate::checkpoint::{Progress, write_atomically};

/// In a run folder: a line for each step and each evaluation.
pub const LOG: &str = "metrics.jsonl";

/// The lines of a run's metrics.jsonl.
pub fn logged(run: &Path) -> Result<Vec<Value>> {
    let path = run.join(LOG);
    let text = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
    // A killed run may leave half a line at the end.
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    let lines = whole.lines().map(serde_json::from_str);
    let lines = lines.collect::<Result<_, _>>();
    lines.with_context(|| format!("{}: not JSON lines", path.display()))
}

/// Forgets what a killed run logged after its last checkpoint, and an evaluation that is to be done again.
pub fn cut_after(path: &Path, progress: &Progress) -> Result<()> {
    let Some(text) = read_if_there(path)? else {
        return Ok(());
    };
    let known = |line: &&str| {
        serde_json::from_str::<Value>(line).is_ok_and(|of| {
            let again = progress.due && of["event"] == "evaluation";
            of["step"].as_u64() < Some(progress.step + u64::from(!again))
        })
    };
    let kept: String = text
        .lines()
        .filter(known)
        .flat_map(|line| [line, "\n"])
        .collect();
    write_atomically(path, kept.as_bytes())
}

/// The text of a file, where there is one.
pub fn read_if_there(path: &Path) -> Result<Option<String>> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(err) if err.kind() == ErrorKind::NotFound => Ok(None),
        Err(err) => Err(err).with_context(|| format!("reading {}", path.display())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_missing_is_not_there() {
        let folder = tempfile::tempdir().unwrap();
        let text = read_if_there(&folder.path().join("none")).unwrap();
        assert_eq!(text, None);
        let error = read_if_there(folder.path()).unwrap_err().to_string();
        assert!(error.starts_with("reading "), "{error}");
    }
}
