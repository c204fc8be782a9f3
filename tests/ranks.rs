//! N ranks equal one: the same losses, metrics and predictions for the same global batch.

use std::time::Duration;

use tfbind_mpi::comm::{Comm, Mpi};
use tfbind_prep::schema::PredictionFile;

use crate::common::{Run, mpirun};

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

/// Runs only as a child of the next test.
#[test]
fn summing_child() {
    if std::env::var_os("TFBIND_SUMMING_CHILD").is_none() {
        return;
    }
    let mut comm = Mpi::start(Duration::from_secs(60)).unwrap();
    for nodes_of in [None, Some(2), Some(1), Some(5)] {
        comm.sum_by_nodes_of(nodes_of);
        // Quarters: their sums are exact in any order.
        let of = |rank: usize| (0..1000).map(move |i| ((i * (rank + 3)) % 401) as f32 / 4.0);
        let own: Vec<f32> = of(comm.rank()).collect();
        let mut sums = vec![f32::NAN; own.len()];
        for _ in 0..3 {
            comm.sum_into(&own, &mut sums);
        }
        let expected =
            (0..1000).map(|i| (0..comm.size()).map(|rank| of(rank).nth(i).unwrap()).sum());
        assert!(
            sums == expected.collect::<Vec<f32>>(),
            "nodes of {nodes_of:?}"
        );
    }
}

/// Nodes of two ranks and one of one, nodes of one, one node of all: as on as many hosts.
#[test]
fn a_sum_in_two_levels_is_the_sum() {
    let (own, run) = (std::env::current_exe().unwrap(), Run::new());
    let output = mpirun(5, own.to_str().unwrap(), run.dir.path())
        .args(["--exact", "ranks::summing_child", "--nocapture"])
        .env("TFBIND_SUMMING_CHILD", "1")
        .output()
        .unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{error}");
}
