//! Sweeps on groups of ranks: each trial as `train` alone trains it, and nothing lost or done twice when they are cut.

mod checked;

use std::{
    fs,
    process::{Child, Stdio},
    thread,
    time::{Duration, Instant},
};

use crate::common::{Run, kill, mpirun};

const SOON: Duration = Duration::from_secs(60);

/// What trials have in common; three steps an epoch.
const BASE: &str = "[base]\ndata = \"data.h5\"\narch = \"cnn\"\nengine = \"libtorch\"\nglobal_batch = 8\nthreads = 1\ndevice = \"cpu\"\nmetric = \"loss\"\n";

/// Writes sweep.toml.
fn write(run: &Run, head: &str, base: &str, search: &str) {
    write_all(run, head, &format!("{BASE}{base}"), search);
}

fn write_all(run: &Run, head: &str, base: &str, search: &str) {
    let text = format!("run = \"out\"\n{head}\n{base}\n[search]\n{search}\n");
    fs::write(run.path("sweep.toml"), text).unwrap();
}

/// The columns named of sweep.csv, a line a row.
fn column(run: &Run, name: &str) -> Vec<String> {
    let text = fs::read_to_string(run.path("out/sweep.csv")).unwrap();
    let mut lines = text.lines().map(|line| line.split(',').collect::<Vec<_>>());
    let names = lines.next().unwrap();
    let at = names.iter().position(|of| *of == name).expect(name);
    lines.map(|cells| cells[at].to_string()).collect()
}

fn start(run: &Run, ranks: usize) -> Child {
    let said = fs::File::create(run.path("said")).unwrap();
    mpirun(ranks, env!("CARGO_BIN_EXE_tfbind-mpi"), run.dir.path())
        .args(["--stall-timeout", "2", "sweep", "sweep.toml"])
        .current_dir(run.dir.path())
        .stdin(Stdio::null())
        .stdout(said.try_clone().unwrap())
        .stderr(said)
        .spawn()
        .unwrap()
}

fn said(run: &Run) -> String {
    fs::read_to_string(run.path("said")).unwrap()
}

fn wait_for(run: &Run, what: &str, done: impl Fn() -> bool) {
    let began = Instant::now();
    while !done() {
        assert!(began.elapsed() < SOON, "no {what}: {}", said(run));
        thread::sleep(Duration::from_millis(20));
    }
}

fn steps(run: &Run, trial: &str) -> usize {
    let text = fs::read_to_string(run.path(trial).join("metrics.jsonl"));
    text.map_or(0, |text| text.lines().count())
}

fn trial_number(folder: &str) -> usize {
    folder[folder.len() - 3..].parse().unwrap()
}

#[test]
fn a_trial_is_what_train_alone_does_on_as_many_ranks() {
    for (ranks, group) in [(2, 1), (2, 2), (4, 2)] {
        let mut run = Run::new();
        run.write_data(24, |_, _| {});
        let head = format!("method = \"grid\"\nranks_per_trial = {group}");
        write(
            &run,
            &head,
            "epochs = 2",
            "lr = [0.003, 0.02]\nseed = [1, 2]",
        );
        let said = run.ranks(ranks).ok(&["sweep", "sweep.toml"]);
        let groups = format!("4 trials on {} groups of {group} ranks", ranks / group);
        assert!(said.contains(&groups), "{said}");
        run.ranks(group);
        for (trial, lr, seed) in [(0, "0.003", "1"), (3, "0.02", "2")] {
            let alone = format!("alone{trial}");
            let settings = [
                "--arch",
                "cnn",
                "--engine",
                "libtorch",
                "--global-batch",
                "8",
                "--threads",
                "1",
                "--metric",
                "loss",
                "--epochs",
                "2",
                "--lr",
                lr,
                "--seed",
                seed,
            ];
            run.train(&alone, &settings);
            let trial = format!("out/trial-00{trial}");
            assert_eq!(run.losses(&alone), run.losses(&trial), "{trial}");
            assert!(run.last(&alone).sorted_tensors() == run.last(&trial).sorted_tensors());
            let plan = |of: &str| fs::read_to_string(run.path(of).join("plan.toml")).unwrap();
            assert_eq!(plan(&alone), plan(&trial));
        }
        // Best first, by the mean over the seeds; the best line is printed too.
        let means: Vec<f64> = column(&run, "mean")
            .iter()
            .map(|of| of.parse().unwrap())
            .collect();
        assert!(means[0] == means[1] && means[1] < means[2], "{means:?}");
        assert_eq!(column(&run, "state"), ["done"; 4]);
        assert_eq!(column(&run, "step"), ["6"; 4]);
        let best = format!("tfbind-mpi evaluate {}", column(&run, "run")[0]);
        assert!(said.contains(&best), "{said}");
        let picture = fs::read_to_string(run.path("out/sweep.svg")).unwrap();
        // A dot at the end of each curve, and one in each of the two panels.
        assert_eq!(picture.matches("<circle").count(), 12);
    }
}

