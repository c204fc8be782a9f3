//! A run in its folder: its settings, its checkpoints, and going on with it.

use std::{
    fs::{self, File, TryLockError},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail, ensure};

use crate::{
    checkpoint::{Checkpoint, Header, Progress},
    comm::{Comm, share_text},
    engine::Net,
    optim::Optimizer,
    plan::{Plan, Settings},
};

pub const BEST: &str = "best.safetensors";
pub const LAST: &str = "last.safetensors";
/// The settings, each with its value.
pub const PLAN: &str = "plan.toml";

/// The checkpoint of a run folder, its best or where it was never evaluated its last; or the file that is named.
pub fn checkpoint_of(run: &Path) -> PathBuf {
    if !run.is_dir() {
        return run.to_path_buf();
    }
    let (best, last) = (run.join(BEST), run.join(LAST));
    match !best.exists() && last.exists() {
        true => last,
        false => best,
    }
}

/// Settings that rank 0 finds, known to all.
pub fn shared_settings(
    comm: &dyn Comm,
    on_root: impl FnOnce() -> Result<Settings>,
) -> Result<Settings> {
    let text = share_text(comm, || Ok(toml::to_string(&on_root()?)?))?;
    Ok(toml::from_str(&text)?)
}

/// Rank 0 reads the checkpoint; the others receive where it stood, and later its tensors.
pub fn resume(
    comm: &dyn Comm,
    last: &Path,
    now: &Header,
    plan: &Plan,
    net: &mut Net,
    optimizer: &Optimizer,
) -> Result<Progress> {
    let text = share_text(comm, || {
        let checkpoint = Checkpoint::read(last)?;
        let then = &checkpoint.header;
        for ((what, then), (_, now)) in then.identity().into_iter().zip(now.identity()) {
            ensure!(
                then == now,
                "{}: trained with {what} {then}, now {now}; a run goes on only as it began",
                last.display()
            );
        }
        checkpoint.restore(net, Some(optimizer))?;
        let mut progress = then.progress.clone();
        if then.plan.metric.is_some_and(|metric| metric != plan.metric) {
            (progress.best, progress.waited) = (None, 0);
        }
        progress.finished = plan.ends(&progress);
        Ok(serde_json::to_string(&progress)?)
    })?;
    Ok(serde_json::from_str(&text)?)
}

/// Removes what killed processes left of files that they were writing.
pub fn remove_partial(run: &Path) -> Result<()> {
    let partial = |name: &str| name.starts_with('.') && name.ends_with(".partial");
    remove_all_but(found(run, partial)?, 0)
}

/// Keeps the newest `keep` checkpoints by step, as hard links where the file system has them.
pub fn keep(run: &Path, last: &Path, step: u64, keep: usize) -> Result<()> {
    if keep == 0 {
        return Ok(());
    }
    let own = run.join(format!("step-{step:08}.safetensors"));
    if !own.exists() && fs::hard_link(last, &own).is_err() {
        fs::copy(last, &own).with_context(|| format!("writing {}", own.display()))?;
    }
    remove_all_but(kept(run)?, keep)
}

/// The checkpoints by step, in order of step.
pub fn kept(run: &Path) -> Result<Vec<PathBuf>> {
    match run.is_dir() {
        true => found(run, |name| name.starts_with("step-")),
        false => Ok(Vec::new()),
    }
}

/// The folder is this process' until the file that is returned is closed, or the process gone.
pub fn lock(run: &Path, file: &str) -> Result<File> {
    let made = fs::create_dir_all(run);
    made.with_context(|| format!("creating the folder {}", run.display()))?;
    let path = run.join(file);
    let lock = File::create(&path).with_context(|| format!("creating {}", path.display()))?;
    match lock.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => bail!(
            "another job is at work in {}; if none is, its host died: remove {}",
            run.display(),
            path.display()
        ),
        Err(TryLockError::Error(err)) => println!(
            "note: {} cannot be locked ({err}): see that no second job works there",
            run.display()
        ),
    }
    Ok(lock)
}

/// The files that are `named` so, in order of name.
fn found(run: &Path, named: impl Fn(&str) -> bool) -> Result<Vec<PathBuf>> {
    let mut found: Vec<_> = fs::read_dir(run)
        .with_context(|| format!("reading the run folder {}", run.display()))?
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .filter(|path| {
            path.file_name()
                .is_some_and(|name| named(&name.to_string_lossy()))
        })
        .collect();
    found.sort();
    Ok(found)
}

fn remove_all_but(files: Vec<PathBuf>, newest: usize) -> Result<()> {
    for old in files.iter().rev().skip(newest) {
        fs::remove_file(old).with_context(|| format!("removing {}", old.display()))?;
    }
    Ok(())
}
