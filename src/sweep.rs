//! `tfbind-mpi sweep`: many settings, each trained by `train` on a group of the ranks, and compared.
//!
//! ```text
//! sweep.toml ─ file ─ space (what is tried) ─ study (trials checked by check, rungs) ─▶ every rank
//!        each group of ranks: ledger (the next trial) ─ train ─ ledger (how it ended) ─▶ table, picture
//! ```
//! Groups meet in the sweep's folder only, until all have nothing left to do.

mod check;
mod file;
mod ledger;
mod picture;
mod space;
mod study;
mod table;

use std::{
    fs::{self, File, OpenOptions},
    io::{Write, stdout},
    os::fd::OwnedFd,
    path::Path,
    process::ExitCode,
    thread,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use nix::unistd::{dup, dup2_stdout};
use serde::{Deserialize, Serialize};

use crate::{
    checkpoint::Progress,
    cli::{SweepArgs, TrainArgs},
    comm::{Comm, decide, set_within, share_text},
    job::{RESUMABLE, brief, let_rank_0_speak, out_of_memory, outlive},
    metrics::shown,
    nonfinite::Diverged,
    plan::Settings,
    resume::LAST,
    stop,
    train::{Trained, train},
};
use file::Sweep;
use ledger::{Ledger, Next, Outcome, Task, take_over};
use study::Study;
use table::Table;

/// Between two looks whether a rung has ended.
const LOOK: Duration = Duration::from_millis(500);

pub fn sweep(comm: &dyn Comm, args: &SweepArgs) -> Result<ExitCode> {
    comm.note("the trials of the sweep", 0);
    let mut lock = None;
    let mut text = String::new();
    if comm.rank() == 0 {
        let sweep = Sweep::read(args)?;
        let study = Study::new(comm, args, &sweep)?;
        lock = Some(take_over(&study.run)?);
        sweep.remember(&study.steps())?;
        let mut ledger = Ledger::new(&study.run);
        ledger.read(&study)?;
        Table::new(&study, &ledger.outcomes).write()?;
        text = serde_json::to_string(&study)?;
    }
    // Looking at all trials may take longer than ranks wait for each other.
    comm.meet();
    let study: Study = serde_json::from_str(&share_text(comm, || Ok(text))?)?;
    let group = comm.split(study.ranks_per_trial)?;
    let mut ledger = Ledger::new(&study.run);
    ledger.pass_on_signals(group.rank() == 0)?;
    if comm.rank() == 0 {
        println!("{}", study.headline(comm.size()));
    }
    let first = comm.rank() - group.rank();
    let groups = Group {
        comm: group.as_ref(),
        study: &study,
        ranks: match study.ranks_per_trial {
            1 => format!("rank {first}"),
            ranks => format!("ranks {first}-{}", first + ranks - 1),
        },
        writes_table: comm.rank() == 0,
    };
    let stopped = groups.work(&mut ledger)?;
    drop(group);
    comm.meet();
    let mut groups_stopped = [f64::from(u8::from(stopped))];
    comm.sum_f64(&mut groups_stopped);
    let stopped = groups_stopped[0] > 0.0;
    let mut failed = 0;
    if comm.rank() == 0 {
        ledger.read(&study)?;
        let table = Table::new(&study, &ledger.outcomes);
        table.write()?;
        print!("{}", table.text());
        failed = table.failed();
        if stopped {
            println!("stopped by {}: the same command goes on", stop::name());
        }
    }
    drop(lock);
    // A batch system sees no table.
    let failed = decide(comm, || failed > 0);
    Ok(match (stopped, failed) {
        (true, _) => ExitCode::from(RESUMABLE),
        (false, true) => ExitCode::FAILURE,
        (false, false) => ExitCode::SUCCESS,
    })
}

/// The ranks that train a trial together.
struct Group<'a> {
    comm: &'a dyn Comm,
    study: &'a Study,
    /// Their names in the job.
    ranks: String,
    writes_table: bool,
}

/// What rank 0 of a group tells the others.
#[derive(Serialize, Deserialize)]
struct Order {
    next: Next,
    /// The trial has a checkpoint to go on from.
    resume: bool,
}