#[test]
fn halving_lets_the_best_go_on_as_if_nobody_had_looked() {
    let mut run = Run::new();
    run.write_data(24, |_, _| {});
    let head = "method = \"halving\"\n[halving]\neta = 2";
    write(&run, head, "epochs = 4", "lr = [1e-6, 0.005, 0.01, 0.02]");
    let said = run.ranks(2).ok(&["sweep", "sweep.toml"]);
    assert!(said.contains("4 trials for 1 epochs"), "{said}");
    let mut steps: Vec<(String, String)> = column(&run, "trial")
        .into_iter()
        .zip(column(&run, "step"))
        .collect();
    assert_eq!(column(&run, "state"), ["done", "left", "left", "left"]);
    assert_eq!(steps[0].1, "12");
    let (best, lr) = (
        format!("out/trial-00{}", steps[0].0),
        &column(&run, "lr")[0],
    );
    steps.sort_by_key(|of| of.1.parse::<u64>().unwrap());
    assert_eq!(
        steps.iter().map(|of| of.1.as_str()).collect::<Vec<_>>(),
        ["3", "3", "6", "12"]
    );
    let result = |rung: usize, trial: usize| {
        let path = run.path(&format!("out/results/trial-{trial:03}.rung-{rung}.json"));
        let text = fs::read_to_string(path).ok()?;
        let result: serde_json::Value = serde_json::from_str(&text).unwrap();
        result["progress"]["best"].as_f64()
    };
    for rung in 0..2 {
        let of = |goes_on| {
            let trials = (0..4).filter(move |&trial| result(rung + 1, trial).is_some() == goes_on);
            trials
                .filter_map(move |trial| result(rung, trial))
                .collect::<Vec<_>>()
        };
        let (better, worse) = (of(true), of(false));
        assert_eq!((better.len(), worse.len()), (2 - rung, 2 - rung));
        assert!(
            better.iter().all(|a| worse.iter().all(|b| a < b)),
            "{better:?} {worse:?}"
        );
    }
    let settings = [
        "--arch",
        "cnn",
        "--engine",
        "libtorch",
        "--global-batch",
        "8",
        "--threads",
        "1",
        "--metric",
        "loss",
        "--epochs",
        "4",
        "--lr",
        lr,
    ];
    run.ranks(1).train("alone", &settings);
    assert_eq!(run.losses("alone"), run.losses(&best));
    assert!(run.last("alone").sorted_tensors() == run.last(&best).sorted_tensors());
    let said = run.ok(&["sweep", "sweep.toml"]);
    assert!(
        !said.contains("begins") && !said.contains("goes on on"),
        "{said}"
    );
}

#[test]
fn what_was_cut_goes_on_and_what_had_ended_is_not_done_again() {
    let mut run = Run::new();
    run.write_data(24, |_, _| {});
    // The first ends soon, the others only by what is done to them.
    let grid = "method = \"grid\"\nranks_per_trial = 2";
    write(&run, grid, "save_every = 1", "epochs = [1, 9998, 9999]");
    let mut job = start(&run, 4);
    let saved = |trial: &str| run.path(trial).join("last.safetensors");
    let first = run.path("out/results/trial-000.rung-0.json");
    let cut = ["out/trial-001", "out/trial-002"];
    wait_for(&run, "third trial", || {
        first.exists() && saved(cut[1]).exists()
    });
    kill("-9", &run.process(3));
    assert!(!job.wait().unwrap().success());
    let ended = || {
        fs::metadata(saved("out/trial-000"))
            .unwrap()
            .modified()
            .unwrap()
    };
    let before = (
        ended(),
        cut.map(|trial| run.last(trial).header.progress.step),
    );
    // The claims of a job that died are nobody's.
    assert!(run.path("out/claims/trial-001.rung-0").exists());

    // On other groups; a signal to one rank stops all of them.
    write(
        &run,
        "method = \"grid\"",
        "save_every = 1",
        "epochs = [1, 9998, 9999]",
    );
    let mut job = start(&run, 2);
    let beyond =
        |trial| run.last(trial).header.progress.step > before.1[trial_number(trial) - 1] + 1;
    wait_for(&run, "more steps", || cut.iter().all(|trial| beyond(trial)));
    kill("-TERM", &run.process(1));
    let code = job.wait().unwrap().code();
    assert_eq!(code, Some(75), "{}", said(&run));
    assert!(
        said(&run).contains("the same command goes on"),
        "{}",
        said(&run)
    );
    assert_eq!(ended(), before.0, "not done again");
    for trial in cut {
        let step = run.last(trial).header.progress.step;
        assert_eq!(run.losses(trial).len() as u64, step, "nothing is lost");
        let log = fs::read_to_string(run.path(trial).join("train.log")).unwrap();
        assert!(log.contains("resumed  after step"), "{log}");
    }
    assert_eq!(column(&run, "state"), ["done", "open", "open"]);

    write(&run, grid, "save_every = 1", "epochs = [1, 9998]");
    let error = run.ranks(2).fails(&["sweep", "sweep.toml"]);
    assert!(error.contains("out holds another sweep"), "{error}");
}

