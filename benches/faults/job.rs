//! One training job under observation. Its processes are found by a mark in their environment, also those whose parent
//! is dead.

use std::{
    fs,
    os::unix::process::CommandExt,
    path::PathBuf,
    process::{self, Child, Command, ExitStatus, Stdio},
    sync::atomic::{AtomicUsize, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tempfile::TempDir;

use crate::common::{self, Run, mpirun};

/// A job that is still there so long after a kill hangs.
pub const HANG: Duration = Duration::from_secs(5);
/// A job that nobody killed and that comes to no end in this time is stuck.
const STUCK: Duration = Duration::from_secs(120);
const MARK: &str = "TFBIND_FAULTS_JOB";
static JOBS: AtomicUsize = AtomicUsize::new(0);

#[derive(Clone, Debug)]
pub struct Process {
    pub pid: Pid,
    /// None: mpirun, MPICH's proxy under it, or the daemon that Open MPI starts beside a process without mpirun.
    pub rank: Option<usize>,
}

/// How a job came to its end after a kill.
pub struct End {
    pub status: ExitStatus,
    /// From the signal until no process was left.
    pub took: Duration,
    /// Who had to be ended by force.
    pub hung: Vec<Process>,
}

pub struct Job {
    child: Child,
    mark: String,
    pub ranks: usize,
    started: Instant,
    stderr: PathBuf,
    /// Sessions and shared memory of MPI: who dies by SIGKILL leaves them behind.
    _scratch: TempDir,
}

impl Job {
    /// 1 rank means without mpirun; the job is its own process group, as a batch system starts it.
    pub fn start(folder: &Run, ranks: usize, arguments: &[&str]) -> Result<Self> {
        let scratch = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir())?;
        let program = env!("CARGO_BIN_EXE_tfbind-mpi");
        let mut command = match ranks {
            1 => Command::new(program),
            _ => mpirun(ranks, program, scratch.path()),
        };
        let number = JOBS.fetch_add(1, Ordering::Relaxed);
        let mark = format!("{}.{number}", process::id());
        let stderr = folder.path("stderr");
        let child = command
            .args(arguments)
            .current_dir(folder.dir.path())
            .env(MARK, &mark)
            .env("TMPDIR", scratch.path())
            // Open MPI 4 and 5: by default in /dev/shm itself, where nothing would remove them.
            .env("OMPI_MCA_btl_vader_backing_directory", scratch.path())
            .env("OMPI_MCA_btl_sm_backing_directory", scratch.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(fs::File::create(&stderr)?)
            .process_group(0)
            .spawn()
            .with_context(|| format!("starting {command:?}"))?;
        Ok(Self {
            child,
            mark,
            ranks,
            started: Instant::now(),
            stderr,
            _scratch: scratch,
        })
    }

    /// Those that live now; mpirun first, so that who kills them in this order meets no rank born meanwhile.
    pub fn processes(&self) -> Vec<Process> {
        let mark = format!("{MARK}={}", self.mark);
        let found = common::processes(&mark).into_iter().map(|(pid, rank)| {
            let alone = self.ranks == 1 && pid == self.child.id();
            let rank = if alone { Some(0) } else { rank };
            let pid = Pid::from_raw(pid as i32);
            Process { pid, rank }
        });
        let mut found: Vec<Process> = found.collect();
        found.sort_by_key(|process| process.rank);
        found
    }

    /// What `seen` finds at last; None if the job ends before.
    pub fn watch<T>(
        &mut self,
        pause: Duration,
        mut seen: impl FnMut(&Self) -> Result<Option<T>>,
    ) -> Result<Option<T>> {
        loop {
            if let Some(found) = seen(self)? {
                return Ok(Some(found));
            }
            if self.child.try_wait()?.is_some() {
                return Ok(None);
            }
            if self.started.elapsed() > STUCK {
                bail!("neither an end nor what was waited for after {STUCK:?}");
            }
            thread::sleep(pause);
        }
    }

    /// The end of a job that is left alone.
    pub fn run_out(&mut self) -> Result<ExitStatus> {
        self.watch(Duration::from_millis(5), |_| Ok(None::<()>))?;
        Ok(self.child.wait()?)
    }

    /// Sends SIGKILL and waits until no process of the job is left, by force after `HANG`. `everyone` spares none that
    /// mpirun was just starting.
    pub fn kill(&mut self, victims: &[Process], everyone: bool) -> Result<End> {
        let start = Instant::now();
        send_kill(victims);
        // A dead process's environment is gone before its open files are: those seen once are asked for by number too.
        let mut known: Vec<Process> = victims.to_vec();
        let mut hung = Vec::new();
        loop {
            let status = self.child.try_wait()?;
            let found = self.processes();
            let is_new = |of: &Process| known.iter().all(|known| known.pid != of.pid);
            let new: Vec<Process> = found.iter().filter(|&of| is_new(of)).cloned().collect();
            if everyone {
                send_kill(&new);
            }
            known.extend(new);
            known.retain(|process| lives(process.pid));
            if let (Some(status), true) = (status, known.is_empty()) {
                let took = start.elapsed();
                return Ok(End { status, took, hung });
            }
            if start.elapsed() > HANG {
                if hung.is_empty() {
                    hung = known.clone();
                }
                send_kill(&found);
            }
            if start.elapsed() > STUCK {
                bail!("{known:?}: cannot be killed");
            }
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// What the job said last on standard error.
    pub fn said(&self) -> String {
        let text = fs::read(&self.stderr).unwrap_or_default();
        let text = String::from_utf8_lossy(&text).into_owned();
        let lines: Vec<&str> = text.lines().filter(|line| !line.is_empty()).collect();
        let errors: Vec<&str> = lines
            .iter()
            .copied()
            .filter(|of| of.contains("error:"))
            .collect();
        match errors.last().or(lines.last()) {
            Some(line) => line.to_string(),
            None => "nothing on standard error".into(),
        }
    }
}

/// Nothing that this program started outlives it.
impl Drop for Job {
    fn drop(&mut self) {
        loop {
            let left = self.processes();
            if left.is_empty() {
                break;
            }
            send_kill(&left);
            let _ = self.child.try_wait();
            thread::sleep(Duration::from_millis(2));
        }
        let _ = self.child.wait();
    }
}

fn send_kill(victims: &[Process]) {
    for process in victims {
        // One that has ended by itself is as dead as it should be.
        let _ = kill(process.pid, Signal::SIGKILL);
    }
}

/// A zombie is dead: an orphan's may stay where process 1 collects nobody.
fn lives(pid: Pid) -> bool {
    let stat = fs::read_to_string(format!("/proc/{}/stat", pid.as_raw()));
    // The state follows the name, which stands in parentheses and may hold some itself.
    let state = stat.ok().and_then(|stat| {
        let (_, rest) = stat.rsplit_once(") ")?;
        rest.chars().next()
    });
    state.is_some_and(|state| state != 'Z' && state != 'X')
}
