//! What `report` draws and tables.

use std::fs;

use tfbind_mpi::checkpoint::Checkpoint;

use super::{TARGETS, trained, write_these};

/// The numbers before each space of a path that is drawn as `M70.0 10.0L71.0 9.0`.
fn across(path: &str) -> Vec<f64> {
    let points = path
        .split(['M', 'L', 'Z'])
        .filter(|point| !point.is_empty());
    points
        .map(|point| point.split(' ').next().unwrap().parse().unwrap())
        .collect()
}

#[test]
fn predictions_of_other_targets_are_not_drawn() {
    let run = trained();
    run.ok(&["predict", "run", "--device", "cpu"]);
    let mut swapped = TARGETS;
    swapped.swap(0, 2);
    write_these(&run.path("swapped.h5"), &swapped);
    // One target and more labels: every base has one.
    run.write_data(8, |_, _| {});
    for data in ["swapped.h5", "data.h5"] {
        let error = run.fails(&["report", "run", "--data", data]);
        assert!(
            error.contains("predictions_test.h5: predicts [\"a\"")
                && error.contains(&format!("{data} holds"))
                && error.contains("predict` on it again"),
            "{error}"
        );
    }
}

#[test]
fn numbers_of_an_older_checkpoint_are_marked_until_they_are_renewed() {
    let run = trained();
    let of = |command: &'static str| run.ok(&[command, "run", "--device", "cpu"]);
    let report = || {
        let said = run.ok(&["report", "run"]);
        (
            said,
            fs::read_to_string(run.path("run/report.html")).unwrap(),
        )
    };
    of("evaluate");
    of("predict");
    let (said, page) = report();
    assert!(
        !said.contains("note:") && !page.contains("older checkpoint"),
        "{said}"
    );
    // As if the second epoch were the better one, which it need not be.
    let best = run.path("run/best.safetensors");
    let before = Checkpoint::read(&best).unwrap().header.progress.step;
    run.ok(&["train", "--run", "run", "--resume", "--epochs", "2"]);
    fs::copy(run.path("run/last.safetensors"), &best).unwrap();
    let now = run.last("run").header.progress.step;
    let older = format!("of an older checkpoint (step {before}; the run's is now of step {now})");
    let (said, page) = report();
    // Metrics, targets and predictions.
    assert_eq!(page.matches(&older).count(), 3, "{said}");
    assert_eq!(said.matches(&older).count(), 2, "{said}");
    of("evaluate");
    let (said, page) = report();
    assert_eq!(page.matches(&older).count(), 1, "{said}");
    assert!(said.contains("`tfbind-mpi predict` renews this"), "{said}");
    of("predict");
    assert!(!report().1.contains("older checkpoint"));
}

#[test]
fn predictions_take_the_place_of_nothing_that_they_are_made_from() {
    let run = trained();
    fs::copy(run.path("data.h5"), run.path("copy.h5")).unwrap();
    fs::create_dir(run.path("folder")).unwrap();
    for (out, data) in [
        ("folder/../data.h5", "data.h5"),
        ("data.h5", "copy.h5"),
        ("copy.h5", "copy.h5"),
        ("run/best.safetensors", "data.h5"),
    ] {
        let before = fs::read(run.path(out)).unwrap();
        let error = run.fails(&[
            "predict", "run", "--data", data, "--out", out, "--device", "cpu",
        ]);
        assert!(error.contains(&format!("--out {out}: this is ")), "{error}");
        assert!(fs::read(run.path(out)).unwrap() == before, "{out}");
    }
}

#[test]
fn a_checkpoint_by_its_name_has_files_of_its_own() {
    let run = trained();
    for command in ["evaluate", "predict"] {
        run.ok(&[command, "run/last.safetensors", "--device", "cpu"]);
    }
    for (name, there) in [
        ("evaluation_metrics_last.csv", true),
        ("evaluation_metrics_last.json", true),
        ("evaluation_targets_last.csv", true),
        ("predictions_test_last.h5", true),
        ("evaluation_metrics.csv", false),
        ("predictions_test.h5", false),
    ] {
        assert_eq!(run.path("run").join(name).exists(), there, "{name}");
    }
}

#[test]
fn a_report_is_of_its_split_and_draws_what_windows_score() {
    let run = trained();
    for split in ["test", "valid"] {
        let of = ["--split", split, "--device", "cpu"];
        run.ok(&[&["evaluate", "run"][..], &of].concat());
        run.ok(&[&["predict", "run"][..], &of].concat());
    }
    let csv = |name: &str| {
        let text = fs::read_to_string(run.path("run").join(name)).unwrap();
        let loss = text.lines().nth(1).unwrap().split(',').next().unwrap();
        format!(">{loss}</td>")
    };
    let (test, valid) = (
        csv("evaluation_metrics.csv"),
        csv("evaluation_metrics_valid.csv"),
    );
    assert_ne!(test, valid);
    for (split, own, other) in [("valid", &valid, &test), ("test", &test, &valid)] {
        run.ok(&["report", "run", "--split", split]);
        let page = fs::read_to_string(run.path("run/report.html")).unwrap();
        assert!(page.contains(&format!("Metrics on {split}<")), "{split}");
        assert!(page.contains(&format!("Targets on {split}<")), "{split}");
        assert!(page.contains(own) && !page.contains(other), "{split}");
    }
    let picture = fs::read_to_string(run.path("run/genome.svg")).unwrap();
    let areas = picture
        .lines()
        .filter(|line| line.contains("stroke=\"none\""));
    let areas: Vec<Vec<f64>> = areas
        .map(|line| across(line.split('"').nth(1).unwrap()))
        .collect();
    // 20,000 bases are more than the split has; four targets are drawn.
    assert_eq!(areas.len(), 4 * 37);
    for area in areas {
        // 815 pixels hold 37 windows.
        let (first, last) = (area[0], area[area.len() - 1]);
        assert!((last - first - 815.0 / 37.0).abs() < 0.2, "{area:?}");
    }
}
