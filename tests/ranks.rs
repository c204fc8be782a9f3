//! N ranks equal one: the same losses, metrics and predictions for the same global batch.

use tfbind_prep::schema::PredictionFile;

use crate::common::Run;

/// 10 steps of global batch 8 on 27 windows: the last step of an epoch is short.
const SAME: [&str; 8] = [
    "--global-batch",
    "8",
    "--epochs",
    "3",
    "--stop-at",
    "10",
    "--batch-norm",
    "frozen",
];

/// With SGD rounding stays rounding. Adam divides by the size of a gradient however small, and makes more of it.
#[test]
fn one_two_and_four_ranks_of_the_same_global_batch_have_the_same_losses() {
    for (optimizer, rate, tolerance) in [("sgd", "0.1", 2e-6), ("adam", "0.001", 2e-4)] {
        let mut run = Run::new();
        run.write_data(27, |_, _| {});
        let plan = [&SAME[..], &["--optimizer", optimizer, "--lr", rate]].concat();
        for ranks in [1, 2, 4] {
            run.ranks(ranks).train(&format!("run{ranks}"), &plan);
        }
        run.ranks(2)
            .train("micro", &[&plan[..], &["--accumulate", "2"]].concat());
        let expected = run.losses("run1");
        assert_eq!(expected.len(), 10);
        assert!(expected[9] < expected[0], "it learns: {expected:?}");
        for other in ["run2", "run4", "micro"] {
            for (a, b) in expected.iter().zip(run.losses(other)) {
                assert!(
                    (a - b).abs() < tolerance * a,
                    "{optimizer} {other}: {a} and {b}"
                );
            }
        }
    }
}

#[test]
fn evaluation_and_predictions_do_not_depend_on_the_number_of_ranks() {
    let mut run = Run::new();
    run.write_data(16, |_, _| {});
    run.train("run", &["--batch", "8", "--epochs", "3", "--lr", "0.01"]);
    let mut reports = Vec::new();
    for ranks in [1, 2, 4] {
        let out = run.ranks(ranks).ok(&[
            "evaluate",
            "run",
            "--eval-batch",
            "4",
            "--device",
            "cpu",
            "--baselines",
        ]);
        let metrics = |line: &&str| {
            line.contains("pr_auc") || line.starts_with("loss") || line.contains("alone")
        };
        reports.push(
            out.lines()
                .filter(metrics)
                .map(str::to_string)
                .collect::<Vec<_>>(),
        );
        let file = format!("p{ranks}.h5");
        run.ok(&[
            "predict",
            "run",
            "--eval-batch",
            "4",
            "--half-window",
            "--out",
            &file,
            "--device",
            "cpu",
        ]);
    }
    assert!(reports[0].len() >= 4, "{:?}", reports[0]);
    assert_eq!(reports[0], reports[1]);
    assert_eq!(reports[0], reports[2]);
    let csv = std::fs::read_to_string(run.path("run/evaluation_metrics.csv")).unwrap();
    assert!(
        csv.starts_with("loss,pr_auc,dice_coef,binary_io_u,training_time\n"),
        "{csv}"
    );

    let read = |ranks: usize| {
        let file = PredictionFile::open(run.path(&format!("p{ranks}.h5"))).unwrap();
        // 13 windows that touch, and the 12 between them
        assert_eq!(file.len(), 25);
        (file.loci().unwrap(), file.read_rows(0..25).unwrap())
    };
    assert!(read(1) == read(2));
    assert!(read(1) == read(4));
    assert_eq!(
        read(1).0[1].start - read(1).0[0].start,
        crate::common::LENGTH as i64 / 2
    );
}

#[test]
fn the_rate_follows_the_world_size_as_asked() {
    let mut run = Run::new();
    run.write_data(16, |_, _| {});
    for (scaling, peak) in [
        ("linear", "0.002000"),
        ("sqrt", "0.001414"),
        ("none", "0.001000"),
    ] {
        let arguments = [
            "--batch",
            "4",
            "--stop-at",
            "1",
            "--lr",
            "0.001",
            "--lr-scaling",
            scaling,
        ];
        let out = run.ranks(2).train(scaling, &arguments);
        assert!(out.contains(&format!("rate {peak}")), "{out}");
        assert!(
            out.contains("rank 0 -> ") && out.contains("rank 1 -> "),
            "{out}"
        );
    }
}
