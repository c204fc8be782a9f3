//! What a run leaves behind that is not a time, to be compared bit by bit.

use std::fs;

use anyhow::{Context, Result};
use serde_json::Value;
use tfbind_mpi::{
    checkpoint::{Checkpoint, Progress},
    resume::{BEST, LAST},
};

use crate::common::Run;

/// Keys of `metrics.jsonl` that are the same in every run of a plan.
const KEYS: [(&str, &[&str]); 2] = [
    ("step", &["step", "epoch", "loss", "lr"]),
    (
        "evaluation",
        &["step", "epoch", "loss", "valid", "best", "best_step"],
    ),
];

pub struct Outcome {
    log: Vec<String>,
    checkpoints: Vec<Saved>,
}

struct Saved {
    file: &'static str,
    /// Its time is 0.
    progress: Progress,
    /// Names, and values as bits.
    tensors: Vec<(String, Vec<u32>)>,
}

impl Outcome {
    pub fn read(folder: &Run, name: &str) -> Result<Self> {
        let mut checkpoints = Vec::new();
        for file in [LAST, BEST] {
            let checkpoint = Checkpoint::read(&folder.path(name).join(file))?;
            let bits = |values: Vec<f32>| values.into_iter().map(f32::to_bits).collect();
            let tensors = checkpoint.sorted_tensors().into_iter();
            let progress = Progress {
                training_seconds: 0.0,
                ..checkpoint.header.progress.clone()
            };
            let tensors = tensors.map(|(name, values)| (name, bits(values))).collect();
            checkpoints.push(Saved {
                file,
                progress,
                tensors,
            });
        }
        let mut log = Vec::new();
        for line in log_lines(folder, name)? {
            for (event, keys) in KEYS {
                if line["event"] == event {
                    let kept = keys.iter().map(|&key| format!(" {key} {}", line[key]));
                    log.push(format!("{event}{}", kept.collect::<String>()));
                }
            }
        }
        Ok(Self { log, checkpoints })
    }

    pub fn differences(&self, other: &Self) -> Vec<String> {
        let mut found = Vec::new();
        for (expected, now) in self.checkpoints.iter().zip(&other.checkpoints) {
            let file = expected.file;
            if expected.progress != now.progress {
                let (now, expected) = (&now.progress, &expected.progress);
                found.push(format!("{file}: {now:?} instead of {expected:?}"));
            }
            let pairs = expected.tensors.iter().zip(&now.tensors);
            let mut unequal = pairs.filter(|(a, b)| a != b);
            if let Some(((name, _), _)) = unequal.next() {
                let others = unequal.count();
                found.push(format!("{file}: tensor {name} and {others} others"));
            } else if expected.tensors.len() != now.tensors.len() {
                found.push(format!("{file}: another number of tensors"));
            }
        }
        let same = self.log.iter().zip(&other.log).take_while(|(a, b)| a == b);
        let first = same.count();
        if first < self.log.len().max(other.log.len()) {
            let line = |log: &[String]| log.get(first).cloned().unwrap_or("its end".into());
            let (now, expected) = (line(&other.log), line(&self.log));
            let number = first + 1;
            found.push(format!(
                "metrics.jsonl, line {number}: {now} instead of {expected}"
            ));
        }
        found
    }
}

pub fn log_lines(folder: &Run, name: &str) -> Result<Vec<Value>> {
    let path = folder.path(name).join("metrics.jsonl");
    let text = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
    text.lines()
        .map(|line| Ok(serde_json::from_str(line)?))
        .collect::<Result<_>>()
        .with_context(|| format!("{}: not JSON", path.display()))
}

/// The last step that the log names, 0 without one; a kill may have torn its last line.
pub fn logged_step(folder: &Run, name: &str) -> u64 {
    let text = fs::read_to_string(folder.path(name).join("metrics.jsonl")).unwrap_or_default();
    text.lines()
        .rev()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .find_map(|line| line["step"].as_u64())
        .unwrap_or(0)
}

/// The step of the last checkpoint, 0 without one; both checkpoints must be whole at any time.
pub fn saved_step(folder: &Run, name: &str) -> Result<u64> {
    let mut step = 0;
    for file in [BEST, LAST] {
        let path = folder.path(name).join(file);
        if path.exists() {
            step = Checkpoint::read(&path)?.header.progress.step;
        }
    }
    let last = folder.path(name).join(LAST).exists();
    Ok(if last { step } else { 0 })
}

/// Files that were being written and never got their name.
pub fn partial_files(folder: &Run, name: &str) -> Vec<String> {
    let entries = fs::read_dir(folder.path(name)).into_iter().flatten();
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    names.filter(|name| name.ends_with(".partial")).collect()
}
