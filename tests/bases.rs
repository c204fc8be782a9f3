//! Models of every base beside the U-Net and the CNN, on several ranks.

use crate::common::Run;

const MODELS: [&str; 4] = ["unet-wide", "unet-attention", "transunet", "transformer"];
const STEPS: [&str; 4] = ["--global-batch", "6", "--epochs", "2"];

#[test]
fn every_model_trains_on_two_ranks_and_is_applied() {
    let mut run = Run::new();
    run.ranks(2).write_data(24, |_, _| {});
    for arch in MODELS {
        run.train(
            arch,
            &[&["--arch", arch, "--lr", "0.002"], &STEPS[..]].concat(),
        );
        let losses = run.losses(arch);
        assert_eq!(losses.len(), 8, "{arch}");
        let mean = |losses: &[f64]| losses.iter().sum::<f64>() / losses.len() as f64;
        assert!(
            losses.iter().all(|loss| loss.is_finite()) && mean(&losses[4..]) < mean(&losses[..4]),
            "{arch}: {losses:?}"
        );
        let said = run.ok(&["evaluate", arch, "--device", "cpu"]);
        assert!(said.contains("pr_auc "), "{arch}: {said}");
    }
}

/// Where there are batch norms, also with statistics of all ranks.
#[test]
fn two_ranks_equal_one_process_with_every_model() {
    let mut run = Run::new();
    run.ranks(2).write_data(20, |_, _| {});
    for arch in MODELS {
        let synced = match arch {
            "transformer" => &[][..],
            _ => &["--sync-bn"],
        };
        let plan = [
            "verify", "--data", "data.h5", "--device", "cpu", "--steps", "2",
        ];
        let said = run.ok(&[&plan[..], &["--global-batch", "6", "--arch", arch], synced].concat());
        let last = said.lines().last().unwrap();
        let largest = last.strip_prefix("max relative difference ").unwrap();
        assert!(largest.parse::<f64>().unwrap() < 1e-9, "{arch}: {said}");
    }
}

#[test]
fn options_that_mean_nothing_to_a_model_are_refused() {
    let run = Run::new();
    run.write_data(8, |_, _| {});
    let train = [
        "train", "--data", "data.h5", "--run", "run", "--device", "cpu",
    ];
    for (arch, option, value, expected) in [
        (
            "transformer",
            "--batch-norm",
            "sync",
            "transformer has no batch norm",
        ),
        ("cnn", "--batch-norm", "rank", "cnn has no batch norm"),
        (
            "cnn",
            "--up-activation",
            "relu",
            "has no transposed convolution",
        ),
        (
            "transunet",
            "--layout",
            "channels-last",
            "only the plain one",
        ),
        ("transunet", "--engine", "native", "layer_normalization"),
        ("deepsea", "--lr", "0.1", "one a base"),
    ] {
        let error = run.fails(&[&train[..], &["--arch", arch, option, value]].concat());
        assert!(error.contains(expected), "{arch} {option}: {error}");
    }
}
