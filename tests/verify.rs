//! N ranks equal one process with all their rows, exactly.

use crate::common::Run;

/// 27 windows in steps of 8: the last step of an epoch leaves a rank of four with none.
#[test]
fn ranks_equal_one_process_also_where_some_have_no_rows() {
    let mut run = Run::new();
    run.write_data(25, |_, _| {});
    let plan = [
        "verify",
        "--data",
        "data.h5",
        "--device",
        "cpu",
        "--global-batch",
        "8",
        "--steps",
        "5",
    ];
    for ranks in [1, 2, 4] {
        for mode in [
            &["--single", "--batch-norm", "rank"][..],
            &["--batch-norm", "rank"],
            &["--sync-bn"],
            &["--accumulate", "2"],
        ] {
            let said = run.ranks(ranks).ok(&[&plan[..], mode].concat());
            let last = said.lines().last().unwrap();
            let largest = last.strip_prefix("max relative difference ").unwrap();
            let limit = if mode[0] == "--single" { 1e-5 } else { 1e-9 };
            assert!(
                largest.parse::<f64>().unwrap() < limit,
                "{ranks} {mode:?}: {said}"
            );
        }
    }
    // Each rank's own statistics are not those of the large batch: the comparison can fail.
    let error = run.call(&[&plan[..], &["--tolerance", "1e-30"]].concat());
    assert!(!error.status.success());
    let said = String::from_utf8_lossy(&error.stdout);
    assert!(said.contains("beyond the tolerance"), "{said}");
    let error = run.fails(&[&plan[..], &["--look-every", "4"]].concat());
    assert!(error.contains("--look-every belong to train"), "{error}");
}

/// Synchronised statistics of N ranks are libtorch's own batch norm of the large batch, in training too.
#[test]
fn sync_batch_norm_gives_the_losses_of_the_large_batch_on_one_rank() {
    let mut run = Run::new();
    run.write_data(27, |_, _| {});
    let plan = [
        "--global-batch",
        "9",
        "--epochs",
        "2",
        "--optimizer",
        "sgd",
        "--lr",
        "0.005",
    ];
    run.train("one", &plan);
    for ranks in [2, 4] {
        let name = format!("of{ranks}");
        run.ranks(ranks)
            .train(&name, &[&plan[..], &["--sync-bn"]].concat());
        for (a, b) in run.losses("one").iter().zip(run.losses(&name)) {
            assert!((a - b).abs() < 1e-3 * a, "{ranks} ranks: {a} and {b}");
        }
    }
    let own = run
        .ranks(2)
        .train("own", &[&plan[..], &["--batch-norm", "rank"]].concat());
    assert!(own.contains("batch norm rank"));
    let apart = |(a, b): (&f64, f64)| (a - b).abs() > 1e-2 * a;
    let (one, own) = (run.losses("one"), run.losses("own"));
    assert!(
        one.iter().zip(own).any(apart),
        "each rank's own statistics differ"
    );
}

#[test]
fn the_timeline_is_printed_and_traced_for_all_ranks() {
    let mut run = Run::new();
    run.write_data(30, |_, _| {});
    let said = run.ranks(3).train(
        "run",
        &["--batch", "2", "--epochs", "2", "--trace", "trace.json"],
    );
    for name in ["backward", "transfer", "slowest_rank ", "lost_to_waiting "] {
        assert!(said.contains(name), "{name}: {said}");
    }
    let text = std::fs::read_to_string(run.path("trace.json")).unwrap();
    let trace: serde_json::Value = serde_json::from_str(&text).unwrap();
    let bars = trace["traceEvents"].as_array().unwrap();
    let of = |rank: u64, phase: &str, step: u64| {
        let is = |bar: &&serde_json::Value| {
            bar["tid"] == rank && bar["name"] == phase && bar["args"]["step"] == step
        };
        let bar = bars
            .iter()
            .find(is)
            .unwrap_or_else(|| panic!("{rank} {phase} {step}"));
        let start = bar["ts"].as_f64().unwrap();
        (start, start + bar["dur"].as_f64().unwrap())
    };
    for step in 1..=10 {
        let last_arrival = (0..3)
            .map(|rank| of(rank, "wait", step).0)
            .fold(0.0, f64::max);
        for rank in 0..3 {
            assert!(of(rank, "forward", step).1 <= of(rank, "backward", step).0 + 1.0);
            // Clocks are aligned: no wait ends before the last rank has come (in microseconds).
            let waited_until = of(rank, "wait", step).1;
            assert!(
                waited_until > last_arrival - 1000.0,
                "step {step} rank {rank}"
            );
        }
    }
}

#[test]
fn invariant_adam_is_adam_on_one_rank_and_the_same_on_many() {
    let mut run = Run::new();
    run.write_data(24, |_, _| {});
    let plan = ["--batch", "3", "--epochs", "1", "--optimizer"];
    run.train("adam", &[&plan[..], &["adam"]].concat());
    run.train("invariant", &[&plan[..], &["adam-invariant"]].concat());
    assert_eq!(run.losses("adam"), run.losses("invariant"));
    for accumulate in ["1", "2"] {
        let said = run.ranks(4).ok(&[
            "verify",
            "--data",
            "data.h5",
            "--device",
            "cpu",
            "--batch",
            "1",
            "--accumulate",
            accumulate,
            "--optimizer",
            "adam-invariant",
            "--steps",
            "3",
        ]);
        assert!(said.contains("within the tolerance"), "{said}");
    }
    let refused = [
        "train",
        "--data",
        "data.h5",
        "--run",
        "no",
        "--optimizer",
        "adam-invariant",
    ];
    assert!(run.ranks(1).fails(&refused).contains("made for --batch"));
}
