//! Starts ranks of this same program with the site's launcher; what a run says goes to a log, whose end is shown if it
//! fails.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{self, Command, Stdio},
    thread,
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::{comm::launched_by, job::RESUMABLE, stop};

const POLL: Duration = Duration::from_millis(20);
/// Lines of a failed run's log that are shown.
const SHOWN: usize = 24;

pub struct Launcher {
    /// Of the command, without -np.
    pub words: Vec<String>,
    out: PathBuf,
    stall_timeout: String,
}

impl Launcher {
    pub fn new(typed: Option<&str>, out: &Path, stall_timeout: Duration) -> Result<Self> {
        if let Some(name) = launched_by() {
            bail!("{name} is set: bench scaling starts mpirun itself; run it without");
        }
        let named = typed.map(String::from).or(env::var("MPIRUN").ok());
        let command = named.unwrap_or("mpirun".into());
        let words: Vec<String> = command.split_whitespace().map(String::from).collect();
        ensure!(!words.is_empty(), "--mpirun names no command");
        let found = Command::new(&words[0]).arg("--version").output();
        found.with_context(|| {
            format!(
                "{} cannot be started: load an MPI, or name its launcher with --mpirun",
                words[0]
            )
        })?;
        Ok(Self {
            words,
            out: out.to_path_buf(),
            stall_timeout: stall_timeout.as_secs_f64().to_string(),
        })
    }

    pub fn log(&self, name: &str) -> PathBuf {
        self.out.join("runs").join(format!("{name}.log"))
    }

    /// Runs `arguments` on so many ranks to the end.
    pub fn run(&self, ranks: usize, name: &str, arguments: &[&str]) -> Result<()> {
        let log = self.log(name);
        let file = fs::File::create(&log).with_context(|| format!("writing {}", log.display()))?;
        let program = env::current_exe().context("finding this program's own file")?;
        let mut child = Command::new(&self.words[0])
            .args(&self.words[1..])
            .args(["-np", &ranks.to_string()])
            .arg(program)
            .args(arguments)
            .args(["--stall-timeout", &self.stall_timeout])
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file)
            .spawn()
            .with_context(|| format!("starting {}", self.words[0]))?;
        let status = loop {
            if let Some(status) = child.try_wait()? {
                break status;
            }
            if stop::requested() {
                let _ = kill(Pid::from_raw(child.id() as i32), Signal::SIGTERM);
                let _ = child.wait();
                println!("stopped by {}: the same command goes on", stop::name());
                process::exit(RESUMABLE.into());
            }
            thread::sleep(POLL);
        };
        if status.success() {
            return Ok(());
        }
        let text = fs::read(&log).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        // Launchers add rules, and pages after the line that tells.
        let lines = || {
            text.lines()
                .filter(|line| line.contains(char::is_alphanumeric))
        };
        let mut told: Vec<&str> = lines()
            .filter(|line| line.starts_with("FAIL") || line.contains("error:"))
            .collect();
        if told.is_empty() {
            told = lines().collect();
        }
        let end = &told[told.len().saturating_sub(SHOWN)..];
        bail!(
            "{name}: {} -np {ranks} {} failed ({status}); {} says\n    {}",
            self.words.join(" "),
            arguments[0],
            log.display(),
            end.join("\n    ")
        )
    }
}
