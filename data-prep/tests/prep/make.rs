use std::fs;

use half::f16;
use tfbind_prep::schema::{DataFile, Task};

use crate::support::{Workplace, floats, letters};

#[test]
fn windows_tile_regions_and_show_sequence_signal_and_labels() {
    let place = Workplace::small();
    let table = place.makes(
        "--signal s.bw --valid chr2:0-50 --test chr1:0-30 --train chr1:30-100 --normalise none",
    );
    let train = place.windows("out.h5", "train");
    let starts: Vec<_> = train.iter().map(|window| window.locus.start).collect();
    assert_eq!(
        starts,
        [30, 50, 70, 90],
        "the last window reaches past the region's end, and no base is seen twice"
    );
    assert_eq!(letters(&train[0].seq), "TGCAACGTTGCAACGTTGCA");
    let expected: Vec<f32> = vec![0.0; 10].into_iter().chain(vec![3.0; 10]).collect();
    assert_eq!(floats(&train[1].signal), expected, "50..60 is not covered");
    assert_eq!(train[0].label, vec![1; 20], "30..45 and 40..50 join");
    assert_eq!(train[1].label, vec![0; 20]);
    assert_eq!(train[3].label, [[0; 10], [-1; 10]].concat());
    assert_eq!(letters(&train[3].seq)[10..], *"NNNNNNNNNN");

    let valid = place.windows("out.h5", "valid");
    assert_eq!(
        valid
            .iter()
            .map(|window| window.locus.start)
            .collect::<Vec<_>>(),
        [0, 20, 40]
    );
    assert_eq!(letters(&valid[1].seq), "acacgattacACGATTACAC");
    assert_eq!(valid[0].label[..6], [1, 1, 1, 1, 1, 0]);
    assert!(valid.iter().all(|window| window.locus.contig == 1));

    let file = DataFile::open(place.path("out.h5")).unwrap();
    let counts = file.split("train").unwrap().counts();
    assert_eq!(
        (
            counts.positives,
            counts.negatives,
            counts.masked,
            counts.missing_bases
        ),
        (20, 50, 10, 10)
    );
    assert!(table.contains("25.000%"), "{table}");
    assert!(
        table.contains("warning: the test split has no positives"),
        "{table}"
    );
    let header = file.header();
    assert_eq!(
        (
            header.task,
            header.genome.as_str(),
            header.normalise.as_str()
        ),
        (Task::PerBase, "g.fa", "none")
    );
    assert_eq!(
        (&header.tracks[..], &header.targets[..]),
        (&["s".to_owned()][..], &["CTCF".to_owned()][..])
    );
    assert!(
        header.recipe.contains("valid = [\"chr2:0-50\"]"),
        "{}",
        header.recipe
    );
    assert_eq!(header.recipe_hash.len(), 64);
}

#[test]
fn margins_past_a_contig_are_n_and_zero() {
    let place = Workplace::small();
    place.makes("--signal s.bw --margin 3 --valid chr2 --normalise log1p");
    let valid = place.windows("out.h5", "valid");
    assert_eq!(valid.len(), 3);
    assert_eq!(
        letters(&valid[0].seq),
        "NNNGATTACACGATTACACGATTacac"[..23].to_owned() + "aca"
    );
    let log = f16::from_f32(7f32.ln_1p());
    assert_eq!(valid[0].signal[..4], [f16::ZERO, f16::ZERO, f16::ZERO, log]);
    assert_eq!(
        valid[2].signal[22..],
        [log, f16::ZERO, f16::ZERO, f16::ZERO]
    );
    assert_eq!(valid[1].signal.len(), 26);
    assert_eq!(valid[1].label.len(), 20);
    let missing = DataFile::open(place.path("out.h5"))
        .unwrap()
        .split("valid")
        .unwrap()
        .counts()
        .missing_bases;
    assert_eq!(missing, 0, "past the contig is not missing");
}