/// Runs to its end, and what it returns says that trials failed.
fn with_failures(run: &Run) -> String {
    let output = run.call(&["sweep", "sweep.toml"]);
    let [out, err] = [output.stdout, output.stderr].map(|of| String::from_utf8(of).unwrap());
    assert_eq!(output.status.code(), Some(1), "{out}\n{err}");
    out
}

#[test]
fn a_trial_that_diverges_is_noted_and_the_others_go_on() {
    let mut run = Run::new();
    run.write_data(24, |_, _| {});
    let base = "optimizer = \"sgd\"\nwarmup = 0\nschedule = \"none\"\nepochs = 2";
    write(
        &run,
        "method = \"grid\"\nranks_per_trial = 2",
        base,
        "lr = [1e30, 0.01, 0.02]",
    );
    let said = with_failures(run.ranks(4));
    assert!(
        said.contains("trial 0 failed: step 2: not finite"),
        "{said}"
    );
    assert!(said.contains("\n1 of 3 trials failed\n"), "{said}");
    assert_eq!(column(&run, "state"), ["done", "done", "failed"]);
    assert_eq!(column(&run, "lr")[2], "1e30");
    let table = fs::read_to_string(run.path("out/sweep.csv")).unwrap();
    assert!(
        table.lines().last().unwrap().contains("not finite"),
        "{table}"
    );
    // Nothing is left to do, and that trial has still failed.
    let said = with_failures(&run);
    assert!(!said.contains("begins"), "{said}");
}

#[test]
fn an_error_or_a_stall_within_a_group_ends_the_job_and_names_the_trial() {
    let mut run = Run::new();
    run.ranks(4).write_data(24, |row, window| {
        if row == 11 {
            window.signal[7] = half::f16::NAN
        }
    });
    let grid = "method = \"grid\"\nranks_per_trial = 2";
    write(&run, grid, "epochs = 2", "seed = [1]");
    let error = run.fails(&["sweep", "sweep.toml"]);
    assert_eq!(error.lines().count(), 1, "{error}");
    assert!(
        error.contains("trial 0 (seed = 1): ") && error.contains("row 11"),
        "{error}"
    );

    let run = Run::new();
    run.write_data(24, |_, _| {});
    write(&run, grid, "epochs = 9999", "seed = [1, 2]");
    let mut job = start(&run, 4);
    wait_for(&run, "steps", || steps(&run, "out/trial-001") > 3);
    // One of the second group.
    let (slow, stopped) = (run.process(3), Instant::now());
    kill("-STOP", &slow);
    assert!(!job.wait().unwrap().success());
    let took = stopped.elapsed();
    let said = said(&run);
    assert!(took < Duration::from_secs(15), "{took:?}: {said}");
    let error = said
        .lines()
        .find(|line| line.contains("error:"))
        .expect("a line");
    assert!(
        error.contains("error: rank 2 on ") && error.contains("): stalled"),
        "{said}"
    );
    // Either group was the first to claim.
    assert!(
        error.contains(": trial 0 (seed = 1)") || error.contains(": trial 1 (seed = 2)"),
        "{said}"
    );
    let named = error.contains("rank 3 on") && error.contains("did not arrive");
    assert!(named || error.contains("stalled for 2 s within"), "{said}");
}
