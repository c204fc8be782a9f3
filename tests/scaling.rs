//! `bench scaling` on this machine: it starts mpirun by itself.

use std::{collections::HashMap, fs};

use crate::common::{Run, mpirun};

/// A study of seconds, with whatever else is typed, also for train after a `--`.
fn scaling(run: &Run, arguments: &[&str]) -> (String, String, bool) {
    let program = env!("CARGO_BIN_EXE_tfbind-mpi");
    // Environment and command as for any ranks here.
    let like = mpirun(1, program, run.dir.path());
    let mut command = std::process::Command::new(program);
    for (name, value) in like.get_envs() {
        command.env(name, value.unwrap_or_default());
    }
    let words = "bench scaling --out scaling --steps 4 --warmup 2 --repeats 2 --batch 2";
    let of_train = ["--", "--arch", "cnn", "--device", "cpu"];
    let dashes = usize::from(arguments.contains(&"--"));
    let output = command
        .args(words.split(' '))
        .args(arguments)
        .args(&of_train[dashes..])
        .current_dir(run.dir.path())
        .output()
        .unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    (out, err, output.status.success())
}

fn rows(run: &Run) -> Vec<HashMap<String, String>> {
    let text = fs::read_to_string(run.path("scaling/scaling.csv")).unwrap();
    let mut lines = text.lines().map(|line| line.split(',').map(String::from));
    let names: Vec<String> = lines.next().unwrap().collect();
    lines
        .map(|cells| names.iter().cloned().zip(cells).collect())
        .collect()
}

#[test]
fn two_ranks_are_compared_with_one_and_a_study_goes_on() {
    let run = Run::new();
    let arguments = [
        "--ranks",
        "1,2",
        "--length",
        "64",
        "--su-rate",
        "3",
        "--cpus-per-rank",
        "12",
    ];
    let (out, err, good) = scaling(&run, &arguments);
    assert!(good, "{out}\n{err}");
    let last = out.lines().last().unwrap();
    assert_eq!(
        last,
        "written scaling/scaling.csv scaling/scaling.json scaling/scaling.svg"
    );

    let rows = rows(&run);
    let number = |row: &HashMap<String, String>, name: &str| row[name].parse::<f64>().unwrap();
    let measured: Vec<_> = rows
        .iter()
        .filter(|row| !row["samples_per_s"].is_empty())
        .collect();
    let found: Vec<_> = measured
        .iter()
        .map(|row| (&row["mode"][..], &row["ranks"][..]))
        .collect();
    assert_eq!(
        found,
        [
            ("weak", "1"),
            ("weak", "2"),
            ("strong", "1"),
            ("strong", "2")
        ]
    );
    for row in &measured {
        let (speed, step) = (number(row, "samples_per_s"), number(row, "step_s"));
        assert!(
            speed > 0.0 && number(row, "samples_per_s_sd") >= 0.0,
            "{row:?}"
        );
        // No less than the windows of a step, as the mean of 1 / x is no less than 1 / the mean.
        assert!(
            speed * step > 0.999 * number(row, "global_batch"),
            "{row:?}"
        );
        let names = row.keys().filter(|name| name.starts_with("share_"));
        let whole: f64 = names.map(|name| number(row, name)).sum();
        assert!((whole - 1.0).abs() < 1e-4, "{row:?}");
        // 3 SU an hour of each of 12 CPUs of a rank.
        let su = number(row, "ranks") * 36.0 / 3600.0 / speed * 1e6;
        assert!(
            (number(row, "su_per_million_samples") / su - 1.0).abs() < 1e-3,
            "{row:?}"
        );
    }
    assert_eq!(number(measured[0], "efficiency"), 1.0);
    let weak: Vec<_> = rows.iter().filter(|row| row["mode"] == "weak").collect();
    assert_eq!(weak.last().unwrap()["ranks"], "512");
    // The prediction begins where one rank was measured.
    for row in measured.iter().filter(|row| row["ranks"] == "1") {
        let ratio = number(row, "predicted_samples_per_s") / number(row, "samples_per_s");
        assert!((ratio - 1.0).abs() < 1e-6, "{row:?}");
    }

    let text = fs::read_to_string(run.path("scaling/scaling.json")).unwrap();
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(json["points"].as_array().unwrap().len(), rows.len());
    assert_eq!(json["doctor"][1]["hosts"].as_array().unwrap().len(), 2);
    assert!(
        json["model"]["inside"]["bandwidth"].as_f64() > Some(0.0),
        "{text}"
    );
    let svg = fs::read_to_string(run.path("scaling/scaling.svg")).unwrap();
    for part in [
        "samples/s",
        "efficiency of a rank",
        "predicted only",
        "backward",
        "stroke-dasharray",
    ] {
        assert!(svg.contains(part), "{part}");
    }

    // What was run is not run again; the same numbers come out.
    let (again, err, good) = scaling(&run, &arguments);
    assert!(good, "{again}\n{err}");
    let rounds = |text: &str| -> Vec<String> {
        let lines = text.lines().filter(|line| line.starts_with("round"));
        lines.map(String::from).collect()
    };
    assert_eq!(rounds(&again), rounds(&out));
    let (_, err, good) = scaling(&run, &["--ranks", "1,2", "--length", "128"]);
    assert!(!good && err.contains("other settings"), "{err}");
}

