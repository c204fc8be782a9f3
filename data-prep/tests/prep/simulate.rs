use std::collections::HashMap;
use std::fs;

use crate::support::{Workplace, read_bigwig, read_windows};

const SMALL: &str = "--contigs 11 --contig-length 60000 --site-spacing 3000";

#[test]
fn a_seed_makes_the_same_bytes_and_another_others() {
    let place = Workplace::empty();
    for (folder, seed) in [("a", 5), ("b", 5), ("c", 6)] {
        place.runs(&format!("simulate --out {folder} --seed {seed} {SMALL}"));
    }
    let read = |folder: &str, file: &str| fs::read(place.path(folder).join(file)).unwrap();
    for file in [
        "genome.fa",
        "genome.fa.fai",
        "chrom.sizes",
        "dnase.bigWig",
        "ctcf.narrowPeak",
        "ctcf.pfm",
        "truth.tsv",
    ] {
        assert!(read("a", file) == read("b", file), "{file}");
    }
    for file in ["genome.fa", "dnase.bigWig", "ctcf.narrowPeak", "truth.tsv"] {
        assert!(read("a", file) != read("c", file), "{file}");
    }
}

struct Site {
    contig: String,
    start: usize,
    open: bool,
    bound: bool,
}

#[test]
fn sites_are_where_the_truth_says_and_need_both_inputs_to_be_told() {
    let place = Workplace::empty();
    place.runs(&format!("simulate --out s {SMALL}"));
    let text = fs::read_to_string(place.path("s/genome.fa")).unwrap();
    let genome: HashMap<_, _> = text[1..]
        .split("\n>")
        .map(|contig| {
            let (name, lines) = contig.split_once('\n').unwrap();
            (name, lines.replace('\n', ""))
        })
        .collect();
    assert!(
        genome
            .values()
            .all(|contig| contig.len() == 60_000 && contig.starts_with("NNN"))
    );

    let truth = fs::read_to_string(place.path("s/truth.tsv")).unwrap();
    let sites: Vec<_> = truth
        .lines()
        .skip(1)
        .map(|line| {
            let fields: Vec<_> = line.split('\t').collect();
            let (start, end): (usize, usize) =
                (fields[1].parse().unwrap(), fields[2].parse().unwrap());
            let mut seen = genome[fields[0]][start..end].to_ascii_uppercase();
            if fields[3] == "-" {
                let other = |base| "TGCA".as_bytes()["ACGT".find(base).unwrap()] as char;
                seen = seen.chars().rev().map(other).collect();
            }
            assert_eq!(seen, fields[4], "{line}");
            Site {
                contig: fields[0].to_owned(),
                start,
                open: fields[5] == "1",
                bound: fields[6] == "1",
            }
        })
        .collect();
    let count = |of: fn(&Site) -> bool| sites.iter().filter(|site| of(site)).count();
    assert_eq!(count(|site| site.open) * 2, sites.len());
    assert!(count(|site| site.open && site.bound) * 10 > count(|site| site.open) * 8);
    assert!(count(|site| !site.open && site.bound) * 10 < count(|site| !site.open));

    let peaks = fs::read_to_string(place.path("s/ctcf.narrowPeak")).unwrap();
    assert_eq!(peaks.lines().count(), count(|site| site.bound));

    let signal: HashMap<_, _> = read_bigwig(&place.path("s/dnase.bigWig"))
        .into_iter()
        .map(|(name, _, runs)| (name, runs))
        .collect();
    let mean_around = |site: &Site| {
        let (from, until) = (site.start as u32 - 50, site.start as u32 + 69);
        let near = signal[&site.contig]
            .iter()
            .filter(|run| run.1 > from && run.0 < until);
        near.map(|run| run.2 * (run.1.min(until) - run.0.max(from)) as f32)
            .sum::<f32>()
            / 119.0
    };
    let mean = |open: bool| {
        let means: Vec<_> = sites
            .iter()
            .filter(|site| site.open == open)
            .map(mean_around)
            .collect();
        means.iter().sum::<f32>() / means.len() as f32
    };
    assert!(
        mean(true) > 5.0 && mean(false) < 1.0,
        "{} {}",
        mean(true),
        mean(false)
    );
}

#[test]
fn what_is_simulated_can_be_made_into_windows() {
    let place = Workplace::empty();
    let told = place.runs(&format!("simulate --out s {SMALL}"));
    assert!(told.contains("open regions without a site"), "{told}");
    place.runs(
        "make --fasta s/genome.fa --signal s/dnase.bigWig --peaks s/ctcf.narrowPeak --out w.h5 \
         --length 2000 --valid sim10 --test sim11",
    );
    let windows = read_windows(&place.path("w.h5"), "train");
    assert!(windows.iter().any(|window| window.label.contains(&1)));
    assert!(windows.iter().any(|window| !window.label.contains(&1)));
    assert!(!place.run("simulate --out t --site-spacing 100").success);
    assert!(!place.run("simulate --out t --contig-length 9000").success);
}