impl Group<'_> {
    /// Trains trials until none is left; true if it was asked to stop before.
    fn work(&self, ledger: &mut Ledger) -> Result<bool> {
        loop {
            self.comm.note("the next trial", 0);
            let text = share_text(self.comm, || {
                let next = ledger.next(self.study)?;
                let resume = match &next {
                    Next::Train(task) => self.study.folder(task.trial).join(LAST).exists(),
                    _ => false,
                };
                Ok(serde_json::to_string(&Order { next, resume })?)
            })?;
            let Order { next, resume } = serde_json::from_str(&text)?;
            let mut asked = [f64::from(u8::from(stop::requested()))];
            self.comm.sum_f64(&mut asked);
            match next {
                Next::Done => return Ok(false),
                _ if asked[0] > 0.0 => return Ok(self.stop()),
                Next::Wait => thread::sleep(LOOK),
                Next::Train(task) => {
                    let Some(outcome) = self.trial(ledger, task, resume)? else {
                        return Ok(self.stop());
                    };
                    if self.comm.rank() == 0 {
                        println!("{}", self.line(task, &outcome));
                        ledger.record(task, outcome)?;
                    }
                    if self.writes_table {
                        ledger.read(self.study)?;
                        Table::new(self.study, &ledger.outcomes).write()?;
                    }
                }
            }
        }
    }

    /// The other groups are told.
    fn stop(&self) -> bool {
        stop::request();
        true
    }

    /// How the trial ended; none if it was stopped. What only this trial is to blame for is its outcome, what others
    /// would meet as well is an error.
    fn trial(&self, ledger: &mut Ledger, task: Task, resume: bool) -> Result<Option<Outcome>> {
        let (trial, folder) = (
            &self.study.trials[task.trial],
            self.study.folder(task.trial),
        );
        let name = format!("trial {} ({})", task.trial, space::named(&trial.tried));
        let args = TrainArgs {
            run: folder.clone(),
            resume,
            from: None,
            data_copy: self.study.data_copy.clone(),
            trace: None,
            sync_bn: false,
            quiet: false,
            settings: Settings {
                stop_at: self.study.stop_at(task).or(trial.settings.stop_at),
                ..trial.settings.clone()
            },
        };
        let mut said = None;
        if self.comm.rank() == 0 {
            let begins = if resume { "goes on" } else { "begins" };
            println!("{name} {begins} on {} of {}", self.ranks, self.comm.host());
            said = Some(Said::to(&folder)?);
        }
        set_within(format!("{name}: "));
        let ended = outlive(|| train(self.comm, args));
        drop(said);
        let outcome = match ended {
            Ok(Trained { stopped: true, .. }) => None,
            Ok(Trained { progress, .. }) => Some(Outcome {
                progress,
                failed: None,
            }),
            Err(err) => Some(self.failure(ledger, task, err)?),
        };
        set_within(String::new());
        Ok(outcome)
    }

    /// A loss that is not finite is found on all ranks of a group together, which is whole afterwards. Where memory ran
    /// out on one of several ranks the others wait in MPI, which only the end of the job ends; the next job leaves the
    /// trial out.
    fn failure(&self, ledger: &mut Ledger, task: Task, err: anyhow::Error) -> Result<Outcome> {
        let err = match err.downcast::<Diverged>() {
            Ok(Diverged { progress, why, .. }) => {
                return Ok(Outcome {
                    progress,
                    failed: Some(why),
                });
            }
            Err(err) => err,
        };
        let cause = brief(&format!("{err:#}"));
        if !out_of_memory(&cause) {
            let_rank_0_speak(self.comm.rank());
            return Err(err);
        }
        let outcome = Outcome {
            progress: Progress::default(),
            failed: Some(cause.clone()),
        };
        if self.comm.size() > 1 {
            ledger.record(task, outcome)?;
            bail!("{cause}; noted as failed: the same command goes on with the other trials");
        }
        Ok(outcome)
    }

    fn line(&self, task: Task, outcome: &Outcome) -> String {
        let Progress {
            best,
            best_step,
            step,
            training_seconds,
            ..
        } = outcome.progress;
        let name = format!("trial {}", task.trial);
        match &outcome.failed {
            Some(why) => format!("{name} failed: {why}"),
            None => format!(
                "{name}: {} {} at step {best_step} of {step}, {training_seconds:.1} s",
                self.study.metric.name(),
                shown(best)
            ),
        }
    }
}

/// While it lives, what this process says goes to the trial's train.log: groups would talk at once.
struct Said {
    before: OwnedFd,
}

impl Said {
    fn to(folder: &Path) -> Result<Self> {
        let path = folder.join("train.log");
        let open = || -> Result<(File, OwnedFd)> {
            fs::create_dir_all(folder)?;
            let log = OpenOptions::new().create(true).append(true).open(&path)?;
            stdout().flush()?;
            Ok((log, dup(stdout())?))
        };
        let (log, before) = open().with_context(|| format!("writing {}", path.display()))?;
        dup2_stdout(log)?;
        Ok(Self { before })
    }
}

impl Drop for Said {
    fn drop(&mut self) {
        let _ = stdout().flush();
        dup2_stdout(&self.before).expect("standard output was open before");
    }
}

#[cfg(test)]
mod tests {
    use anyhow::anyhow;

    use super::*;
    use crate::comm::Solo;

    #[test]
    fn a_trial_fails_by_its_own_fault_only() {
        let folder = tempfile::tempdir().unwrap();
        let study = study::tests::study(folder.path().into(), 2, Vec::new());
        let group = Group {
            comm: &Solo,
            study: &study,
            ranks: "rank 0".into(),
            writes_table: false,
        };
        let task = Task { rung: 0, trial: 1 };
        let fails = |err| group.failure(&mut Ledger::new(folder.path()), task, err);
        let progress = Progress {
            step: 7,
            ..Progress::default()
        };
        let diverged = Diverged {
            progress: progress.clone(),
            why: "step 8: not finite".into(),
            may_skip: true,
        };
        let outcome = fails(anyhow::Error::from(diverged).context("within")).unwrap();
        assert_eq!(outcome.progress, progress);
        assert_eq!(outcome.failed.as_deref(), Some("step 8: not finite"));
        let outcome = fails(anyhow!("CUDA out of memory. Tried to allocate 9 GiB")).unwrap();
        assert!(outcome.failed.unwrap().contains("9 GiB"));
        let err = fails(anyhow!("No space left on device")).unwrap_err();
        assert!(err.to_string().contains("No space left"));
    }
}
