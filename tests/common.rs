//! An end-to-end test in five lines: `let run = Run::new(); run.write_data(...); run.ranks(2).train(&[...])`.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use tempfile::TempDir;
use tfbind_mpi::{
    checkpoint::Checkpoint,
    comm::RANKS,
    scaling::{random_header, random_window},
};
use tfbind_prep::schema::{DataWriter, Window};

pub const LENGTH: usize = 64;

pub struct Run {
    pub dir: TempDir,
    ranks: usize,
}

/// A program on N ranks, started by the launcher `MPIRUN`: it must be that of the library that the program is built
/// with. `scratch` is for Open MPI's own files: two jobs that share a folder there race when one is aborted while the
/// other starts.
pub fn mpirun(ranks: usize, program: &str, scratch: &Path) -> Command {
    let launcher = env::var_os("MPIRUN").unwrap_or("mpirun".into());
    let mut command = Command::new(launcher);
    command.env("TMPDIR", scratch);
    command.args(["-np", &ranks.to_string(), program]);
    for (name, value) in [
        ("OMPI_ALLOW_RUN_AS_ROOT", "1"),
        ("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1"),
        ("OMPI_MCA_rmaps_base_oversubscribe", "1"),
        // Tests run side by side: every mpirun would bind its ranks to the same first cores.
        ("OMPI_MCA_hwloc_base_binding_policy", "none"),
        ("PRTE_MCA_rmaps_default_mapping_policy", ":oversubscribe"),
        ("PRTE_MCA_hwloc_default_binding_policy", "none"),
    ] {
        command.env(name, value);
    }
    command
}

/// Whether this program, and so the one under test, is built with MPICH.
pub fn mpich() -> bool {
    let library = mpi::environment::library_version();
    library.is_ok_and(|name| name.starts_with("MPICH"))
}

/// Processes in whose environment stands `variable`, as `NAME=value`, with the number of those that are ranks. A rank
/// need not be a child of mpirun: MPICH starts a proxy between them.
pub fn processes(variable: &str) -> Vec<(u32, Option<usize>)> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").expect("processes are found in /proc") {
        let name = entry.expect("/proc is read").file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        // Empty or gone for a process that has ended.
        let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        let mut variables = environment.split(|&byte| byte == 0);
        if variables.clone().all(|of| of != variable.as_bytes()) {
            continue;
        }
        let rank = variables.find_map(|of| {
            let (name, value) = std::str::from_utf8(of).ok()?.split_once('=')?;
            RANKS.contains(&name).then(|| value.parse().ok())?
        });
        found.push((pid, rank));
    }
    found
}

pub fn kill(signal: &str, process: &str) {
    let status = Command::new("kill").args([signal, process]).status();
    assert!(status.unwrap().success());
}

impl Run {
    pub fn new() -> Self {
        Self {
            dir: tempfile::tempdir().expect("a temporary folder"),
            ranks: 1,
        }
    }

    /// 1 means without mpirun.
    pub fn ranks(&mut self, ranks: usize) -> &mut Self {
        self.ranks = ranks;
        self
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The process of a rank of the job that mpirun started with this folder as its scratch.
    pub fn process(&self, rank: usize) -> String {
        let found = processes(&format!("TMPDIR={}", self.dir.path().display()));
        let process = found.iter().find(|(_, of)| *of == Some(rank));
        process.expect("the rank lives").0.to_string()
    }

    /// Windows of random bases and signal; positives around each CACGTG, some labels masked. `spoil` may change a
    /// training window.
    pub fn write_data(&self, train: usize, spoil: impl Fn(usize, &mut Window)) -> PathBuf {
        let path = self.path("data.h5");
        let mut writer = DataWriter::create(&path, &random_header(LENGTH), true).unwrap();
        let mut start = 0;
        for (split, windows) in [("train", train), ("valid", 10), ("test", 13)] {
            for row in 0..windows {
                let mut window = random_window(start, LENGTH);
                start += LENGTH as i64;
                if split == "train" {
                    spoil(row, &mut window);
                }
                writer.push(split, &window).unwrap();
            }
        }
        writer.finish().unwrap();
        path
    }

    pub fn call(&self, arguments: &[&str]) -> Output {
        let program = env!("CARGO_BIN_EXE_tfbind-mpi");
        let mut command = if self.ranks == 1 {
            Command::new(program)
        } else {
            mpirun(self.ranks, program, self.dir.path())
        };
        command
            .args(arguments)
            .current_dir(self.dir.path())
            .output()
            .expect("the program starts")
    }

    pub fn ok(&self, arguments: &[&str]) -> String {
        let output = self.call(arguments);
        let (out, err) = (
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr),
        );
        assert!(output.status.success(), "{arguments:?}\n{out}\n{err}");
        out.into_owned()
    }

    /// Fails with a non-zero code; returns the lines that begin with `error:`.
    pub fn fails(&self, arguments: &[&str]) -> String {
        let output = self.call(arguments);
        assert!(!output.status.success(), "{arguments:?} should have failed");
        let err = String::from_utf8_lossy(&output.stderr).into_owned();
        let lines: Vec<&str> = err.lines().filter(|line| line.contains("error:")).collect();
        assert!(!lines.is_empty(), "no error line: {err}");
        lines.join("\n")
    }

    pub fn train(&self, run: &str, arguments: &[&str]) -> String {
        self.ok(&[
            &[
                "train", "--data", "data.h5", "--run", run, "--device", "cpu",
            ],
            arguments,
        ]
        .concat())
    }

    /// Losses of the steps that a run logged.
    pub fn losses(&self, run: &str) -> Vec<f64> {
        let text = std::fs::read_to_string(self.path(run).join("metrics.jsonl")).unwrap();
        text.lines()
            .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap())
            .filter(|line| line["event"] == "step")
            .map(|line| line["loss"].as_f64().unwrap())
            .collect()
    }

    pub fn last(&self, run: &str) -> Checkpoint {
        Checkpoint::read(&self.path(run).join("last.safetensors")).unwrap()
    }
}

/// Opened without a lock: a child that another test forked while this file was written may still hold the first one.
pub fn open_to_spoil(data: &Path) -> hdf5::File {
    let mut builder = hdf5::FileBuilder::new();
    builder.with_fapl(|access| access.file_locking(false));
    builder.open_rw(data).unwrap()
}
