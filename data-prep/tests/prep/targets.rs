//! Sets of many targets, one label a window: from tables and folders of peak files.

use std::fs;

use tfbind_prep::schema::DataFile;

use crate::support::Workplace;

/// A genome of two contigs and peaks of four targets, of which one has two files.
fn place() -> Workplace {
    let place = Workplace::empty();
    let letters = "ACGTTGCA".repeat(500);
    place.write("g.fa", format!(">a\n{letters}\n>b\n{letters}\n"));
    fs::create_dir(place.path("peaks")).unwrap();
    for folder in ["peaks/TF", "peaks/DNase"] {
        fs::create_dir(place.path(folder)).unwrap();
    }
    place.write("peaks/TF/CTCF.bed", "a\t400\t520\nb\t1000\t1300\n");
    place.write(
        "peaks/TF/REB1.narrowPeak",
        "a\t500\t820\t.\t0\t.\t1\t-1\t-1\t10\n",
    );
    place.write(
        "peaks/DNase/K562.broadPeak",
        "a\t0\t4000\t.\t0\t.\t1\t2\t3\n",
    );
    place.write("peaks/all.bed", "b\t0\t4000\n");
    place.write("peaks/README", "where they come from");
    place.write("more.bed", "a\t1400\t1501\n");
    place
}

const MAKE: &str =
    "make --fasta g.fa --task per-window --length 1000 --stride 200 --bin 200 --valid b";

fn names(place: &Workplace) -> Vec<(String, String)> {
    let file = DataFile::open(place.path("out.h5")).unwrap();
    let header = file.header();
    header
        .targets
        .iter()
        .cloned()
        .zip(header.groups.iter().cloned())
        .collect()
}

fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    let owned = |&(name, group): &(&str, &str)| (name.to_owned(), group.to_owned());
    pairs.iter().map(owned).collect()
}

#[test]
fn a_folder_names_targets_and_groups() {
    let place = place();
    let said = place.runs(&format!("{MAKE} --peaks-dir peaks --out out.h5"));
    assert!(
        said.contains("note: left out 1 file of --peaks-dir"),
        "{said}"
    );
    assert!(!said.contains("did not look into"), "{said}");
    fs::create_dir(place.path("peaks/TF/older")).unwrap();
    place.write("peaks/TF/older/CTCF.bed", "a\t0\t10\n");
    let said = place.runs(&format!("{MAKE} --peaks-dir peaks --out out.h5"));
    assert!(
        said.contains("note: left out 1 file of")
            && said.contains("note: did not look into 1 folder"),
        "{said}"
    );
    let expected = [
        ("K562", "DNase"),
        ("CTCF", "TF"),
        ("REB1", "TF"),
        ("all", ""),
    ];
    assert_eq!(names(&place), pairs(&expected));

    // The bin of the window at s is s + 400 .. s + 600.
    let label = |at: usize, split: &str| {
        let windows = place.windows("out.h5", split);
        let window = windows
            .iter()
            .find(|window| window.locus.start as usize + 400 == at);
        window.map(|window| window.label.clone())
    };
    assert_eq!(
        label(400, "train").unwrap(),
        [1, 1, 0, 0],
        "CTCF covers 120 of it, REB1 100"
    );
    assert_eq!(label(600, "train").unwrap(), [1, 0, 1, 0]);
    assert_eq!(
        label(800, "train").unwrap(),
        [1, 0, 0, 0],
        "REB1 covers 20 of it"
    );
    assert_eq!(label(1000, "valid").unwrap(), [0, 1, 0, 1]);
    assert_eq!(
        label(1200, "valid").unwrap(),
        [0, 0, 0, 1],
        "half is not more than half"
    );

    let valid = place.windows("out.h5", "valid");
    let bins: Vec<_> = valid.iter().map(|window| window.locus.start).collect();
    let tiled: Vec<_> = (0..).step_by(200).take(bins.len()).collect();
    assert_eq!(bins, tiled, "bins of valid tile the contig, none twice");
    assert!(valid.len() >= 16, "{} windows", valid.len());

    let text = place.runs("inspect out.h5 --split train --rows 0");
    assert!(text.contains("groups: DNase 1, TF 2, 1 of none"), "{text}");
}

