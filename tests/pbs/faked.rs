//! A faked cluster: job files run in a folder of their own, with the commands of tests/pbs/fake.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use crate::common::Run;

pub const REPOSITORY: &str = env!("CARGO_MANIFEST_DIR");
const FAKED: [&str; 11] = [
    "mpirun",
    "qsub",
    "qstat",
    "nproc",
    "hostname",
    "nvidia-smi",
    "tfbind-mpi",
    "tfbind-prep",
    "sbatch",
    "squeue",
    "scontrol",
];

/// A job of 4 GPUs a node in a folder of its own, with the variables that OpenPBS sets and no others.
pub struct Job {
    pub run: Run,
    variables: BTreeMap<String, String>,
}

pub struct Ended {
    pub code: Option<i32>,
    pub said: String,
    pub errors: String,
    /// What was started since the job began.
    pub calls: Vec<String>,
}

impl Job {
    pub fn new(nodes: &[&str]) -> Self {
        let job = Self {
            run: Run::new(),
            variables: BTreeMap::new(),
        };
        let bin = job.path("home/target/release");
        fs::create_dir_all(&bin).unwrap();
        for name in FAKED {
            symlink(Path::new(REPOSITORY).join("tests/pbs/fake"), bin.join(name)).unwrap();
        }
        symlink(Path::new(REPOSITORY).join("pbs"), job.path("home/pbs")).unwrap();
        fs::create_dir_all(job.path("home/modules")).unwrap();
        fs::write(job.path("home/modules/node"), "export SITE_LOADED=1\n").unwrap();
        fs::write(job.path("nodes"), nodes.join("\n") + "\n").unwrap();
        fs::write(job.path("data.h5"), "windows").unwrap();
        fs::create_dir_all(job.path("jobfs")).unwrap();
        let here = job.run.dir.path().display().to_string();
        job.with("PBS_JOBID", "11.fake")
            .with("PBS_QUEUE", "gpuvolta-exec")
            .with("PBS_O_WORKDIR", &here)
            .with("PBS_NODEFILE", &format!("{here}/nodes"))
            .with("TFBIND_HOME", &format!("{here}/home"))
            .with("FAKE", &here)
            .with("HOME", &here)
            .with("DATA", "data.h5")
            .with("PATH", &format!("{}:/usr/bin:/bin", bin.display()))
            .qstat(&format!("Resource_List.ngpus = {}", 4 * nodes.len()))
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.run.path(name)
    }

    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.variables.insert(name.into(), value.into());
        self
    }

    pub fn without(mut self, name: &str) -> Self {
        self.variables.remove(name);
        self
    }

    pub fn qstat(self, lines: &str) -> Self {
        let lines: Vec<_> = lines.lines().map(|line| format!("    {line}\n")).collect();
        fs::write(self.path("qstat"), lines.concat()).unwrap();
        self
    }

    pub fn touch(self, name: &str) -> Self {
        fs::write(self.path(name), "").unwrap();
        self
    }

    pub fn command(&self, file: &str) -> Command {
        let mut command = Command::new("/bin/bash");
        command.arg(Path::new(REPOSITORY).join(file));
        command.env_clear().envs(&self.variables);
        command.current_dir("/");
        command.stdout(Stdio::null()).stderr(Stdio::null());
        command
    }

    pub fn run(&self, file: &str) -> Ended {
        let _ = fs::remove_file(self.path("calls"));
        let output = self
            .command(file)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .output()
            .unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let calls = fs::read_to_string(self.path("calls")).unwrap_or_default();
        Ended {
            code: output.status.code(),
            said: text(&output.stdout),
            errors: text(&output.stderr),
            calls: calls.lines().map(str::to_string).collect(),
        }
    }

    pub fn report(&self, run: &str) -> String {
        fs::read_to_string(self.path(run).join("job/report.txt")).unwrap()
    }
}

impl Ended {
    pub fn call(&self, with: &str) -> &str {
        let mut found = self.calls.iter().filter(|call| call.contains(with));
        let one = found.next();
        one.unwrap_or_else(|| panic!("no {with}: {:?} {} {}", self.calls, self.said, self.errors))
    }

    pub fn ok(self) -> Self {
        assert_eq!(self.code, Some(0), "{}{}", self.said, self.errors);
        self
    }
}
