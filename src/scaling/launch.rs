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

use super::{
    Mode,
    measure::{self, Reach, Timed},
    study::{Job, Study},
};
use crate::{
    checkpoint::write_atomically,
    device::DeviceChoice,
    doctor::Measured,
    job::RESUMABLE,
    plan::{Settings, word},
    stop,
};

const POLL: Duration = Duration::from_millis(20);
/// Lines of a failed run's log that are shown.
const SHOWN: usize = 12;
/// In the environment of a process that a launcher started.
const LAUNCHED: [&str; 4] = [
    "OMPI_COMM_WORLD_RANK",
    "PMI_RANK",
    "PMIX_RANK",
    "MPI_LOCALRANKID",
];

pub struct Launcher {
    /// Of the command, without -np.
    pub words: Vec<String>,
    out: PathBuf,
    stall_timeout: String,
}

impl Launcher {
    pub fn new(typed: Option<&str>, out: &Path, stall_timeout: f64) -> Result<Self> {
        if let Some(name) = LAUNCHED.iter().find(|name| env::var_os(name).is_some()) {
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
            stall_timeout: stall_timeout.to_string(),
        })
    }

    fn log(&self, name: &str) -> PathBuf {
        self.out.join("runs").join(format!("{name}.log"))
    }

    /// Runs `arguments` on so many ranks to the end.
    fn run(&self, ranks: usize, name: &str, arguments: &[&str]) -> Result<()> {
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
        let lines: Vec<&str> = text.lines().filter(|line| !line.is_empty()).collect();
        let end = &lines[lines.len().saturating_sub(SHOWN)..];
        bail!(
            "{name}: {} -np {ranks} {} failed ({status}); {} ends with\n    {}",
            self.words.join(" "),
            arguments[0],
            log.display(),
            end.join("\n    ")
        )
    }
}

