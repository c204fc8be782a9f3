//! Who trains what, in the sweep's folder, which every group sees. A group that is free claims the next trial by a file
//! that can be made only once; claims are those of one job, results stay.
//!
//! MPI moves messages only where both sides call it, and a group that trains does not: with files nobody has to answer.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    fs::{self, File},
    io::ErrorKind,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::study::Study;
use crate::{
    checkpoint::{Progress, write_atomically},
    resume, stop,
};

const CLAIMS: &str = "claims";
const RESULTS: &str = "results";
const LOCK: &str = "lock";
/// Among the claims: a group was asked to stop.
const STOP: &str = "stop";
/// Between two looks for that.
const LOOK: Duration = Duration::from_secs(1);

/// A trial, as far as one rung.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Task {
    pub rung: usize,
    pub trial: usize,
}

impl fmt::Display for Task {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{}.rung-{}", Study::name(self.trial), self.rung)
    }
}

/// How it ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    pub progress: Progress,
    /// Why it cannot go on.
    pub failed: Option<String>,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub enum Next {
    Train(Task),
    /// Others have to end a rung first.
    Wait,
    Done,
}

pub struct Ledger {
    run: PathBuf,
    /// Known so far; what is written is never changed.
    pub outcomes: BTreeMap<Task, Outcome>,
    claimed: BTreeSet<Task>,
}

/// Empties the claims of jobs that are gone. The sweep is this job's until the file that is returned is closed.
pub fn take_over(run: &Path) -> Result<File> {
    let lock = resume::lock(run, LOCK)?;
    let claims = run.join(CLAIMS);
    match fs::remove_dir_all(&claims) {
        Err(err) if err.kind() != ErrorKind::NotFound => {
            return Err(err).with_context(|| format!("removing {}", claims.display()));
        }
        _ => {}
    }
    for folder in [claims, run.join(RESULTS)] {
        fs::create_dir_all(&folder)
            .with_context(|| format!("creating the folder {}", folder.display()))?;
    }
    resume::remove_partial(&run.join(RESULTS))?;
    Ok(lock)
}

impl Ledger {
    pub fn new(run: &Path) -> Self {
        Self {
            run: run.to_path_buf(),
            outcomes: BTreeMap::new(),
            claimed: BTreeSet::new(),
        }
    }

    /// The first trial that is nobody's, of the first rung that has not ended.
    pub fn next(&mut self, study: &Study) -> Result<Next> {
        self.read(study)?;
        for rung in 0..study.rungs.len() {
            let mut ended = true;
            for trial in study.entrants(rung, &self.outcomes) {
                let task = Task { rung, trial };
                if self.outcomes.contains_key(&task) {
                    continue;
                }
                ended = false;
                if self.claim(task)? {
                    return Ok(Next::Train(task));
                }
            }
            if !ended {
                let last = rung == study.last_rung();
                return Ok(if last { Next::Done } else { Next::Wait });
            }
        }
        Ok(Next::Done)
    }

    /// Reads what other groups have written meanwhile.
    pub fn read(&mut self, study: &Study) -> Result<()> {
        for rung in 0..study.rungs.len() {
            for trial in 0..study.trials.len() {
                let task = Task { rung, trial };
                if !self.outcomes.contains_key(&task) {
                    self.read_one(task)?;
                }
            }
        }
        Ok(())
    }

    pub fn record(&mut self, task: Task, outcome: Outcome) -> Result<()> {
        let path = self.result(task);
        let text = serde_json::to_string_pretty(&outcome)? + "\n";
        write_atomically(&path, text.as_bytes())?;
        self.outcomes.insert(task, outcome);
        Ok(())
    }

    fn result(&self, task: Task) -> PathBuf {
        self.run.join(RESULTS).join(format!("{task}.json"))
    }

    fn read_one(&mut self, task: Task) -> Result<()> {
        let path = self.result(task);
        let text = match fs::read_to_string(&path) {
            Err(err) if err.kind() == ErrorKind::NotFound => return Ok(()),
            text => text.with_context(|| format!("reading {}", path.display()))?,
        };
        let outcome = serde_json::from_str(&text);
        let outcome = outcome.with_context(|| format!("{}: no result", path.display()))?;
        self.outcomes.insert(task, outcome);
        Ok(())
    }

