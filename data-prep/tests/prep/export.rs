use std::fs;

use tfbind_prep::schema::{Contig, Locus, PredictionHeader, PredictionWriter, Task};

use crate::support::{Workplace, read_bigwig};

/// Windows as contig, start, strand and values; contigs chr2, chr10 and chr1 of 100 bases.
fn predictions(place: &Workplace, task: Task, length: usize, windows: &[(u32, i64, i8, &[f32])]) {
    predictions_along(place, 100, task, (length, None), windows);
}

/// The same on contigs of `size` bases; where windows have one label, it may be of a bin.
fn predictions_along(
    place: &Workplace,
    size: u64,
    task: Task,
    (length, bin): (usize, Option<usize>),
    windows: &[(u32, i64, i8, &[f32])],
) {
    let contig = |name: &str| Contig {
        name: name.into(),
        size,
    };
    let header = PredictionHeader {
        task,
        length,
        bin,
        margin: 0,
        genome: "toy".into(),
        contigs: vec![contig("chr2"), contig("chr10"), contig("chr1")],
        targets: vec!["CTCF".into()],
        model: "by hand".into(),
    };
    let locus = |&(contig, start, strand, _): &(u32, i64, i8, &[f32])| Locus {
        contig,
        start,
        strand,
    };
    let loci: Vec<_> = windows.iter().map(locus).collect();
    let values: Vec<_> = windows
        .iter()
        .flat_map(|window| window.3)
        .copied()
        .collect();
    let mut writer = PredictionWriter::create(place.path("p.h5"), &header, windows.len()).unwrap();
    writer.write_rows(0, &values).unwrap();
    writer.write_loci(&loci).unwrap();
    writer.finish().unwrap();
}

#[test]
fn windows_become_runs_in_order_of_the_genome() {
    let place = Workplace::empty();
    predictions(
        &place,
        Task::PerBase,
        4,
        &[
            (0, 8, 1, &[0.1, 0.1, 0.2, 0.3]),
            (2, 0, -1, &[0.4, 0.3, 0.3, 0.1]),
            (1, 50, 1, &[0.5, 0.5, 0.50001, 0.5]),
            (0, 4, 1, &[0.9, 0.9, 0.9, 0.1]),
        ],
    );
    place.runs("export p.h5 --bigwig x.bw --bedgraph x.bedGraph --trim 0");
    let bedgraph = "chr1\t0\t1\t0.1\nchr1\t1\t3\t0.3\nchr1\t3\t4\t0.4\nchr10\t50\t54\t0.5\n\
                    chr2\t4\t7\t0.9\nchr2\t7\t10\t0.1\nchr2\t10\t11\t0.2\nchr2\t11\t12\t0.3\n";
    assert_eq!(
        fs::read_to_string(place.path("x.bedGraph")).unwrap(),
        bedgraph
    );
    let chroms = read_bigwig(&place.path("x.bw"));
    let names: Vec<_> = chroms
        .iter()
        .map(|(name, size, _)| (name.as_str(), *size))
        .collect();
    assert_eq!(names, [("chr1", 100), ("chr10", 100), ("chr2", 100)]);
    assert_eq!(chroms[0].2, [(0, 1, 0.1), (1, 3, 0.3), (3, 4, 0.4)]);
    assert_eq!(chroms[1].2, [(50, 54, 0.5)]);

    place.runs("export p.h5 --bedgraph y.bedGraph --trim 0 --min 0.4 --target CTCF");
    let kept = "chr1\t3\t4\t0.4\nchr10\t50\t54\t0.5\nchr2\t4\t7\t0.9\n";
    assert_eq!(fs::read_to_string(place.path("y.bedGraph")).unwrap(), kept);
}

#[test]
fn inner_parts_take_precedence_and_are_averaged() {
    let place = Workplace::empty();
    predictions(
        &place,
        Task::PerBase,
        6,
        &[
            (0, 0, 1, &[0.1; 6]),
            (0, 2, 1, &[0.3; 6]),
            (0, 20, 1, &[0.3; 6]),
        ],
    );
    place.runs("export p.h5 --bedgraph x.bedGraph --trim 1");
    // 1..5 and 3..7 are inner; 0 and 7 have nothing else, nor have the ends of the lone window.
    let expected = "chr2\t0\t3\t0.1\nchr2\t3\t5\t0.2\nchr2\t5\t8\t0.3\nchr2\t20\t26\t0.3\n";
    assert_eq!(
        fs::read_to_string(place.path("x.bedGraph")).unwrap(),
        expected
    );
    place.runs("export p.h5 --bedgraph y.bedGraph --trim 0");
    let averaged = "chr2\t0\t2\t0.1\nchr2\t2\t6\t0.2\nchr2\t6\t8\t0.3\nchr2\t20\t26\t0.3\n";
    assert_eq!(
        fs::read_to_string(place.path("y.bedGraph")).unwrap(),
        averaged
    );
}

#[test]
fn one_value_spans_its_window() {
    let place = Workplace::empty();
    predictions(
        &place,
        Task::PerWindow,
        10,
        &[(0, 0, 1, &[0.25]), (0, 90, 1, &[0.75])],
    );
    place.runs("export p.h5 --bigwig x.bw");
    assert_eq!(
        read_bigwig(&place.path("x.bw"))[0].2,
        [(0, 10, 0.25), (90, 100, 0.75)]
    );
}

