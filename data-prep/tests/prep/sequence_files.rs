//! `simulate` with motifs planted in sequences: its files, its help and its errors.

use std::collections::HashMap;
use std::fs;

use tfbind_prep::schema::{DataFile, PredictionHeader, PredictionWriter, Task};

use crate::simdata::read_table;
use crate::support::{Workplace, letters};

#[test]
fn data_file_table_and_fasta_hold_the_same() {
    let place = Workplace::empty();
    place.runs(
        "simulate multi-motif --num-seqs 200 --length 120 --valid-share 0.25 --test-count 7 --out d.h5",
    );
    let (targets, rows) = read_table(&place, "d.simdata");
    let fasta: String = rows
        .iter()
        .map(|row| format!(">{}\n{}\n", row.name, row.sequence))
        .collect();
    assert_eq!(fs::read_to_string(place.path("d.fa")).unwrap(), fasta);

    let file = DataFile::open(place.path("d.h5")).unwrap();
    let header = file.header();
    assert_eq!(
        (header.task, header.length, header.margin),
        (Task::PerWindow, 120, 0)
    );
    assert_eq!(
        (&header.targets, header.genome.as_str()),
        (&targets, "d.fa")
    );
    assert!(header.recipe.contains("kind = \"multi-motif\"") && !header.recipe.contains("d.h5"));
    assert!(header.recipe.contains("ZNF143_known2"), "{}", header.recipe);
    assert!(header.contigs.iter().all(|contig| contig.size == 120));
    let mut seen = HashMap::new();
    for (split, number) in [("train", 143), ("valid", 50), ("test", 7)] {
        let windows = place.windows("d.h5", split);
        assert_eq!(windows.len(), number);
        for window in windows {
            let name = &header.contigs[window.locus.contig as usize].name;
            assert_eq!((window.locus.start, window.locus.strand), (0, 1));
            assert!(
                seen.insert(name.clone(), (letters(&window.seq), window.label))
                    .is_none()
            );
        }
    }
    assert_eq!(seen.len(), 200);
    for (number, row) in rows.into_iter().enumerate() {
        assert_eq!(row.name, format!("synth{number}"));
        assert_eq!(seen[&row.name], (row.sequence, row.labels));
    }
    let info = fs::read_to_string(place.path("d_info.txt")).unwrap();
    let info: serde_json::Value = serde_json::from_str(&info).unwrap();
    assert_eq!(info["options"]["kind"], "multi-motif");
    assert_eq!(info["motifs"][1]["name"], "ZNF143_known2");
    assert_eq!(info["groups"][0]["num_seqs"], 200);
    place.runs("inspect d.h5 --rows 2");
}

#[test]
fn what_was_asked_for_is_kept_with_the_defaults_that_stood_for_the_rest() {
    let place = Workplace::empty();
    let density = "simulate motif-density --num-pos 5 --num-neg 5 --out d.h5";
    let asked = |more: &str| -> serde_json::Value {
        place.runs(&format!("{density} {more}"));
        let info = fs::read_to_string(place.path("d_info.txt")).unwrap();
        let info: serde_json::Value = serde_json::from_str(&info).unwrap();
        info["options"].clone()
    };
    let options = asked("--min 3");
    assert_eq!(options["gc"], 0.4);
    assert_eq!(options["motif"], "TAL1_known4");
    assert_eq!(options["neg-min"], 3);
    assert_eq!(options["neg-max"], 4);
    let options = asked("--gc 0.5 --neg-max 3");
    assert_eq!(options["gc"], 0.5);
    assert_eq!(options["neg-min"], 2);
    assert_eq!(options["neg-max"], 3);
    assert!(asked("--background markov")["gc"].is_null());
}

#[test]
fn predictions_are_told_by_the_name_of_their_sequence() {
    let place = Workplace::empty();
    place.runs(
        "simulate motif-detection --num-pos 6 --num-neg 6 --length 50 --test-count 4 --out d.h5",
    );
    let file = DataFile::open(place.path("d.h5")).unwrap();
    let (header, split) = (file.header(), file.split("test").unwrap());
    let predictions = PredictionHeader {
        task: header.task,
        length: header.length,
        bin: None,
        margin: 0,
        genome: header.genome.clone(),
        contigs: header.contigs.clone(),
        targets: header.targets.clone(),
        model: "none".to_owned(),
    };
    let loci = split.loci().unwrap();
    let values = [0.1, 0.2, 0.3, 0.4];
    let mut writer = PredictionWriter::create(place.path("p.h5"), &predictions, 4).unwrap();
    writer.write_rows(0, &values).unwrap();
    writer.write_loci(&loci).unwrap();
    writer.finish().unwrap();
    place.runs("export p.h5 --bedgraph p.bg --bigwig p.bw");
    let mut expected: Vec<_> = loci
        .iter()
        .zip(values)
        .map(|(locus, value)| {
            format!(
                "{}\t0\t50\t{value}",
                header.contigs[locus.contig as usize].name
            )
        })
        .collect();
    expected.sort();
    let text = fs::read_to_string(place.path("p.bg")).unwrap();
    assert_eq!(text.lines().collect::<Vec<_>>(), expected);
}

