//! Windows around hidden bases, against a naive reading of the FASTA.

use std::fs;

use half::f16;
use tfbind_prep::schema::{
    Central, Contig, Counts, DataFile, Locus, PredictionHeader, PredictionWriter, Task, Window,
};

use crate::support::{Workplace, letters, read_bigwig};

/// Contigs of random letters with repeats in lower case, runs of N and single ones.
fn genome(place: &Workplace, sizes: &[usize]) -> Vec<(String, String)> {
    let mut state = 7u64;
    let mut random = |below: u64| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (state >> 33) % below
    };
    let mut contig = |(index, &size): (usize, &usize)| {
        let (mut sequence, mut lower) = (String::new(), false);
        while sequence.len() < size {
            match random(60) {
                0 => sequence += &"N".repeat(1 + random(9) as usize),
                1 => lower = !lower,
                _ => {
                    let letter = b"ACGT"[random(4) as usize] as char;
                    sequence.push(if lower {
                        letter.to_ascii_lowercase()
                    } else {
                        letter
                    });
                }
            }
        }
        sequence.truncate(size);
        (format!("c{}", index + 1), sequence)
    };
    let contigs: Vec<_> = sizes.iter().enumerate().map(&mut contig).collect();
    let record = |(name, sequence): &(String, String)| format!(">{name} text\n{sequence}\n");
    place.write("g.fa", contigs.iter().map(record).collect::<String>());
    contigs
}

/// Every window of `region`, read letter by letter; its label is asked of the letter that it hides.
fn naive(
    contigs: &[(String, String)],
    (contig, start, end): (usize, usize, usize),
    flank: usize,
    target: &str,
) -> Vec<Window> {
    let sequence = &contigs[contig].1.as_bytes()[start..end];
    let whole = sequence.windows(2 * flank + 1).enumerate();
    let known = whole.filter(|(_, window)| !window.contains(&b'N'));
    known
        .map(|(first, window)| {
            let code = |&letter: &u8| {
                let code = b"ACGT"
                    .iter()
                    .position(|of| of.eq_ignore_ascii_case(&letter));
                code.unwrap() as u8 | if letter.is_ascii_lowercase() { 0x80 } else { 0 }
            };
            let mut seq: Vec<u8> = window.iter().map(code).collect();
            seq[flank] = 4 | (seq[flank] & 0x80);
            Window {
                seq,
                signal: Vec::new(),
                label: vec![label(target, window[flank].to_ascii_uppercase() as char)],
                locus: Locus {
                    contig: contig as u32,
                    start: (start + first) as i64,
                    strand: 1,
                },
            }
        })
        .collect()
}

fn label(target: &str, letter: char) -> i8 {
    match target {
        "base" => "ACGT".find(letter).unwrap() as i8,
        "base-pair" => i8::from("CG".contains(letter)),
        _ => i8::from("AG".contains(letter)),
    }
}

#[test]
fn rows_are_the_windows_of_a_naive_reader_for_every_target() {
    let place = Workplace::empty();
    let contigs = genome(&place, &[700, 400, 300, 9]);
    for (flank, target, heads) in [
        (1, "base", "A        C        G        T"),
        (3, "base-pair", "windows      C-G"),
        (10, "purine", "windows   A or G"),
    ] {
        let said = place.runs(&format!(
            "context --fasta g.fa --flank {flank} --target {target} --out out.h5 \
             --train c1:0-500,c3 --valid c1:500-700 --test c2"
        ));
        assert!(said.lines().any(|line| line.ends_with(heads)), "{said}");
        let train = [(0, 0, 500), (2, 0, 300)].map(|region| naive(&contigs, region, flank, target));
        let splits = [
            ("train", train.concat()),
            ("valid", naive(&contigs, (0, 500, 700), flank, target)),
            ("test", naive(&contigs, (1, 0, 400), flank, target)),
        ];
        for (split, expected) in splits {
            assert!(expected.len() > 50, "{split} has {}", expected.len());
            let found = place.windows("out.h5", split);
            assert_eq!(found.len(), expected.len(), "{target}, {split}");
            assert_eq!(found, expected, "{target}, {split}");
            let of = |value: i8| {
                expected
                    .iter()
                    .filter(|window| window.label == [value])
                    .count() as u64
            };
            let mut counts = Counts {
                windows: expected.len() as u64,
                ..Counts::default()
            };
            match target {
                "base" => counts.bases = [of(0), of(1), of(2), of(3)],
                _ => (counts.positives, counts.negatives) = (of(1), of(0)),
            }
            let file = DataFile::open(place.path("out.h5")).unwrap();
            assert_eq!(file.split(split).unwrap().counts(), counts);
            assert_eq!(file.header().task.as_str(), target);
            assert_eq!(file.header().length, 2 * flank + 1);
        }
    }
}

#[test]
fn a_sample_is_some_of_the_windows_each_once_and_the_same_again() {
    let place = Workplace::empty();
    genome(&place, &[2000, 500]);
    let make = |more: &str| {
        let command = "context --fasta g.fa --flank 2 --out out.h5 --valid c2";
        place.runs(&format!("{command} {more}"));
        place.windows("out.h5", "train")
    };
    let all = make("");
    let valid = place.windows("out.h5", "valid").len();
    let some = make("--sample 200 --sample valid=whole");
    let bytes = fs::read(place.path("out.h5")).unwrap();
    assert_eq!(place.windows("out.h5", "valid").len(), valid);
    assert_eq!(some.len(), 200);
    assert!(
        some.is_sorted_by(|a, b| a.locus.start < b.locus.start),
        "each once"
    );
    assert!(some.iter().all(|window| all.contains(window)));
    // A third of a sample lies in a third of the windows, within five standard deviations.
    let third = all[all.len() / 3].locus.start;
    let before = some
        .iter()
        .filter(|window| window.locus.start < third)
        .count();
    assert!(
        (34..=100).contains(&before),
        "{before} of 200 in the first third"
    );

    make("--sample 200 --sample valid=whole");
    assert!(
        bytes == fs::read(place.path("out.h5")).unwrap(),
        "the same draw again"
    );
    assert_ne!(make("--sample train=200 --seed 2"), some);
    assert_eq!(make(&format!("--sample train={}", all.len())), all);
}