#[test]
fn the_value_of_a_bin_lies_on_the_bin_alone() {
    let place = Workplace::empty();
    // Bins 4..6, 6..8 and 98..100 of windows that overlap; the last reaches past its contig.
    let windows: [(u32, i64, i8, &[f32]); 3] =
        [(0, 0, 1, &[0.25]), (0, 2, 1, &[0.75]), (0, 94, 1, &[0.5])];
    predictions_along(&place, 100, Task::PerWindow, (10, Some(2)), &windows);
    place.runs("export p.h5 --bigwig x.bw");
    assert_eq!(
        read_bigwig(&place.path("x.bw"))[0].2,
        [(4, 6, 0.25), (6, 8, 0.75), (98, 100, 0.5)]
    );
    let refused = place.run("export p.h5 --bigwig x.bw --trim 1").stderr;
    assert!(refused.contains("nothing is left of 2 bases"), "{refused}");
    assert!(place.runs("inspect p.h5 --json").contains("\"bin\": 2"));
    predictions_along(&place, 100, Task::PerWindow, (10, Some(11)), &windows);
    let refused = place.run("export p.h5 --bigwig x.bw").stderr;
    assert!(
        refused.contains("`bin` is 11, expected 1 to the length, 10"),
        "{refused}"
    );
}

#[test]
fn what_reaches_past_a_contig_is_left_out() {
    let place = Workplace::empty();
    predictions(
        &place,
        Task::PerBase,
        4,
        &[
            (0, 94, 1, &[0.1, 0.1, 0.2, 0.3]),
            (0, 98, -1, &[0.9, 0.8, 0.5, 0.4]),
        ],
    );
    place.runs("export p.h5 --bigwig x.bw --trim 0");
    let expected = [
        (94, 96, 0.1),
        (96, 97, 0.2),
        (97, 98, 0.3),
        (98, 99, 0.4),
        (99, 100, 0.5),
    ];
    assert_eq!(read_bigwig(&place.path("x.bw"))[0].2, expected);
}

#[test]
fn a_contig_longer_than_a_bigwig_holds_is_told_by_a_bedgraph() {
    let place = Workplace::empty();
    let windows: [(u32, i64, i8, &[f32]); 1] = [(0, 4_999_999_996, 1, &[0.5; 4])];
    let (size, length) = (5_000_000_000, (4, None));
    predictions_along(&place, size, Task::PerBase, length, &windows);
    place.runs("export p.h5 --bedgraph x.bedGraph");
    assert_eq!(
        fs::read_to_string(place.path("x.bedGraph")).unwrap(),
        "chr2\t4999999996\t5000000000\t0.5\n"
    );
    let refused = place.run("export p.h5 --bigwig x.bw --bedgraph y.bedGraph");
    assert!(refused.stderr.contains("up to 4 Gb"), "{}", refused.stderr);
    assert_eq!(place.names(), ["p.h5", "x.bedGraph"]);
}

#[test]
fn failures_are_named_and_leave_nothing() {
    let place = Workplace::empty();
    predictions(&place, Task::PerBase, 4, &[(0, 8, 1, &[0.1; 4])]);
    let fails = |arguments: &str, part: &str| {
        let before = place.names();
        let outcome = place.run(&format!("export p.h5 {arguments}"));
        assert!(!outcome.success, "{arguments}");
        assert!(outcome.stderr.contains(part), "{}", outcome.stderr);
        assert_eq!(place.names(), before);
    };
    fails("", "--bigwig");
    fails("--bigwig none/x.bw", "does not exist");
    fails("--bigwig x.bw --trim 2", "--trim 2");
    fails(
        "--bigwig x.bw --trim 9223372036854775808",
        "nothing is left",
    );
    fails("--bigwig x.bw --target REB1", "predicts CTCF");
    fails(
        "--bigwig x.bw --bedgraph x.bedGraph --min 0.5",
        "lower --min",
    );
    predictions(&place, Task::PerBase, 4, &[(0, 100, 1, &[0.1; 4])]);
    fails("--bigwig x.bw", "row 0 lies at 100 of contig chr2");
    predictions(
        &place,
        Task::PerBase,
        4,
        &[(0, 9, 1, &[0.1, f32::NAN, 0.1, 0.1])],
    );
    fails("--bigwig x.bw --bedgraph x.bedGraph", "row 0 predicts NaN");
}

#[test]
fn inspect_sums_up_predictions() {
    let place = Workplace::empty();
    predictions(
        &place,
        Task::PerBase,
        2,
        &[(0, 8, 1, &[0.25, 0.75]), (0, 4, 1, &[0.5, 0.5])],
    );
    let json: serde_json::Value = serde_json::from_str(&place.runs("inspect p.h5 --json")).unwrap();
    assert_eq!(
        (&json["windows"], &json["targets"][0]["mean"]),
        (&2.into(), &0.5.into())
    );
    assert_eq!(json["targets"][0]["max"], 0.75);
    assert!(
        place
            .runs("inspect p.h5")
            .contains("CTCF: mean 0.50000, max 0.7500")
    );
    assert!(!place.run("inspect p.h5 --split train").success);
    let refused = place.run("inspect p.h5 --rows 1").stderr;
    assert!(refused.contains("--rows"), "{refused}");
}