#[test]
fn windows_of_n_are_dropped() {
    let place = Workplace::small();
    let starts = |more: &str| -> Vec<i64> {
        place.makes(&format!("--valid chr2 {more}"));
        place
            .windows("out.h5", "train")
            .iter()
            .map(|window| window.locus.start)
            .collect()
    };
    assert_eq!(starts(""), [0, 20, 40, 60, 80]);
    assert_eq!(starts("--max-n 0.49"), [20, 40, 60, 80]);
}

#[test]
fn masks_and_widened_summits() {
    let place = Workplace::small();
    place.write(
        "p.narrowPeak",
        "chr1\t30\t60\t.\t0\t.\t1\t-1\t-1\t12\nchr1\t80\t90\t.\t0\t.\t1\t-1\t-1\t-1\n",
    );
    place.write("mask.bed", "chr1\t41\t43\nchr1\t60\t80\n");
    let said = place.runs("make --fasta g.fa --peaks p.narrowPeak --widen 4 --mask mask.bed --length 20 --out out.h5 --valid chr2");
    assert!(said.contains("the middle of 1 interval without"), "{said}");
    let train = place.windows("out.h5", "train");
    let starts: Vec<_> = train.iter().map(|window| window.locus.start).collect();
    assert_eq!(starts, [0, 20, 40, 80], "60..80 is wholly masked");
    // The summit at 42 gives 38..46; that without one, the midpoint 85, gives 81..89.
    assert_eq!(train[1].label[17..], [0, 1, 1]);
    assert_eq!(train[2].label[..7], [1, -1, -1, 1, 1, 1, 0]);
    assert_eq!(train[3].label[..10], [0, 1, 1, 1, 1, 1, 1, 1, 1, 0]);
    let file = DataFile::open(place.path("out.h5")).unwrap();
    let header = file.header();
    assert_eq!(header.targets, ["p"]);
    let of_signal = (header.normalise.as_str(), header.missing.as_str());
    assert_eq!(of_signal, ("none", "none"), "there is no signal");
}

#[test]
fn targets_of_one_name_merge() {
    let place = Workplace::small();
    place.write("q.bed", "chr1\t60\t70\n");
    place.makes("--peaks CTCF=q.bed --peaks REB1=q.bed --valid chr2");
    let file = DataFile::open(place.path("out.h5")).unwrap();
    assert_eq!(file.header().targets, ["CTCF", "REB1"]);
    let train = place.windows("out.h5", "train");
    let positives = |row: usize, target: usize| -> i32 {
        train[row].label[target * 20..][..20]
            .iter()
            .map(|&label| i32::from(label))
            .sum()
    };
    assert_eq!(
        [positives(1, 0), positives(2, 0), positives(3, 0)],
        [10, 10, 10]
    );
    assert_eq!(
        [positives(1, 1), positives(2, 1), positives(3, 1)],
        [0, 0, 10]
    );
}

#[test]
fn per_window_labels_follow_more_than_half_of_the_bin() {
    let place = Workplace::small();
    // The bin of a window is its bases 8..12.
    place.write("p.bed", "chr1\t28\t30\nchr1\t48\t51\n");
    place.write("mask.bed", "chr1\t71\t72\n");
    place.makes("--task per-window --bin 4 --stride 20 --valid chr2 --mask mask.bed");
    let train = place.windows("out.h5", "train");
    let labels: Vec<_> = train
        .iter()
        .map(|window| (window.locus.start, window.label.clone()))
        .collect();
    assert_eq!(
        labels,
        [(0, vec![0]), (20, vec![0]), (40, vec![1]), (80, vec![0])]
    );
    let said = place.runs("inspect out.h5 --split train");
    assert!(
        said.contains("per-window of the central 4,") && said.contains("CTCF: chr1:48-52"),
        "{said}"
    );
}

#[test]
fn bins_of_windows_tile_a_region_unless_a_stride_is_typed() {
    let place = Workplace::small();
    place.makes("--task per-window --bin 4 --train chr1 --valid chr2 --max-n 1");
    for (split, bins) in [("train", 21), ("valid", 11)] {
        let windows = place.windows("out.h5", split);
        let starts: Vec<_> = windows.iter().map(|window| window.locus.start).collect();
        let tiled: Vec<_> = (0..bins).map(|bin| 4 * bin).collect();
        assert_eq!(starts, tiled, "{split}: but for 8 bases at each end");
    }
}

