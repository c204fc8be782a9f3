//! The doctor's screen on this machine, healthy and with faults made on purpose.

use std::{fs, os::unix::fs::PermissionsExt, process::Command};

use crate::common::Run;

const CHECKS: [&str; 12] = [
    "mpi",
    "cores",
    "device",
    "libtorch",
    "kernel",
    "hdf5",
    "data",
    "reading",
    "allreduce",
    "pace",
    "clock",
    "folder",
];

/// Its lines and whether it found no failure.
fn screen(run: &Run, arguments: &[&str]) -> (String, bool) {
    let output = run.call(&[&["doctor", "--device", "cpu", "--arch", "cnn"], arguments].concat());
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(text.lines().count() <= 30, "{text}");
    assert!(
        text.lines()
            .last()
            .unwrap_or_default()
            .starts_with("doctor: "),
        "{text}"
    );
    (text, output.status.success())
}

fn line<'a>(text: &'a str, check: &str) -> &'a str {
    let found = text
        .lines()
        .find(|line| line.split_whitespace().nth(1) == Some(check));
    found.unwrap_or_else(|| panic!("no line about {check}: {text}"))
}

#[test]
fn a_healthy_machine_has_no_failure_on_one_rank_or_two() {
    let mut run = Run::new();
    run.write_data(8, |_, _| {});
    for ranks in [1, 2] {
        run.ranks(ranks);
        let (text, good) = screen(&run, &["--data", "data.h5"]);
        assert!(good && text.contains(" 0 failures"), "{text}");
        for check in CHECKS {
            assert!(!line(&text, check).starts_with("FAIL"), "{text}");
        }
        assert!(
            line(&text, "data").contains("train 8, valid 10, test 13 windows of 64 bases"),
            "{text}"
        );
        let reduced = match ranks {
            1 => "one rank: nothing to reduce",
            _ => "266.2 kB of cnn's gradient in",
        };
        assert!(line(&text, "allreduce").contains(reduced), "{text}");
        assert!(!fs::read_dir(run.dir.path()).unwrap().any(|entry| {
            entry
                .unwrap()
                .file_name()
                .to_string_lossy()
                .starts_with(".tfbind")
        }));
    }
}

#[test]
fn a_missing_data_file_and_a_missing_folder_fail_and_the_rest_is_still_said() {
    let mut run = Run::new();
    for ranks in [1, 2] {
        run.ranks(ranks);
        let (text, good) = screen(&run, &["--data", "nowhere.h5", "--run", "no/such"]);
        assert!(!good && text.contains(" 2 failures"), "{text}");
        let data = line(&text, "data");
        assert!(
            data.starts_with("FAIL") && data.contains("nowhere.h5") && data.contains(" -> "),
            "{text}"
        );
        let folder = line(&text, "folder");
        assert!(
            folder.starts_with("FAIL") && folder.contains("no/such"),
            "{text}"
        );
        assert!(
            text.contains("ok   allreduce") || text.contains("warn allreduce"),
            "{text}"
        );
    }
}

#[test]
fn processes_that_a_foreign_launcher_left_alone_fail() {
    let run = Run::new();
    let doctor = |rank: &str| {
        Command::new(env!("CARGO_BIN_EXE_tfbind-mpi"))
            .args(["doctor", "--device", "cpu", "--arch", "cnn"])
            .current_dir(run.dir.path())
            .env("SLURM_NTASKS", "4")
            .env("SLURM_PROCID", rank)
            .output()
            .unwrap()
    };
    let (first, second) = (doctor("0"), doctor("1"));
    let text = String::from_utf8_lossy(&first.stdout);
    assert!(!first.status.success() && !second.status.success());
    assert!(line(&text, "mpi").starts_with("FAIL"), "{text}");
    assert!(
        line(&text, "mpi").contains("SLURM_NTASKS speaks of 4"),
        "{text}"
    );
    assert!(second.stdout.is_empty(), "one of them speaks");
}

/// A driver with two V100 is played by a script; the libtorch of the tests may be a CPU build.
#[test]
fn gpus_that_libtorch_does_not_see_fail() {
    if tch::Cuda::device_count() > 0 {
        return;
    }
    let run = Run::new();
    let smi = run.path("nvidia-smi");
    fs::write(
        &smi,
        "#!/bin/sh\necho '0, GPU-a, Tesla V100, 7.0, 32768, 535.1'\necho '1, GPU-b, Tesla V100, 7.0, 32768, 535.1'\n",
    )
    .unwrap();
    fs::set_permissions(&smi, fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!(
        "{}:{}",
        run.dir.path().display(),
        std::env::var("PATH").unwrap()
    );
    let output = Command::new(env!("CARGO_BIN_EXE_tfbind-mpi"))
        .args(["doctor", "--arch", "cnn"])
        .current_dir(run.dir.path())
        .env("PATH", path)
        .env_remove("CUDA_VISIBLE_DEVICES")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(!output.status.success());
    let gpu = line(&text, "gpu");
    assert!(
        gpu.starts_with("FAIL") && gpu.contains("2 x Tesla V100"),
        "{text}"
    );
}
