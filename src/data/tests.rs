use super::*;
use tch::Kind;
use tfbind_prep::schema::{Central, ContextWriter, Contig, DataWriter, Stretch, Window};

const LENGTH: usize = 8;
const MARGIN: usize = 2;
const TRACKS: usize = 2;
const TARGETS: usize = 2;

// Each place of the contig has a signal of its own, so that a slip by one shows.
fn base(at: i64) -> u8 {
    (at * at % 5) as u8
}
fn signal(track: usize, at: i64) -> f16 {
    f16::from_f32((at + 100 * track as i64) as f32)
}
fn label(target: usize, at: i64) -> i8 {
    ((at / 2 + target as i64) % 3 - 1) as i8
}

/// Two rows of 8 bases that touch, 10..18 and 18..26, with 2 bases of margin.
pub fn windows(folder: &Path) -> Windows {
    let path = folder.join("data.h5");
    let header = Header {
        task: Task::PerBase,
        length: LENGTH,
        margin: MARGIN,
        genome: String::new(),
        contigs: vec![Contig {
            name: "c".into(),
            size: 1000,
        }],
        tracks: vec!["a".into(), "b".into()],
        targets: vec!["x".into(), "y".into()],
        groups: vec![String::new(); 2],
        normalise: "none".into(),
        missing: "zero".into(),
        recipe: String::new(),
        recipe_hash: String::new(),
    };
    let mut writer = DataWriter::create(&path, &header, true).unwrap();
    for start in [10, 18] {
        let wide = start - MARGIN as i64..start + (LENGTH + MARGIN) as i64;
        let inside = start..start + LENGTH as i64;
        let seq = wide.clone().map(|at| base(at) | 0x80).collect();
        let signal = |track| wide.clone().map(move |at| signal(track, at));
        let label = |target| inside.clone().map(move |at| label(target, at));
        let window = Window {
            seq,
            signal: (0..TRACKS).flat_map(signal).collect(),
            label: (0..TARGETS).flat_map(label).collect(),
            locus: Locus {
                contig: 0,
                start,
                strand: 1,
            },
        };
        writer.push("train", &window).unwrap();
    }
    writer.finish().unwrap();
    Windows::open(&path, "train").unwrap()
}

#[test]
fn rows_are_cut_as_drawn() {
    let folder = tempfile::tempdir().unwrap();
    let windows = windows(folder.path());
    let plain = Draw::from(1);
    for (draw, start) in [
        (plain, 18),
        (Draw { shift: -2, ..plain }, 16),
        (
            Draw {
                shift: 1,
                reverse_complement: true,
                ..plain
            },
            19,
        ),
        (
            Draw {
                row: 0,
                between: true,
                ..Draw::default()
            },
            14,
        ),
    ] {
        let rows = windows.read(&[draw]).unwrap();
        let mut places: Vec<i64> = (start..start + LENGTH as i64).collect();
        if draw.reverse_complement {
            places.reverse();
        }
        // A shift brings in bases whose label the row does not hold.
        let known = if draw.between { 10..26 } else { 18..26 };
        let letter = |at: &i64| match base(*at) {
            code if draw.reverse_complement && code < 4 => 3 - code,
            code => code,
        };
        assert_eq!(
            rows.seq,
            places.iter().map(letter).collect::<Vec<_>>(),
            "{draw:?}"
        );
        for track in 0..TRACKS {
            let expected: Vec<f16> = places.iter().map(|&at| signal(track, at)).collect();
            assert_eq!(
                rows.signal[track * LENGTH..][..LENGTH],
                expected,
                "{draw:?}"
            );
        }
        for target in 0..TARGETS {
            let of = |at: &i64| {
                if known.contains(at) {
                    label(target, *at)
                } else {
                    -1
                }
            };
            let expected: Vec<i8> = places.iter().map(of).collect();
            assert_eq!(
                rows.label[target * LENGTH..][..LENGTH],
                expected,
                "{draw:?}"
            );
        }
    }
}

#[test]
fn the_input_is_one_hot_acgt_then_the_tracks_and_n_is_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let windows = windows(folder.path());
    let rows = windows.read(&[Draw::from(0)]).unwrap();
    let input = rows.input(windows.io(), Device::Cpu);
    assert_eq!(input.size(), [1, 4 + TRACKS as i64, LENGTH as i64]);
    assert!(rows.seq.contains(&4), "an N is among them");
    for (at, &code) in rows.seq.iter().enumerate() {
        let value = |channel: i64| input.double_value(&[0, channel, at as i64]);
        for channel in 0..4 {
            assert_eq!(
                value(channel),
                f64::from(u8::from(i64::from(code) == channel))
            );
        }
        assert_eq!(value(5), f64::from(rows.signal[LENGTH + at].to_f32()));
    }
}