#[test]
fn only_windows_with_a_positive_are_kept() {
    let place = place();
    let starts = |more: &str| -> Vec<i64> {
        place.runs(&format!("{MAKE} --peaks-dir peaks --out out.h5 {more}"));
        let windows = place.windows("out.h5", "train");
        windows.iter().map(|window| window.locus.start).collect()
    };
    let all = starts("");
    assert_eq!(starts("--only-positive"), all, "DNase is everywhere");
    assert_eq!(starts("--only-positive TF"), [0, 200]);
    let valid = place.windows("out.h5", "valid");
    assert_eq!(valid.len(), 1, "of every split");
    let error = place.run(&format!(
        "{MAKE} --peaks-dir peaks --out out.h5 --only-positive histone"
    ));
    assert!(
        error.stderr.contains("--only-positive histone"),
        "{}",
        error.stderr
    );
    assert!(error.stderr.contains("`DNase`, `TF`"), "{}", error.stderr);

    place.runs("make --fasta g.fa --length 200 --valid b --peaks peaks/TF/CTCF.bed --out out.h5 --only-positive");
    let train = place.windows("out.h5", "train");
    let starts: Vec<_> = train.iter().map(|window| window.locus.start).collect();
    assert_eq!(starts, [400], "labels of every base too");
}

#[test]
fn a_table_names_targets_and_groups() {
    let place = place();
    fs::create_dir(place.path("tables")).unwrap();
    place.write(
        "tables/t.tsv",
        "# made by hand\nname\tfile\tgroup\nCTCF\t../peaks/TF/CTCF.bed\tTF\n\nall\t../peaks/all.bed\n\
         CTCF\t../more.bed\tTF\n",
    );
    place.runs(&format!(
        "{MAKE} --peaks first=peaks/all.bed --peaks-list tables/t.tsv --out out.h5"
    ));
    assert_eq!(
        names(&place),
        pairs(&[("first", ""), ("CTCF", "TF"), ("all", "")])
    );
    let train = place.windows("out.h5", "train");
    let positive = train.iter().filter(|window| window.label[1] == 1);
    let starts: Vec<_> = positive.map(|window| window.locus.start).collect();
    assert_eq!(starts, [0, 1000], "two files of one name merge");
}

#[test]
fn wrong_tables_and_folders_are_named() {
    let place = place();
    let fails = |table: &str| {
        place.write("t.tsv", table);
        let outcome = place.run(&format!("{MAKE} --peaks-list t.tsv --out out.h5"));
        assert!(!outcome.success, "{}", outcome.stdout);
        outcome.stderr
    };
    for (table, parts) in [
        ("a\tpeaks/all.bed\na\n", ["t.tsv, line 2", "1 columns"]),
        ("a\tb\tc\td\n", ["t.tsv, line 1", "4 columns"]),
        ("\tpeaks/all.bed\n", ["t.tsv, line 1", "expected a name"]),
        ("# nothing\n", ["t.tsv", "no peak files"]),
        ("a\tnone.bed\n", ["none.bed", "No such file"]),
        (
            "a\tpeaks/all.bed\tTF\na\tmore.bed\tDNase\n",
            ["the target a is of the group `TF`", "of `DNase`"],
        ),
    ] {
        let error = fails(table);
        for part in parts {
            assert!(error.contains(part), "`{part}` is not in: {error}");
        }
    }
    fs::create_dir(place.path("empty")).unwrap();
    let empty = place.run(&format!("{MAKE} --peaks-dir empty --out out.h5"));
    assert!(
        empty.stderr.contains("--peaks-dir empty: no BED"),
        "{}",
        empty.stderr
    );
    let lacks = place.run(&format!("{MAKE} --peaks-dir none --out out.h5"));
    assert!(
        lacks.stderr.contains("--peaks-dir none: No such file"),
        "{}",
        lacks.stderr
    );
    let none = place.run(&format!("{MAKE} --out out.h5"));
    assert!(none.stderr.contains("--peaks"), "{}", none.stderr);
}

#[test]
fn files_without_groups_still_open() {
    let place = place();
    place.runs(&format!("{MAKE} --peaks-dir peaks --out out.h5"));
    let file = hdf5::File::open_rw(place.path("out.h5")).unwrap();
    file.unlink("groups").unwrap();
    drop(file);
    let file = DataFile::open(place.path("out.h5")).unwrap();
    assert_eq!(file.header().groups, [""; 4]);
}