#[test]
fn inspect_shows_what_is_hidden() {
    let place = Workplace::empty();
    place.write("g.fa", ">a\nACGTACGTAC\n>b\nGGAcATT\n");
    place.runs("context --fasta g.fa --flank 3 --test b --valid a --genome toy --out out.h5");
    let text = place.runs("inspect out.h5");
    assert!(
        text.contains("windows of 3 bases on each side of a hidden one, base, toy"),
        "{text}"
    );
    assert!(
        text.contains("valid: 4 windows, 1 A, 1 C, 1 G, 1 T"),
        "{text}"
    );
    assert!(
        text.contains("0 b:0-7 + GC 0.333, centre soft-masked\n    base: C"),
        "{text}"
    );
    let json: serde_json::Value =
        serde_json::from_str(&place.runs("inspect out.h5 --json")).unwrap();
    assert_eq!(json["classes"], 4);
    assert_eq!(json["splits"][1]["bases"], serde_json::json!([0, 1, 0, 0]));
    assert_eq!(json["splits"][1]["rows"][0]["repeat"], true);
    assert_eq!(json["splits"][1]["rows"][0]["labels"][0]["base"], "C");

    place.runs("context --fasta g.fa --flank 3 --target purine --test b --valid a --out out.h5");
    let text = place.runs("inspect out.h5 --split valid");
    assert!(
        text.contains("valid: 4 windows, 2 positives, 2 negatives"),
        "{text}"
    );
    assert!(text.contains("purine: a:4-5, 0 masked"), "{text}");
}

#[test]
fn predictions_of_a_hidden_base_lie_on_it() {
    let place = Workplace::empty();
    let header = PredictionHeader {
        task: Task::Central(Central::Base),
        length: 5,
        bin: None,
        margin: 0,
        genome: "toy".into(),
        contigs: vec![Contig {
            name: "a".into(),
            size: 20,
        }],
        targets: ["A", "C", "G", "T"].map(String::from).to_vec(),
        model: "m".into(),
    };
    let mut writer = PredictionWriter::create(place.path("p.h5"), &header, 3).unwrap();
    let locus = |start| Locus {
        contig: 0,
        start,
        strand: 1,
    };
    writer.write_loci(&[locus(4), locus(5), locus(9)]).unwrap();
    let rows = [
        [0.5, 0.25, 0.125, 0.125],
        [0.25, 0.25, 0.25, 0.25],
        [0.0, 0.75, 0.25, 0.0],
    ];
    writer.write_rows(0, rows.as_flattened()).unwrap();
    writer.finish().unwrap();
    place.runs("export p.h5 --bigwig c.bw --target C");
    let runs = vec![(6, 8, 0.25), (11, 12, 0.75)];
    assert_eq!(
        read_bigwig(&place.path("c.bw")),
        [("a".to_owned(), 20, runs)]
    );
    let refused = place.run("export p.h5 --bigwig c.bw --target C --trim 1");
    assert!(
        refused.stderr.contains("--trim 1: predictions of base"),
        "{}",
        refused.stderr
    );
}

#[test]
fn the_sequence_is_kept_once_and_older_programs_are_told() {
    let place = Workplace::empty();
    let letters = "ACGTTGCA".repeat(100);
    place.write("g.fa", format!(">c1\n{letters}\n>c2\n{letters}\n"));
    place.runs("context --fasta g.fa --flank 50 --valid c2:0-101 --train c1 --out out.h5");
    let file = hdf5::File::open(place.path("out.h5")).unwrap();
    let version = file.attr("schema_version").unwrap().read_scalar::<u32>();
    assert_eq!(version.unwrap(), 2);
    let size = |dataset: &str| file.dataset(dataset).unwrap().size();
    assert_eq!((size("train/seq"), size("valid/seq")), (800, 101));
    drop(file);
    assert_eq!(place.windows("out.h5", "train").len(), 700);
    assert_eq!(place.windows("out.h5", "valid").len(), 1);
    let small = Workplace::small();
    small.makes("--valid chr2");
    let version = hdf5::File::open(small.path("out.h5"))
        .unwrap()
        .attr("schema_version");
    assert_eq!(version.unwrap().read_scalar::<u32>().unwrap(), 1);
}

#[test]
fn windows_are_complete_in_text() {
    let place = Workplace::empty();
    place.write("g.fa", ">a\nACGTNacgtacg\n>b\nACGTACGTAC\n");
    place.runs("context --fasta g.fa --flank 1 --valid b --out out.h5");
    let train = place.windows("out.h5", "train");
    let text: Vec<_> = train
        .iter()
        .map(|window| (letters(&window.seq), window.label[0], window.locus.start))
        .collect();
    let expected = [
        ("ANG", 1, 0),
        ("CNT", 2, 1),
        ("ang", 1, 5),
        ("cnt", 2, 6),
        ("gna", 3, 7),
        ("tnc", 0, 8),
        ("ang", 1, 9),
    ];
    assert_eq!(
        text,
        expected.map(|(seq, label, start)| (seq.to_owned(), label, start))
    );
    assert_eq!(train[0].signal, Vec::<f16>::new());
}
