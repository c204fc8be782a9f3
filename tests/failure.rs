//! Bad input and dying ranks: one clear line, a non-zero code, and no rank left behind.

use std::{
    fs,
    process::{Command, ExitCode, Stdio},
    thread,
    time::{Duration, Instant},
};

use half::f16;
use hdf5::{Hyperslab, SliceOrIndex};
use ndarray::arr0;
use tfbind_mpi::{
    job::on_all_ranks,
    scaling::{random_header, random_window},
};
use tfbind_prep::schema::DataWriter;

use crate::common::{LENGTH, Run, mpirun, open_to_spoil};

const TRAIN: [&str; 11] = [
    "train", "--data", "data.h5", "--run", "run", "--device", "cpu", "--batch", "4", "--epochs",
    "1",
];

#[test]
fn a_rank_that_meets_a_bad_row_ends_all_ranks_in_seconds() {
    let mut run = Run::new();
    run.ranks(4).write_data(16, |row, window| {
        if row == 11 {
            window.signal[7] = f16::NAN
        }
    });
    let start = Instant::now();
    let error = run.fails(&TRAIN);
    assert!(
        start.elapsed() < Duration::from_secs(5),
        "{:?}",
        start.elapsed()
    );
    assert!(
        error.contains("data.h5") && error.contains("row 11") && error.contains("NaN"),
        "{error}"
    );
    assert_eq!(error.lines().count(), 1, "{error}");
}

#[test]
fn labels_and_bases_that_cannot_be_are_named() {
    for (dataset, place, expected) in [("label", vec![2, 0, 5], "3"), ("seq", vec![2, 5], "9")] {
        let run = Run::new();
        let data = run.write_data(8, |_, _| {});
        // The writer refuses such values: put them in behind its back.
        let file = open_to_spoil(&data);
        let place: Vec<SliceOrIndex> = place.into_iter().map(SliceOrIndex::Index).collect();
        let value = expected.parse::<i8>().unwrap();
        let dataset = file.dataset(&format!("train/{dataset}")).unwrap();
        match value {
            3 => dataset
                .write_slice(&arr0(3i8), Hyperslab::from(place))
                .unwrap(),
            _ => dataset
                .write_slice(&arr0(9u8), Hyperslab::from(place))
                .unwrap(),
        }
        drop((dataset, file));
        let error = run.fails(&TRAIN);
        assert!(
            error.contains("row 2") && error.contains(expected) && error.contains("train"),
            "{error}"
        );
    }
}

/// Runs only as a child of the next test: rank 1 panics while the others wait for it.
#[test]
fn panicking_child() {
    if std::env::var_os("TFBIND_PANICKING_CHILD").is_some() {
        on_all_ranks(Duration::from_secs(60), |comm| {
            assert_ne!(comm.rank(), 1, "rank 1 panics on purpose");
            comm.barrier();
            Ok(ExitCode::SUCCESS)
        });
    }
}

#[test]
fn a_panic_on_one_rank_ends_all_ranks_in_seconds() {
    let own = std::env::current_exe().unwrap();
    let start = Instant::now();
    let run = Run::new();
    let output = mpirun(3, own.to_str().unwrap(), run.dir.path())
        .args(["--exact", "failure::panicking_child", "--nocapture"])
        .env("TFBIND_PANICKING_CHILD", "1")
        .output()
        .unwrap();
    assert!(!output.status.success());
    assert!(
        start.elapsed() < Duration::from_secs(5),
        "{:?}",
        start.elapsed()
    );
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(
        error.contains("rank 1 on") && error.contains("panics on purpose"),
        "{error}"
    );
}

#[test]
fn a_killed_rank_ends_the_job_and_the_last_checkpoint_stays_good() {
    let mut run = Run::new();
    run.ranks(2).write_data(64, |_, _| {});
    let mut job = mpirun(2, env!("CARGO_BIN_EXE_tfbind-mpi"), run.dir.path())
        .args([
            "train", "--data", "data.h5", "--run", "run", "--device", "cpu", "--batch", "2",
            "--epochs", "9999",
        ])
        .args(["--save-every", "2"])
        .current_dir(run.dir.path())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(fs::File::create(run.path("stderr")).unwrap())
        .spawn()
        .unwrap();
    let last = run.path("run/last.safetensors");
    let started = Instant::now();
    while !last.exists() {
        let said = || fs::read_to_string(run.path("stderr")).unwrap();
        assert_eq!(job.try_wait().unwrap(), None, "ended early: {}", said());
        let late = started.elapsed() > Duration::from_secs(60);
        assert!(!late, "no checkpoint after a minute: {}", said());
        thread::sleep(Duration::from_millis(50));
    }
    let kill = Command::new("kill").args(["-9", &run.process(1)]).status();
    assert!(kill.unwrap().success());
    let killed = Instant::now();
    assert!(!job.wait().unwrap().success());
    assert!(
        killed.elapsed() < Duration::from_secs(5),
        "{:?}",
        killed.elapsed()
    );
    let before = run.last("run").header.progress.step;
    let stop = (before + 3).to_string();
    run.ok(&["train", "--run", "run", "--resume", "--stop-at", &stop]);
    assert_eq!(run.losses("run").len() as u64, before + 3);
}