    fn claim(&mut self, task: Task) -> Result<bool> {
        // Whoever has it keeps it until the job ends.
        if !self.claimed.insert(task) {
            return Ok(false);
        }
        let path = self.run.join(CLAIMS).join(task.to_string());
        match File::create_new(&path) {
            Ok(_) => Ok(true),
            Err(err) if err.kind() == ErrorKind::AlreadyExists => Ok(false),
            Err(err) => Err(err).with_context(|| format!("writing {}", path.display())),
        }
    }

    /// A signal to any rank stops all groups: one that came here is told to the others, and where this rank `looks`
    /// theirs is heard here.
    pub fn pass_on_signals(&self, looks: bool) -> Result<()> {
        let path = self.run.join(CLAIMS).join(STOP);
        let tell = move || {
            loop {
                thread::sleep(LOOK);
                if stop::requested() {
                    if let Err(err) = File::create(&path) {
                        eprintln!(
                            "the other groups are not told to stop: {}: {err}",
                            path.display()
                        );
                    }
                    return;
                }
                if looks && path.exists() {
                    stop::request();
                }
            }
        };
        let thread = thread::Builder::new().name("stop".into()).spawn(tell);
        thread.context("starting the thread that passes on signals")?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sweep::study::{
        Rung,
        tests::{outcome, study},
    };

    fn rung(trials: usize, epochs: Option<u64>) -> Rung {
        Rung { trials, epochs }
    }

    #[test]
    fn each_trial_is_dealt_once_and_again_to_the_next_job_if_it_did_not_end() {
        let folder = tempfile::tempdir().unwrap();
        let run = &folder.path().join("made");
        let study = study(run.into(), 3, vec![rung(3, None)]);
        let task = |trial| Task { rung: 0, trial };
        let lock = take_over(run).unwrap();
        let (mut one, mut other) = (Ledger::new(run), Ledger::new(run));
        assert_eq!(one.next(&study).unwrap(), Next::Train(task(0)));
        assert_eq!(other.next(&study).unwrap(), Next::Train(task(1)));
        one.record(task(0), outcome(Some(0.5))).unwrap();
        assert_eq!(one.next(&study).unwrap(), Next::Train(task(2)));
        assert_eq!(other.next(&study).unwrap(), Next::Done);
        let err = take_over(run).unwrap_err().to_string();
        assert!(err.contains("another job is at work"), "{err}");

        drop(lock);
        let _lock = take_over(run).unwrap();
        let mut next = Ledger::new(run);
        assert_eq!(next.next(&study).unwrap(), Next::Train(task(1)));
        assert_eq!(next.outcomes[&task(0)], outcome(Some(0.5)));
        for trial in [1, 2] {
            next.record(task(trial), outcome(None)).unwrap();
        }
        assert_eq!(next.next(&study).unwrap(), Next::Done);
    }

    #[test]
    fn a_rung_begins_when_the_one_before_has_ended() {
        let folder = tempfile::tempdir().unwrap();
        let run = folder.path();
        let study = study(run.into(), 2, vec![rung(2, Some(1)), rung(1, None)]);
        let _lock = take_over(run).unwrap();
        let (mut one, mut other) = (Ledger::new(run), Ledger::new(run));
        let task = |rung, trial| Task { rung, trial };
        assert_eq!(one.next(&study).unwrap(), Next::Train(task(0, 0)));
        assert_eq!(other.next(&study).unwrap(), Next::Train(task(0, 1)));
        one.record(task(0, 0), outcome(Some(0.2))).unwrap();
        assert_eq!(one.next(&study).unwrap(), Next::Wait);
        other.record(task(0, 1), outcome(Some(0.4))).unwrap();
        assert_eq!(one.next(&study).unwrap(), Next::Train(task(1, 1)));
        assert_eq!(other.next(&study).unwrap(), Next::Done);
        one.record(task(1, 1), outcome(Some(0.6))).unwrap();
        other.read(&study).unwrap();
        assert_eq!(other.outcomes, one.outcomes);
    }
}
