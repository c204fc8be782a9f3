//! The folder of the runs: what holds it, whether a checkpoint can be written there, and who else sees it.

use std::{
    fs,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
    process, thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use nix::sys::statvfs::statvfs;

use super::{Line, PROBE_LIMIT, alike, bytes, duration, gather, some, within};
use crate::{
    checkpoint::write_atomically,
    comm::{Comm, share_text},
};

/// Network file systems show a new file late.
const SEEN_WITHIN: Duration = Duration::from_secs(3);
const LITTLE_SPACE: u64 = 1_000_000_000;
/// Old and new of both `best` and `last`, at the moment one is replaced.
const CHECKPOINTS: u64 = 4;
/// Seconds of one checkpoint, above which saving is felt.
const SLOW_WRITE: f64 = 5.0;

/// Removed however the doctor ends.
struct TrialFile(PathBuf);

impl Drop for TrialFile {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// Of the folder on rank 0.
struct Written {
    file: TrialFile,
    seconds: f64,
    kind: Option<String>,
    free: u64,
    files: u64,
}

pub fn check(comm: &dyn Comm, run: &Path, checkpoint: usize, hosts: &[&str]) -> Result<Vec<Line>> {
    let written = (comm.rank() == 0).then(|| {
        let folder = run.to_path_buf();
        within(PROBE_LIMIT, move || write(&folder, checkpoint))
    });
    // A folder that hangs or refuses has no file for the others to look for.
    let name = share_text(comm, || {
        let file = written.as_ref().and_then(|of| of.as_ref().ok());
        Ok(serde_json::to_string(&file.map(|of| &of.file.0))?)
    })?;
    let seen = match serde_json::from_str::<Option<PathBuf>>(&name)? {
        Some(path) if comm.rank() != 0 => {
            within(PROBE_LIMIT, move || Ok(appears(&path, checkpoint as u64))).unwrap_or(false)
        }
        _ => true,
    };
    let seen = gather(comm, &seen)?;
    Ok(written.map_or_else(Vec::new, |written| match written {
        Err(err) => {
            let advice = "name a folder that exists and is yours (mkdir -p); quota and df -h tell if it is full";
            vec![Line::fail("folder", format!("{}: {err}", run.display()), advice)]
        }
        Ok(written) => written.judge(run, checkpoint as u64, &seen, hosts),
    }))
}

/// A file of a checkpoint's size, written as checkpoints are.
fn write(folder: &Path, bytes: usize) -> Result<Written> {
    let folder = fs::canonicalize(folder).context("there is no such folder")?;
    ensure!(folder.is_dir(), "is not a folder");
    let space = statvfs(&folder)?;
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    // Not zeros: a file system that compresses would write nothing.
    let content: Vec<u8> = (0..bytes as u32)
        .map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8)
        .collect();
    let file = TrialFile(folder.join(format!(".tfbind-doctor-{}", process::id())));
    let began = Instant::now();
    write_atomically(&file.0, &content).context("a trial file cannot be written")?;
    Ok(Written {
        file,
        seconds: began.elapsed().as_secs_f64(),
        kind: kind_of(&mounts, &folder),
        free: space.blocks_available() * space.fragment_size(),
        files: space.files_available(),
    })
}

fn appears(path: &Path, bytes: u64) -> bool {
    let began = Instant::now();
    loop {
        if fs::metadata(path).is_ok_and(|of| of.len() == bytes) {
            return true;
        }
        if began.elapsed() > SEEN_WITHIN {
            return false;
        }
        thread::sleep(Duration::from_millis(50));
    }
}

/// The type of the file system that holds a path: the longest mount point that begins it, the last of equals.
fn kind_of(mounts: &str, path: &Path) -> Option<String> {
    let entry = |line: &str| {
        let mut words = line.split(' ').skip(1);
        let (point, kind) = (unescape(words.next()?), words.next()?.to_string());
        path.starts_with(&point)
            .then(|| (point.as_os_str().len(), kind))
    };
    let longest = mounts
        .lines()
        .filter_map(entry)
        .max_by_key(|(length, _)| *length);
    longest.map(|(_, kind)| kind)
}

/// Blanks in mount points are written in octal, `\040`.
fn unescape(word: &str) -> PathBuf {
    let (mut bytes, mut rest) = (Vec::new(), word.as_bytes());
    while let Some((&first, after)) = rest.split_first() {
        let octal = after.get(..3).filter(|_| first == b'\\');
        let code =
            octal.and_then(|digits| u8::from_str_radix(str::from_utf8(digits).ok()?, 8).ok());
        bytes.push(code.unwrap_or(first));
        rest = if code.is_some() { &after[3..] } else { after };
    }
    PathBuf::from(std::ffi::OsStr::from_bytes(&bytes))
}

impl Written {
    fn judge(&self, run: &Path, checkpoint: u64, seen: &[bool], hosts: &[&str]) -> Vec<Line> {
        let kind = self.kind.as_deref().unwrap_or("unknown file system");
        let found = format!(
            "{} ({kind}), {} free; a checkpoint of {} takes {}",
            run.display(),
            bytes(self.free as f64),
            bytes(checkpoint as f64),
            duration(self.seconds)
        );
        let mut lines = vec![if self.free < CHECKPOINTS * checkpoint {
            Line::fail(
                "folder",
                found,
                "less than four checkpoints: make room, or name another --run",
            )
        } else if self.free < LITTLE_SPACE {
            Line::warn(
                "folder",
                found,
                "make room: predictions of a genome take gigabytes",
            )
        } else if self.files < 100 && self.kind.as_deref() != Some("btrfs") {
            Line::warn(
                "folder",
                format!("{found}; {} files left", self.files),
                "remove small files",
            )
        } else if matches!(kind, "tmpfs" | "ramfs") {
            let advice =
                "checkpoints live in memory and die with the node: name a folder on a disc";
            Line::warn("folder", found, advice)
        } else if self.seconds > SLOW_WRITE {
            let advice =
                "every save holds up all ranks: name a faster file system, or save less often";
            Line::warn("folder", found, advice)
        } else {
            Line::ok("folder", found)
        }];
        let blind: Vec<&str> = alike(
            hosts
                .iter()
                .zip(seen)
                .filter(|(_, seen)| !**seen)
                .map(|(host, _)| *host),
        )
        .into_iter()
        .map(|(host, _)| host)
        .collect();
        if !blind.is_empty() {
            let found = format!(
                "{} not shared: {} cannot see it",
                run.display(),
                some(&blind)
            );
            let advice = "enough for train, as only rank 0 writes, but evaluate and predict read the run on every rank, \
                          and --data must be readable everywhere";
            lines.push(Line::warn("folder", found, advice));
        }
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Mark;

    const MOUNTS: &str = "overlay / overlay rw 0 0\n/dev/sda /scratch lustre rw 0 0\n\
                          nas:/home /home/my\\040own nfs4 rw 0 0\ntmpfs /scratch tmpfs rw 0 0\n";

    #[test]
    fn the_innermost_and_last_mount_counts() {
        let kind = |path: &str| kind_of(MOUNTS, Path::new(path)).unwrap();
        assert_eq!(kind("/scratch/a/b"), "tmpfs");
        assert_eq!(kind("/scratchy"), "overlay");
        assert_eq!(kind("/home/my own/runs"), "nfs4");
        assert_eq!(kind_of("", Path::new("/")), None);
        assert_eq!(unescape("a\\040b\\"), Path::new("a b\\"));
    }

    #[test]
    fn a_trial_file_is_written_and_gone() {
        let folder = tempfile::tempdir().unwrap();
        let count = || fs::read_dir(folder.path()).unwrap().count();
        let written = write(folder.path(), 1000).unwrap();
        assert_eq!(count(), 1);
        assert!(appears(&written.file.0, 1000));
        drop(written);
        assert_eq!(count(), 0);
        assert!(write(&folder.path().join("missing"), 10).is_err());
    }

    #[test]
    fn space_kind_and_sight_are_judged() {
        let written = |free, kind: &str| Written {
            file: TrialFile(PathBuf::new()),
            seconds: 0.01,
            kind: Some(kind.into()),
            free,
            files: 1 << 20,
        };
        let mark = |of: Written| of.judge(Path::new("r"), 6_000_000, &[true], &["a"])[0].mark;
        assert_eq!(mark(written(1 << 40, "lustre")), Mark::Ok);
        assert_eq!(mark(written(1 << 40, "tmpfs")), Mark::Warn);
        assert_eq!(mark(written(500_000_000, "ext4")), Mark::Warn);
        assert_eq!(mark(written(20_000_000, "ext4")), Mark::Fail);
        let seen = [true, false, false];
        let lines = written(1 << 40, "ext4").judge(Path::new("r"), 1, &seen, &["a", "b", "b"]);
        assert!(
            lines[1].mark == Mark::Warn && lines[1].found.contains("not shared: b cannot"),
            "{lines:?}"
        );
    }
}
