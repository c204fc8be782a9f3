//! Published optimizers, penalties and limits: over ranks, after a stop, with either engine, and where they do not apply.

use std::fs;

use tfbind_mpi::model::Arch;
use tfbind_prep::schema::PredictionFile;

use super::{LENGTH, arch, arguments, write_windows};
use crate::common::Run;

/// Those that read bases alone, none of them hidden.
fn models_of_windows() -> Vec<Arch> {
    let reads = |arch: &Arch| {
        let io = arch.paper().io;
        (io.channels, io.per_base, io.classes) == (4, false, 1)
    };
    Arch::ALL.iter().copied().filter(reads).collect()
}

const MOTIFS: &str = ">m1 ONE\nA [ 9 0 0 1 ]\nC [ 0 9 0 1 ]\nG [ 0 0 9 1 ]\nT [ 0 0 0 6 ]\n>m2 TWO\n0 5 9\n9 0 0\n0 5 0\n0 0 0\n";

/// Optimizers, penalties and limits of the published recipes included; DanQ-JASPAR from motifs.
#[test]
fn two_ranks_equal_one_process_for_every_model_of_windows() {
    let mut run = Run::new();
    run.ranks(2);
    write_windows(&run, "data.h5", LENGTH, 2, false);
    fs::write(run.path("motifs.pfm"), MOTIFS).unwrap();
    let models = models_of_windows();
    assert!(models.len() >= 9, "{models:?}");
    for arch in models {
        let own = match arch {
            Arch::DanqJaspar => &["--start-motifs", "motifs.pfm"][..],
            _ => &[],
        };
        let fixed = [
            "verify",
            "--data",
            "data.h5",
            "--device",
            "cpu",
            "--steps",
            "3",
            "--global-batch",
            "6",
        ];
        let said = run.ok(&[&fixed[..], &arguments(arch), own].concat());
        let last = said.lines().last().unwrap();
        let largest = last.strip_prefix("max relative difference ").unwrap();
        assert!(largest.parse::<f64>().unwrap() < 1e-9, "{arch}: {said}");
    }
}

#[test]
fn a_published_recipe_goes_on_bit_for_bit() {
    for (arch, ranks) in
        [("deepsea", 2), ("basset", 1), ("danq", 2)].map(|(name, ranks)| (arch(name), ranks))
    {
        let mut run = Run::new();
        run.ranks(ranks);
        write_windows(&run, "data.h5", LENGTH, 2, false);
        let plan = [
            &arguments(arch)[..],
            &["--global-batch", "6", "--epochs", "2", "--seed", "3"],
        ]
        .concat();
        run.train("whole", &[&plan[..], &["--stop-at", "8"]].concat());
        let said = run.train("parts", &[&plan[..], &["--stop-at", "4"]].concat());
        if arch == Arch::Deepsea {
            let recipe = "squares of weights x 0.0000005, absolute hidden outputs x 0.00000001, norms of an output's weights at most 0.9";
            assert!(
                said.contains(recipe) && said.contains("decay inverse"),
                "{said}"
            );
        }
        run.ok(&["train", "--run", "parts", "--resume", "--stop-at", "8"]);
        assert_eq!(run.losses("whole"), run.losses("parts"), "{arch}");
        assert!(run.losses("whole").iter().all(|loss| loss.is_finite()));
        let tensors = |name: &str| run.last(name).sorted_tensors();
        assert!(tensors("whole") == tensors("parts"), "{arch}");
    }
}

/// The native engine computes the gradients, the limit comes after the step.
#[test]
fn norms_are_limited_whatever_computes() {
    let run = Run::new();
    run.write_data(24, |_, _| {});
    let plan = [
        "--arch",
        "cnn",
        "--max-norm",
        "0.5",
        "--l2",
        "0.001",
        "--global-batch",
        "8",
        "--stop-at",
        "4",
    ];
    run.train("native", &[&plan[..], &["--engine", "native"]].concat());
    run.train("libtorch", &[&plan[..], &["--engine", "libtorch"]].concat());
    let (native, libtorch) = (run.losses("native"), run.losses("libtorch"));
    assert_eq!((native.len(), libtorch.len()), (4, 4));
    for (a, b) in native.into_iter().zip(libtorch) {
        assert!((a - b).abs() < 1e-4 * a, "{a} {b}");
    }
    let largest = |name: &str| {
        let tensors = run.last(name).sorted_tensors();
        let (_, weight) = tensors
            .iter()
            .find(|(name, _)| name == "conv1d_1.weight")
            .unwrap();
        let rows = weight.chunks(32 * 11);
        let norms = rows.map(|row| row.iter().map(|x| x * x).sum::<f32>().sqrt());
        norms.fold(0f32, f32::max)
    };
    assert!(largest("native") < 0.50001 && largest("libtorch") < 0.50001);
    assert!(largest("native") > 0.4, "from 0.8");
}

