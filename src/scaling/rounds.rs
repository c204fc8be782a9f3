//! The runs of a study, in order; each leaves its folder and log in runs/.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, ensure};

use super::{
    Mode,
    measure::{self, Reach, Timed},
    study::{Job, Study},
};
use crate::{
    checkpoint::write_atomically,
    device::DeviceChoice,
    doctor::Measured,
    plan::{Settings, word},
};

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
        write_atomically(&from, toml::to_string(settings)?.as_bytes())?;
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