#[test]
fn what_cannot_run_is_said_before_it_starts() {
    let run = Run::new();
    run.write_data(8, |_, _| {});
    for (arguments, said) in [
        (&["--ranks", "2,1"][..], "--ranks must ascend"),
        (&["--ranks", "1"], "nothing to compare with"),
        (
            &["--ranks", "1,2", "--mpirun", "no-such-launcher"],
            "no-such-launcher cannot be started",
        ),
        (
            &["--ranks", "1,8", "--data", "data.h5"],
            "holds 8 training windows, fewer than the 16",
        ),
        (
            &["--ranks", "1,2", "--target", "prauc=1"],
            "not METRIC=VALUE",
        ),
        (&["--ranks", "1,2", "--length", "5"], "--length 5: "),
        (
            &[
                "--ranks",
                "1,2",
                "--length",
                "64",
                "--",
                "--accumulate",
                "0",
            ],
            "--accumulate must be at least 1",
        ),
        (
            &["--ranks", "1,2", "--length", "64", "--", "--width", "0.5"],
            "--width: cnn has one width",
        ),
        (
            &["--ranks", "1,2", "--", "--resume"],
            "--resume is nothing for a timed run",
        ),
        (
            &["--ranks", "1,8", "--data", "data.h5", "--", "--epochs", "3"],
            "--epochs is left out",
        ),
    ] {
        let (out, err, good) = scaling(&run, arguments);
        assert!(!good && err.contains(said), "{arguments:?}: {out}\n{err}");
        assert!(!run.path("scaling").exists(), "{arguments:?}");
    }
    fs::create_dir(run.path("scaling")).unwrap();
    fs::write(run.path("scaling/mine"), "").unwrap();
    let (_, err, good) = scaling(&run, &["--ranks", "1,2"]);
    assert!(!good && err.contains("is not empty"), "{err}");
}

#[test]
fn a_run_that_fails_shows_its_last_lines() {
    let run = Run::new();
    // The launcher is there and starts nothing.
    let (_, err, good) = scaling(
        &run,
        &[
            "--ranks",
            "1,2",
            "--length",
            "64",
            "--mpirun",
            "ls /no/such/place",
        ],
    );
    assert!(!good, "{err}");
    assert!(
        err.contains("doctor-1: ls /no/such/place -np 1 doctor failed"),
        "{err}"
    );
    assert!(err.contains("says\n    ls: "), "{err}");
}