#[test]
fn options_that_do_not_apply_are_refused() {
    let run = Run::new();
    run.write_data(8, |_, _| {});
    write_windows(&run, "windows.h5", LENGTH, 1, false);
    let base = [
        "train", "--data", "data.h5", "--run", "run", "--device", "cpu",
    ];
    let windows = [
        "train",
        "--data",
        "windows.h5",
        "--run",
        "run",
        "--device",
        "cpu",
    ];
    fs::write(run.path("motifs.pfm"), MOTIFS).unwrap();
    for (data, typed, expected) in [
        (
            &base,
            &["--rho", "0.8"][..],
            "--rho belongs to rmsprop, not to adam",
        ),
        (
            &base,
            &["--optimizer", "rmsprop", "--momentum", "0.5"],
            "--momentum belongs to sgd and nesterov, not to rmsprop",
        ),
        (
            &base,
            &["--decay-rate", "1e-5"],
            "--decay-rate belongs to --schedule inverse",
        ),
        (
            &base,
            &["--schedule", "inverse", "--decay-rate", "0"],
            "needs a positive --decay-rate",
        ),
        (&base, &["--l1", "1e-8"], "unet has none"),
        (&base, &["--l2=-1"], "--l2 must be positive, or 0 for none"),
        (&base, &["--width", "0.5"], "unet has one width"),
        (
            &base,
            &[
                "--batch",
                "4",
                "--optimizer",
                "adam-invariant",
                "--l2",
                "1e-6",
            ],
            "--l2 0",
        ),
        (
            &base,
            &["--max-norm", "0.9", "--look-every", "4"],
            "not with --max-norm",
        ),
        (&base, &["--start-motifs", "none.pfm"], "none.pfm"),
        (&base, &["--init", "data.h5"], "not a safetensors file"),
        (
            &windows,
            &["--arch", "deepsea", "--width", "2"],
            "--width must be more than 0 and at most 1",
        ),
        (
            &windows,
            &["--arch", "danq", "--batch-norm", "frozen"],
            "danq has no batch norm",
        ),
        (
            &windows,
            &["--arch", "tal1-one", "--start-motifs", "motifs.pfm"],
            "2 motifs, and the first convolution has 1",
        ),
        (
            &windows,
            &["--arch", "basset", "--up-activation", "relu"],
            "has no transposed convolution",
        ),
        (&windows, &["--arch", "tal1", "--l1", "1"], "tal1 has none"),
    ] {
        let error = run.fails(&[&data[..], typed].concat());
        assert!(error.contains(expected), "{typed:?}: {error}");
    }
}

/// A dense layer's batch norm of the last window of an epoch, which is alone, on one rank and on two.
#[test]
fn a_window_alone_leaves_running_statistics_finite() {
    let mut run = Run::new();
    write_windows(&run, "data.h5", LENGTH, 1, false);
    for ranks in [1, 2] {
        let name = format!("of{ranks}");
        run.ranks(ranks);
        let arguments = arguments(Arch::Basset);
        run.train(
            &name,
            &[&arguments[..], &["--global-batch", "5", "--epochs", "1"]].concat(),
        );
        let tensors = run.last(&name).sorted_tensors();
        assert!(
            tensors
                .iter()
                .all(|(_, values)| values.iter().all(|value| value.is_finite()))
        );
    }
}

/// Where a bin lies is for export to know.
#[test]
fn predictions_keep_the_bin_of_their_windows() {
    let run = Run::new();
    write_windows(&run, "data.h5", LENGTH, 1, false);
    run.train("run", &["--arch", "tal1-one", "--epochs", "1"]);
    run.ok(&["predict", "run"]);
    let file = PredictionFile::open(run.path("run/predictions_test.h5")).unwrap();
    assert_eq!(file.header().labelled(), 75..125);
}
