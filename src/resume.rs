//! A run in its folder: its settings, its checkpoints, and going on with it.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, ensure};

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
    remove_all_but(run, 0, partial)
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
    remove_all_but(run, keep, |name| name.starts_with("step-"))
}

/// Of the files that are `named` so, keeps the last `keep` by name.
fn remove_all_but(run: &Path, keep: usize, named: impl Fn(&str) -> bool) -> Result<()> {
    let mut found: Vec<_> = fs::read_dir(run)
        .with_context(|| format!("reading the run folder {}", run.display()))?
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .filter(|path| {
            path.file_name()
                .is_some_and(|name| named(&name.to_string_lossy()))
        })
        .collect();
    found.sort();
    for old in found.iter().rev().skip(keep) {
        fs::remove_file(old).with_context(|| format!("removing {}", old.display()))?;
    }
    Ok(())
}