#[test]
fn negatives_are_kept_to_a_multiple_of_the_positives() {
    let place = Workplace::empty();
    let letters = "ACGT".repeat(10_000);
    place.write("g.fa", format!(">a\n{letters}\n>b\n{letters}\n"));
    place.write("p.bed", "a\t100\t110\na\t20000\t20010\nb\t5\t20\n");
    place.makes("--valid b");
    let all = place.windows("out.h5", "train").len();
    place.makes("--valid b --negatives 5");
    let first = fs::read(place.path("out.h5")).unwrap();
    let train = place.windows("out.h5", "train");
    let positive = train
        .iter()
        .filter(|window| window.label.contains(&1))
        .count();
    assert_eq!((all, positive), (2000, 2));
    assert!((10..=12).contains(&train.len()), "{} windows", train.len());
    assert!(train.is_sorted_by_key(|window| window.locus.start));
    assert_eq!(
        place.windows("out.h5", "valid").len(),
        2000,
        "only train is thinned"
    );
    place.makes("--valid b --negatives 5");
    assert!(
        first == fs::read(place.path("out.h5")).unwrap(),
        "the same windows again"
    );
}

#[test]
fn inspect_shows_header_counts_and_windows() {
    let place = Workplace::small();
    place.makes("--signal s.bw --valid chr2");
    let text = place.runs("inspect out.h5 --split train --rows 1,2");
    assert!(text.contains("chr1:20-40"), "{text}");
    assert!(text.contains("CTCF: chr1:40-50, 0 masked"), "{text}");
    let json: serde_json::Value =
        serde_json::from_str(&place.runs("inspect out.h5 --json")).unwrap();
    assert_eq!(json["length"], 20);
    assert_eq!(json["splits"][1]["split"], "valid");
    assert_eq!(json["splits"][0]["positives"], 20);
    assert_eq!(
        json["splits"][0]["rows"][1]["labels"][0]["positives"][0]["start"],
        30
    );
    assert_eq!(json["splits"][0]["rows"][1]["gc"], 0.5);
    for wrong in ["--split train --rows 9", "--rows 9", "--rows 0,9"] {
        let refused = place.run(&format!("inspect out.h5 {wrong}"));
        assert!(
            !refused.success && refused.stderr.contains("no row 9"),
            "{wrong}: {}",
            refused.stderr
        );
    }
    let some = place.runs("inspect out.h5 --rows 4");
    assert!(
        some.contains("  4 chr1:80-100") && !some.contains("chr2:"),
        "{some}"
    );
}

#[test]
fn inspect_shows_what_a_small_split_has() {
    let place = Workplace::small();
    place.makes("--valid chr2:0-20 --test chr2:20-60");
    let text = place.runs("inspect out.h5 --split valid");
    assert!(text.contains("  0 chr2:0-20"), "{text}");
    let text = place.runs("inspect out.h5 --split test");
    assert!(text.contains("  1 chr2:40-60"), "{text}");
}

#[test]
fn a_name_of_several_words_leaves_columns_where_they_are() {
    let place = Workplace::small();
    for name in ["", "peak 1", "."] {
        place.write(
            "p.narrowPeak",
            format!("chr1\t30\t60\t{name}\t0\t.\t1\t-1\t-1\t12\n"),
        );
        place.runs("make --fasta g.fa --peaks p.narrowPeak --widen 4 --length 20 --out out.h5 --valid chr2");
        let train = place.windows("out.h5", "train");
        let bound: usize = train
            .iter()
            .map(|of| of.label.iter().filter(|&&label| label == 1).count())
            .sum();
        assert_eq!(
            (train[1].label[17..].to_vec(), bound),
            (vec![0, 1, 1], 8),
            "`{name}`"
        );
    }
}
