//! 10 steps = 5 + 5, bit for bit at the same number of ranks, and to rounding at another.

use std::fs::{self, File};

use crate::common::Run;

/// Batch norm and Adam's moments included; the epoch of 3 steps is cut in its middle.
const PLAN: [&str; 8] = [
    "--global-batch",
    "8",
    "--epochs",
    "4",
    "--lr",
    "0.01",
    "--seed",
    "3",
];

fn weights(run: &Run, name: &str) -> Vec<(String, Vec<f32>)> {
    run.last(name).sorted_tensors()
}

#[test]
fn ten_steps_are_five_and_five_bit_for_bit() {
    for ranks in [1, 2] {
        let mut run = Run::new();
        run.ranks(ranks).write_data(24, |_, _| {});
        let augmented = [&PLAN[..], &["--reverse-complement"]].concat();
        run.train("whole", &[&augmented[..], &["--stop-at", "10"]].concat());
        run.train("parts", &[&augmented[..], &["--stop-at", "5"]].concat());
        assert_eq!(run.losses("parts").len(), 5);
        run.ok(&["train", "--run", "parts", "--resume", "--stop-at", "10"]);
        assert_eq!(run.losses("whole"), run.losses("parts"), "{ranks} ranks");
        assert!(
            weights(&run, "whole") == weights(&run, "parts"),
            "{ranks} ranks"
        );
        assert_eq!(
            weights(&run, "whole")
                .iter()
                .filter(|(name, _)| name.starts_with("optimizer."))
                .count(),
            2
        );
    }
}

#[test]
fn a_run_goes_on_with_another_number_of_ranks() {
    let mut run = Run::new();
    run.write_data(24, |_, _| {});
    // SGD, under which rounding stays rounding
    let frozen = [&PLAN[..], &["--batch-norm", "frozen", "--optimizer", "sgd"]].concat();
    run.train("whole", &[&frozen[..], &["--stop-at", "10"]].concat());
    run.ranks(2)
        .train("parts", &[&frozen[..], &["--stop-at", "5"]].concat());
    run.ranks(4)
        .ok(&["train", "--run", "parts", "--resume", "--stop-at", "8"]);
    run.ranks(1)
        .ok(&["train", "--run", "parts", "--resume", "--stop-at", "10"]);
    let (whole, parts) = (run.losses("whole"), run.losses("parts"));
    assert_eq!(parts.len(), 10);
    for (a, b) in whole.iter().zip(&parts) {
        assert!((a - b).abs() < 2e-6 * a, "{whole:?} {parts:?}");
    }
}

#[test]
fn best_last_and_the_newest_k_are_kept_and_a_run_is_replayed_from_its_plan() {
    let run = Run::new();
    run.write_data(24, |_, _| {});
    run.train(
        "run",
        &[&PLAN[..], &["--save-every", "2", "--keep", "3"]].concat(),
    );
    let names = |run: &Run| {
        let mut names: Vec<String> = std::fs::read_dir(run.path("run"))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| name.ends_with(".safetensors"))
            .collect();
        names.sort();
        names
    };
    let expected = [
        "best",
        "last",
        "step-00000009",
        "step-00000010",
        "step-00000012",
    ];
    assert_eq!(
        names(&run),
        expected.map(|name| format!("{name}.safetensors"))
    );
    run.ok(&["train", "--run", "again", "--from", "run/plan.toml"]);
    assert!(weights(&run, "run") == weights(&run, "again"));
}

#[test]
fn patience_ends_a_run_that_gets_no_better() {
    let mut run = Run::new();
    run.write_data(16, |_, _| {});
    // A rate of almost nothing: after the first evaluation nothing improves by enough to change the ranking.
    let plan = [
        "--batch",
        "8",
        "--epochs",
        "50",
        "--lr",
        "1e-12",
        "--schedule",
        "none",
        "--patience",
        "2",
        "--metric",
        "binary_io_u",
    ];
    run.ranks(2).train("run", &plan);
    let steps = run.losses("run").len();
    assert!((2..=4).contains(&steps), "{steps} steps");
}

#[test]
fn a_cut_or_ended_run_goes_on_to_its_end_and_another_model_is_refused() {
    let mut run = Run::new();
    run.write_data(16, |_, _| {});
    let plan = ["--batch", "8", "--epochs", "3", "--metric", "loss"];
    run.train("run", &[&plan[..], &["--stop-at", "1"]].concat());
    let copy = run.path("copy.h5");
    fs::copy(run.path("data.h5"), &copy).unwrap();
    let copy = copy.to_str().unwrap();
    run.ok(&["train", "--run", "run", "--resume", "--data-copy", copy]);
    assert_eq!(run.losses("run").len(), 6, "--stop-at is not remembered");
    fs::remove_file(copy).unwrap();
    run.ok(&["evaluate", "run", "--split", "valid"]);
    let said = run.ok(&["train", "--run", "run", "--resume"]);
    assert!(said.contains("nothing left to do"), "{said}");
    run.ok(&["train", "--run", "run", "--resume", "--epochs", "4"]);
    assert_eq!(run.losses("run").len(), 8);
    let error = run
        .ranks(2)
        .fails(&["train", "--run", "run", "--resume", "--arch", "cnn"]);
    assert!(error.contains("arch"), "{error}");
}

/// A job that submits itself again does.
#[test]
fn a_run_goes_on_with_the_words_it_began_with_and_with_no_others() {
    let run = Run::new();
    run.write_data(24, |_, _| {});
    for name in ["first", "other"] {
        run.train(name, &[&PLAN[..], &["--stop-at", "2"]].concat());
    }
    let from = |name: &str| format!("{name}/last.safetensors");
    let (first, other) = (from("first"), from("other"));
    run.train(
        "run",
        &[&PLAN[..], &["--stop-at", "2", "--init", &first]].concat(),
    );
    let resume = |init: &str| {
        [
            "train",
            "--run",
            "run",
            "--resume",
            "--stop-at",
            "4",
            "--init",
            init,
        ]
        .map(String::from)
    };
    let error = run.fails(&resume(&other).each_ref().map(String::as_str));
    assert!(
        error.contains("began with") && error.contains(&first),
        "{error}"
    );
    run.ok(&resume(&first).each_ref().map(String::as_str));
    assert_eq!(run.losses("run").len(), 4);
}

#[test]
fn a_folder_has_one_run_and_one_job_at_a_time() {
    let run = Run::new();
    let data = run.write_data(24, |_, _| {});
    run.train("run", &[&PLAN[..], &["--stop-at", "2"]].concat());
    let busy = File::create(run.path("run/.lock")).unwrap();
    busy.try_lock().unwrap();
    let error = run.fails(&["train", "--run", "run", "--resume"]);
    assert!(error.contains("another job is at work in run"), "{error}");
    drop(busy);
    run.ok(&["train", "--run", "run", "--resume", "--stop-at", "3"]);

    let data = data.to_str().unwrap();
    fs::create_dir(run.path("left")).unwrap();
    fs::write(run.path("left/step-00000900.safetensors"), "").unwrap();
    let error = run.fails(&["train", "--data", data, "--run", "left"]);
    assert!(
        error.contains("step-00000900.safetensors is of an earlier run"),
        "{error}"
    );
}
