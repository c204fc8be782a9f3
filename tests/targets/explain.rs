//! `explain` to its end, and what it refuses.

use std::fs;

use tfbind_prep::schema::PredictionFile;

use super::{trained, write_bases};
use crate::common::{LENGTH, Run};

#[test]
fn explain_ends_with_its_files_by_gradients_and_without_flanks() {
    let mut run = trained();
    run.ok(&["evaluate", "run", "--device", "cpu"]);
    let base = ["explain", "run", "--device", "cpu", "--target"];
    let ask = |run: &Run, options: &[&str]| run.ok(&[&base[..], options].concat());
    run.ranks(2);
    ask(
        &run,
        &[
            "c",
            "--method",
            "flank-shuffle",
            "--keep",
            "0,7,32",
            "--seed",
            "3",
        ],
    );
    let table = fs::read_to_string(run.path("run/flank-shuffle_test_c.tsv")).unwrap();
    let rows: Vec<Vec<&str>> = table.lines().map(|row| row.split('\t').collect()).collect();
    let kept: Vec<&str> = rows.iter().map(|row| row[0]).collect();
    assert_eq!(kept, ["kept", "0", "7", "32"]);
    assert_ne!(rows[1][1..], rows[3][1..]);
    // With all bases kept it is what evaluate says.
    let csv = fs::read_to_string(run.path("run/evaluation_targets.csv")).unwrap();
    let mut csv = csv.lines().map(|row| row.split(',').collect::<Vec<_>>());
    let names = csv.next().unwrap();
    let own = csv.find(|row| row[0] == "c").unwrap();
    let at = |names: &[&str]| names.iter().position(|name| *name == "loss").unwrap();
    let loss = |row: &[&str], at: usize| row[at].parse::<f64>().unwrap();
    let (whole, evaluated) = (loss(&rows[3], at(&rows[0])), loss(&own, at(&names)));
    assert!((whole - evaluated).abs() < 1e-5, "{whole} {evaluated}");
    let picture = fs::read_to_string(run.path("run/flank-shuffle_test_c.svg")).unwrap();
    assert!(picture.contains(">bases kept on each side<"), "{picture}");

    ask(&run, &["b,1", "--windows", "11"]);
    let name = "run/integrated-gradients_test_b_1_2";
    let file = PredictionFile::open(run.path(&format!("{name}.h5"))).unwrap();
    let relevance = file.read_rows(0..11).unwrap();
    assert_eq!(relevance.len(), 11 * LENGTH);
    assert!(relevance.iter().any(|of| of.abs() > 1e-6));
    for ending in ["tsv", "svg"] {
        assert!(run.path(&format!("{name}.{ending}")).is_file(), "{ending}");
    }

    for (options, said) in [
        (
            &["--method", "flank-shuffle", "--steps", "99"][..],
            "--steps belongs to",
        ),
        (
            &["--method", "occlusion", "--steps", "9"],
            "--steps belongs to",
        ),
        (&["--keep", "3"], "--keep and --seed belong to"),
        (
            &["--method", "gradient-input", "--seed", "7"],
            "--keep and --seed belong to",
        ),
        (
            &["--method", "flank-random", "--keep", "3,33"],
            "--keep 33: a window of 64 bases has 32 on each side",
        ),
    ] {
        let error = run.fails(&[&base[..], &["c"], options].concat());
        assert!(error.contains(said), "{said}: {error}");
    }
}

#[test]
fn explain_asks_no_count_for_what_it_has_not() {
    let run = Run::new();
    write_bases(&run.path("data.h5"));
    run.train("kmer", &["--arch", "kmer", "--kmer", "2"]);
    for method in ["occlusion", "flank-shuffle"] {
        let asked = ["explain", "kmer", "--method", method, "--windows", "5"];
        let error = run.fails(&[&asked[..], &["--split", "train"]].concat());
        assert!(
            error.contains("data.h5: explain changes windows, and these were counted as they are"),
            "{error}"
        );
        run.ok(&asked);
    }
    let plan = ["--arch", "context-mlp", "--width", "0.1", "--epochs", "1"];
    run.train("mlp", &[&plan[..], &["--kmer-input", "kmer"]].concat());
    for method in ["integrated-gradients", "gradient-input"] {
        let asked = ["explain", "mlp", "--method", method, "--windows", "5"];
        let error = run.fails(&[&asked[..], &["--device", "cpu"]].concat());
        assert!(
            error.contains("(--kmer-input) has no gradient of its input; --method occlusion"),
            "{error}"
        );
    }
    run.ok(&[
        "explain",
        "mlp",
        "--method",
        "occlusion",
        "--windows",
        "5",
        "--device",
        "cpu",
    ]);
}