impl Study<'_> {
    /// What the doctor measures on each number of ranks; what it measured before stands.
    pub fn doctor(&self) -> Result<Vec<Measured>> {
        let mut all: Vec<Measured> = Vec::new();
        for &ranks in &self.args.ranks {
            let name = format!("doctor-{ranks}");
            let json = self.folder().join("runs").join(format!("{name}.json"));
            if !json.exists() {
                self.ask_doctor(ranks, &name, &json)?;
            }
            let text =
                fs::read_to_string(&json).with_context(|| format!("reading {}", json.display()))?;
            all.push(
                serde_json::from_str(&text)
                    .with_context(|| format!("reading {}", json.display()))?,
            );
            println!("doctor  {ranks:>4} ranks  no failure");
            let log = fs::read_to_string(self.launcher.log(&name)).unwrap_or_default();
            for line in log.lines().filter(|line| line.starts_with("warn ")) {
                println!("    {line}");
            }
            ensure!(
                !all[0].crowded,
                "--ranks begins with {}, more than the {} cores here: nothing can be compared with ranks that take turns",
                self.args.ranks[0],
                all[0].cores
            );
        }
        Ok(all)
    }

    fn ask_doctor(&self, ranks: usize, name: &str, json: &Path) -> Result<()> {
        let text = |path: &Path| path.display().to_string();
        let partial = json.with_extension("partial");
        let (data, run, written) = (text(&self.data), text(self.folder()), text(&partial));
        let device = word(self.settings.device.unwrap_or(DeviceChoice::Auto));
        let arch = self.arch().name();
        let mut words = vec!["doctor"];
        for (option, value) in [
            ("--arch", arch),
            ("--device", &device),
            ("--data", &data),
            ("--run", &run),
            ("--json", &written),
        ] {
            words.extend([option, value]);
        }
        self.launcher.run(ranks, name, &words)?;
        fs::rename(&partial, json).with_context(|| format!("naming {}", json.display()))
    }

    /// Round 0 is traced: it finds the phases, and fills the system's caches. The others are timed.
    pub fn rounds(&self) -> Result<Vec<(Job, Vec<Timed>)>> {
        let jobs = self.jobs();
        let mut timed: Vec<Vec<Timed>> = jobs.iter().map(|_| Vec::new()).collect();
        for round in 0..=self.args.repeats {
            let mut order: Vec<usize> = (0..jobs.len()).collect();
            // What drifts while the study runs should not look like scaling.
            if round % 2 == 0 {
                order.reverse();
            }
            for place in order {
                let job = &jobs[place];
                let run = self.timed_run(job, round)?;
                println!(
                    "round {round}/{}  {:<6} {:>4} ranks  {:>10.1} samples/s{}",
                    self.args.repeats,
                    job.mode.name(),
                    job.ranks,
                    run.samples_per_s,
                    if round == 0 { "  traced" } else { "" }
                );
                timed[place].push(run);
            }
        }
        Ok(jobs.into_iter().zip(timed).collect())
    }

    fn timed_run(&self, job: &Job, round: u64) -> Result<Timed> {
        let name = match job.mode {
            Mode::Weak => format!("weak-{}x{}-round{round}", job.ranks, job.windows),
            Mode::Strong => format!("strong-{}of{}-round{round}", job.ranks, job.global_batch),
        };
        let last = self.args.warmup + self.args.steps;
        let stop = ["--stop-at", &last.to_string()].map(String::from);
        let folder = self.train(job.ranks, &name, &self.timed(job), &stop, round == 0)?;
        measure::timed(&folder, self.args.warmup)
    }

    /// Seconds to the target on each number of ranks, a seed a repeat.
    pub fn targets(&self) -> Result<Vec<(usize, Vec<Reach>)>> {
        let Some((metric, target)) = self.target else {
            return Ok(Vec::new());
        };
        let mut all: Vec<(usize, Vec<Reach>)> = self
            .args
            .ranks
            .iter()
            .map(|&ranks| (ranks, Vec::new()))
            .collect();
        for seed in 1..=self.args.repeats {
            for (ranks, reached) in &mut all {
                let settings = self.until_target(seed).expect("there is a target");
                let name = format!("target-{ranks}of{}-seed{seed}", self.global_batch);
                let folder = self.train(*ranks, &name, &settings, &[], false)?;
                let reach = measure::reach(&folder, metric, target)?;
                println!("target  seed {seed}  {ranks:>4} ranks  {reach}");
                reached.push(reach);
            }
        }
        Ok(all)
    }

    /// A run's folder; what was run before is not run again.
    fn train(
        &self,
        ranks: usize,
        name: &str,
        settings: &Settings,
        more: &[String],
        traced: bool,
    ) -> Result<PathBuf> {
        let runs = self.folder().join("runs");
        let (done, partial) = (runs.join(name), runs.join(format!("{name}.partial")));
        if done.exists() {
            return Ok(done);
        }
        if partial.exists() {
            fs::remove_dir_all(&partial)
                .with_context(|| format!("removing {}", partial.display()))?;
        }
        let from = runs.join(format!("{name}.toml"));
        write_atomically(&from, toml::to_string(settings)?.as_bytes())
            .with_context(|| format!("writing {}", from.display()))?;
        let text = |path: &Path| path.display().to_string();
        let (from, run) = (text(&from), text(&partial));
        let trace = text(&partial.join(measure::TRACE));
        let mut words = vec!["train", "--from", &from, "--run", &run];
        words.extend(more.iter().map(String::as_str));
        if traced {
            words.extend(["--trace", &trace]);
        }
        self.launcher.run(ranks, name, &words)?;
        // A study of many runs would leave gigabytes of weights.
        for entry in fs::read_dir(&partial)? {
            let path = entry?.path();
            if path.extension().is_some_and(|of| of == "safetensors") {
                fs::remove_file(path)?;
            }
        }
        fs::rename(&partial, &done).with_context(|| format!("naming {}", done.display()))?;
        Ok(done)
    }
}