#[test]
fn files_that_are_cut_short_or_of_another_version_are_named() {
    let run = Run::new();
    let data = run.write_data(8, |_, _| {});
    run.train("run", &["--batch", "4", "--epochs", "1"]);

    let checkpoint = run.path("run/best.safetensors");
    let bytes = fs::read(&checkpoint).unwrap();
    fs::write(&checkpoint, &bytes[..bytes.len() / 2]).unwrap();
    let error = run.fails(&["evaluate", "run", "--device", "cpu"]);
    assert!(
        error.contains("best.safetensors") && error.contains("cut short"),
        "{error}"
    );
    fs::write(&checkpoint, &bytes).unwrap();

    let bytes = fs::read(&data).unwrap();
    fs::write(&data, &bytes[..bytes.len() / 2]).unwrap();
    let error = run.fails(&["evaluate", "run", "--device", "cpu"]);
    assert!(
        error.contains("data.h5") && error.contains("cut short"),
        "{error}"
    );
    fs::write(&data, &bytes).unwrap();

    let file = open_to_spoil(&data);
    file.attr("schema_version")
        .unwrap()
        .write_scalar(&99u32)
        .unwrap();
    drop(file);
    let error = run.fails(&["evaluate", "run", "--device", "cpu"]);
    assert!(error.contains("99") && error.contains("version"), "{error}");
}

#[test]
fn data_with_nothing_held_out_is_refused_with_a_remedy() {
    let run = Run::new();
    let header = random_header(LENGTH);
    let mut writer = DataWriter::create(run.path("data.h5"), &header, true).unwrap();
    writer.push("train", &random_window(0, LENGTH)).unwrap();
    writer.finish().unwrap();
    let error = run.fails(&TRAIN);
    assert!(
        error.contains("data.h5: there is no split `valid`; it has train; a run needs")
            && error.contains("--valid CONTIG"),
        "{error}"
    );
}

#[test]
fn what_was_asked_for_is_what_runs_or_an_error() {
    let mut run = Run::new();
    run.write_data(8, |_, _| {});
    if !tch::Cuda::is_available() {
        let mut cuda = TRAIN;
        cuda[6] = "cuda";
        assert!(run.fails(&cuda).contains("sees no GPU"));
    }
    fs::write(run.path("plan.toml"), "epohcs = 3\n").unwrap();
    let error = run.fails(&["train", "--run", "run", "--from", "plan.toml"]);
    assert!(
        error.contains("plan.toml") && error.contains("epohcs"),
        "{error}"
    );
    assert!(
        run.fails(&["train", "--run", "run", "--resume"])
            .contains("last.safetensors")
    );
    for (flags, expected) in [
        (&["--momentum", "0.5"][..], "--momentum belongs to sgd"),
        (&["--decay-epochs", "3"], "belong to --schedule step"),
        (&["--shift", "4"], "margin of the data, 0"),
        (&["--threads", "0"], "--threads must be at least 1"),
        (&["--threads", "2147483648"], "at most 2147483647"),
        (&["--stall-timeout", "1e30"], "not a number of seconds"),
    ] {
        let error = run.ranks(2).fails(&[&TRAIN[..], flags].concat());
        assert!(error.contains(expected), "{error}");
        assert_eq!(error.lines().count(), 1, "said once for all ranks: {error}");
    }
    run.ranks(1).ok(&TRAIN);
    assert!(run.fails(&TRAIN).contains("holds a run already"));
    for command in ["evaluate", "predict", "explain"] {
        let error = run.fails(&[command, "run", "--device", "cpu", "--threads", "0"]);
        assert!(error.contains("--threads must be at least 1"), "{error}");
    }
}

/// A shell that sets limits and becomes the program, on each of two ranks.
fn limited(run: &Run, limits: &str, arguments: &[&str]) -> String {
    let program = env!("CARGO_BIN_EXE_tfbind-mpi");
    let script = format!("{limits}; exec {program} \"$@\"");
    let output = mpirun(2, "bash", run.dir.path())
        .args(["-c", &script, "bash"])
        .args(arguments)
        .current_dir(run.dir.path())
        .output()
        .unwrap();
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success(), "{error}");
    let lines: Vec<&str> = error
        .lines()
        .filter(|line| line.contains("error:"))
        .collect();
    assert_eq!(lines.len(), 1, "{error}");
    lines[0].to_string()
}

#[test]
fn a_full_disk_leaves_the_last_checkpoint() {
    let mut run = Run::new();
    run.write_data(16, |_, _| {});
    run.ranks(2)
        .train("run", &["--batch", "4", "--epochs", "9", "--stop-at", "3"]);
    let before = run.last("run").sorted_tensors();
    // A file may not grow over 5.1 MB, a checkpoint has 5.7: to the program it is a write that fails. The shared memory
    // of MPICH is made of files too, of more than 4 MB.
    let error = limited(
        &run,
        "trap '' XFSZ; ulimit -f 5000",
        &["train", "--run", "run", "--resume"],
    );
    assert!(
        error.contains("writing run/") && error.contains(".safetensors: "),
        "{error}"
    );
    assert!(run.last("run").sorted_tensors() == before);
    run.ok(&["train", "--run", "run", "--resume", "--stop-at", "6"]);
}

/// Rank 1 runs in a folder of its own, as on a host where the file was not staged.
#[test]
fn a_file_that_one_rank_cannot_read_ends_all() {
    let run = Run::new();
    run.write_data(16, |_, _| {});
    let there =
        "[ \"${OMPI_COMM_WORLD_RANK:-$PMI_RANK}\" = 0 ] || { mkdir -p elsewhere && cd elsewhere; }";
    let start = Instant::now();
    let error = limited(&run, there, &TRAIN);
    assert!(
        error.contains("rank 1 on") && error.contains("data.h5"),
        "{error}"
    );
    assert!(
        start.elapsed() < Duration::from_secs(8),
        "{:?}",
        start.elapsed()
    );
}