/// All windows of two stretches, three bases on each side of a hidden one.
pub fn hidden(folder: &Path, central: Central) -> Windows {
    let path = folder.join("hidden.h5");
    let task = Task::Central(central);
    let header = Header {
        task,
        length: 7,
        margin: 0,
        genome: String::new(),
        contigs: vec![Contig {
            name: "c".into(),
            size: 100,
        }],
        tracks: Vec::new(),
        targets: vec![task.to_string()],
        groups: vec![String::new()],
        normalise: "none".into(),
        missing: "none".into(),
        recipe: String::new(),
        recipe_hash: String::new(),
    };
    let stretches = STRETCHES.map(|(start, letters)| Stretch {
        contig: 0,
        start,
        bases: letters.len() as u64,
    });
    let mut writer = ContextWriter::create(&path, &header).unwrap();
    writer.add_split("train", stretches.to_vec(), None).unwrap();
    for (_, letters) in STRETCHES {
        let code = |letter: char| {
            let code = "ACGT".find(letter.to_ascii_uppercase()).unwrap() as u8;
            code | if letter.is_lowercase() {
                SOFT_MASKED
            } else {
                0
            }
        };
        let codes: Vec<u8> = letters.chars().map(code).collect();
        writer.append("train", &codes).unwrap();
    }
    writer.finish().unwrap();
    Windows::open(&path, "train").unwrap()
}

/// Start and letters, lower case in repeats.
const STRETCHES: [(u64, &str); 2] = [(10, "ACGTacgTTG"), (40, "CCGATgCA")];

#[test]
fn a_hidden_base_is_shown_on_neither_strand_and_told_on_both() {
    let folder = tempfile::tempdir().unwrap();
    for central in [Central::Base, Central::BasePair, Central::Purine] {
        let windows = hidden(folder.path(), central);
        assert_eq!(windows.num_rows(), 6);
        // (letters of the window, its start), by hand from the stretches.
        let mut expected = Vec::new();
        for (start, letters) in STRETCHES {
            for first in 0..=letters.len() - 7 {
                expected.push((&letters[first..first + 7], start as i64 + first as i64));
            }
        }
        let loci = windows.loci().unwrap();
        for (row, (letters, start)) in expected.into_iter().enumerate() {
            assert_eq!(loci[row].start, start);
            let complement = |letter: char| "TGCA".as_bytes()["ACGT".find(letter).unwrap()] as char;
            let upper = letters.to_ascii_uppercase();
            let turned: String = upper.chars().rev().map(complement).collect();
            for (reverse_complement, letters_seen) in [(false, upper), (true, turned)] {
                let draw = Draw {
                    reverse_complement,
                    ..Draw::from(row as u32)
                };
                let rows = windows.read(&[draw]).unwrap();
                let shown: String = rows
                    .seq
                    .iter()
                    .map(|&code| ['A', 'C', 'G', 'T', 'N'][code as usize])
                    .collect();
                assert_eq!(
                    shown,
                    format!("{}N{}", &letters_seen[..3], &letters_seen[4..])
                );
                let hidden = &letters_seen[3..4];
                let label = match central {
                    Central::Base => "ACGT".find(hidden).unwrap() as i8,
                    Central::BasePair => i8::from("CG".contains(hidden)),
                    Central::Purine => i8::from("AG".contains(hidden)),
                };
                assert_eq!(
                    rows.label,
                    [label],
                    "row {row}, turned {reverse_complement}"
                );
                assert_eq!(rows.repeat, [letters.as_bytes()[3].is_ascii_lowercase()]);
                let input = rows.input(windows.io(), Device::Cpu);
                let centre = input.narrow(2, 3, 1).abs().sum(Kind::Float);
                assert_eq!(centre.double_value(&[]), 0.0, "nothing of the base");
            }
        }
    }
}

#[test]
fn labels_that_are_bases_are_counted_by_base() {
    let folder = tempfile::tempdir().unwrap();
    let base = hidden(folder.path(), Central::Base);
    // Centres T a c g of the first stretch, A T of the second.
    assert_eq!(base.counts.bases, [2, 1, 1, 2]);
    assert_eq!((base.positive_share(), base.header.classes()), (None, 4));
    let purine = hidden(folder.path(), Central::Purine);
    assert_eq!((purine.counts.positives, purine.counts.negatives), (3, 3));
    assert_eq!(
        (purine.positive_share(), purine.header.classes()),
        (Some(0.5), 1)
    );
}

#[test]
fn repeats_are_those_of_the_centre_that_is_shown() {
    let folder = tempfile::tempdir().unwrap();
    let windows = windows(folder.path());
    let draws = [Draw::from(0), Draw::from(1)];
    // Every base of that file is soft-masked.
    assert_eq!(windows.read(&draws).unwrap().repeat, [true, true]);
    assert_eq!(windows.read_whole(0..2).unwrap().repeat, [true, true]);
    let hidden = hidden(folder.path(), Central::Base);
    let marks = [false, true, true, true, false, false];
    assert_eq!(hidden.read_whole(0..6).unwrap().repeat, marks);
    let rows = hidden.read(&[Draw::from(1), Draw::from(4)]).unwrap();
    assert_eq!(
        (rows.one(0).repeat, rows.one(1).repeat),
        (vec![true], vec![false])
    );
}