#[test]
fn a_seed_makes_the_same_files_whatever_the_splits_and_another_others() {
    let place = Workplace::empty();
    for (name, more) in [
        ("a", "--seed 3"),
        ("b", "--seed 3"),
        ("c", "--seed 4"),
        ("d", "--seed 3 --test-count 0"),
    ] {
        fs::create_dir(place.path(name)).unwrap();
        place.runs(&format!(
            "simulate motif-counting --num-pos 20 --num-neg 20 {more} --out {name}/t.h5"
        ));
    }
    let read = |folder: &str, file: &str| fs::read(place.path(folder).join(file)).unwrap();
    for file in ["t.h5", "t.simdata", "t.fa", "t_info.txt"] {
        assert!(read("a", file) == read("b", file), "{file}");
        assert!(read("a", file) != read("c", file), "{file}");
    }
    assert!(read("a", "t.simdata") == read("d", "t.simdata"));
    assert_eq!(place.names(), ["a", "b", "c", "d"]);
    assert_eq!(
        place.names_in("a"),
        ["t.fa", "t.h5", "t.simdata", "t_info.txt"]
    );
}

#[test]
fn help_shows_the_published_values() {
    let place = Workplace::empty();
    for (kind, values) in [
        (
            "motif-density",
            &[
                "1500",
                "10000",
                "2",
                "4",
                "centre:150",
                "0.4",
                "TAL1_known4",
            ][..],
        ),
        ("motif-counting", &["1000", "3", "5", "0"]),
        ("multi-motif", &["500", "20000", "CTCF_known1"]),
        ("heterodimer", &["500", "SPI1_known4", "2", "5"]),
    ] {
        let help = place.runs(&format!("simulate {kind} --help"));
        for value in values {
            assert!(
                help.contains(&format!("[default: {value}")),
                "{kind} {value}: {help}"
            );
        }
    }
}

#[test]
fn what_cannot_be_simulated_is_one_clear_line() {
    let place = Workplace::empty();
    let density = "simulate motif-density --num-pos 5 --num-neg 5 --out t.h5";
    for (arguments, word) in [
        ("simulate", "--out"),
        (
            "simulate --out g motif-density --out t.h5",
            "cannot be used with",
        ),
        ("simulate motif-density --out t.tsv", "ends in .h5"),
        (
            "simulate motif-density --out none/t.h5 --num-pos 5 --num-neg 5",
            "none",
        ),
        (&format!("{density} --gc 1.4"), "--gc 1.4"),
        (&format!("{density} --min 5"), "--min 5, --max 4"),
        (&format!("{density} --position centre:9"), "10 bases"),
        (&format!("{density} --position middle"), "is not a position"),
        (
            &format!("{density} --min 20 --max 20 --length 180"),
            "found no place",
        ),
        (&format!("{density} --rc-prob 2"), "--rc-prob 2"),
        (&format!("{density} --motif TAL2"), "TAL1_known4"),
        (
            &format!("{density} --valid-count 9 --test-count 1"),
            "none of 10 is left",
        ),
        (
            "simulate motif-density --num-pos 0 --num-neg 0 --out t.h5",
            "--num-pos 0, --num-neg 0: expected at least one sequence",
        ),
        (
            "simulate multi-motif --num-seqs 0 --out t.h5",
            "--num-seqs 0: expected at least one sequence",
        ),
        (
            &format!("{density} --valid-share 0.2 --valid-count 2"),
            "cannot be used with",
        ),
        (&format!("{density} --seed 18446744073709551615"), "seed"),
        ("simulate multi-motif --max 4 --out t.h5", "up to 4 of 3"),
        (
            "simulate multi-motif --motif CTCF --motif CTCF --max 2 --out t.h5",
            "named twice",
        ),
        (
            "simulate heterodimer --motif CTCF --out t.h5",
            "give --motif twice",
        ),
    ] {
        let outcome = place.run(arguments);
        assert!(!outcome.success, "{arguments}");
        assert!(
            outcome.stderr.contains(word),
            "{arguments}: {}",
            outcome.stderr
        );
    }
    assert!(place.names().is_empty(), "{:?}", place.names());
}
