use std::collections::HashMap;
use std::fs;

use sha2::{Digest, Sha256};

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

/// SHA-256 of what the program wrote before it had kinds, cell types and co-factors; of bigWig, of its runs.
const UNCHANGED: [(&str, &str); 7] = [
    (
        "genome.fa",
        "1e00d916f97c3bd8bb7e5adedd281e7fc5a8f55029b734011a4c4914cc93fefc",
    ),
    (
        "genome.fa.fai",
        "b6c2d05a3b9184819ca48b851d8f30ac1b04769d7369dabc5c753d4ec745f5cd",
    ),
    (
        "chrom.sizes",
        "d832db42b2a1697b8a9ba9470a6df38f9bd2a014d587e6b39eb5a89760a7414b",
    ),
    (
        "ctcf.narrowPeak",
        "be08d0756d144b128c1e64e2d115853a9b81ec237367b051e59d9c6b53c21fde",
    ),
    (
        "ctcf.pfm",
        "34f680ffd7624fc1f789320045f653a809c1605db66ff1a1f91fea7adaa934e3",
    ),
    (
        "truth.tsv",
        "c5d3189dc83f29a979af1309e093690266275d80599bc2936fee1fe247c96743",
    ),
    (
        "dnase.bigWig",
        "0ca79f1b3eb1c0c0aa0c79aa3b0d2c349e73ba874fd59bf43136cc722e3a2ef1",
    ),
];

#[test]
fn without_new_options_the_files_are_those_of_old() {
    let place = Workplace::empty();
    for kind in ["", "genome"] {
        place.runs(&format!("simulate {kind} --out s --seed 5 {SMALL}"));
        let mut names: Vec<_> = UNCHANGED.iter().map(|(file, _)| *file).collect();
        names.sort_unstable();
        assert_eq!(place.names_in("s"), names);
        for (file, expected) in UNCHANGED {
            let path = place.path("s").join(file);
            let bytes = match file {
                "dnase.bigWig" => format!("{:?}", read_bigwig(&path)).into_bytes(),
                _ => fs::read(path).unwrap(),
            };
            let hash = Sha256::digest(bytes);
            let hash: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
            assert_eq!(hash, expected, "{kind} {file}");
        }
        fs::remove_dir_all(place.path("s")).unwrap();
    }
}

/// Rows of truth.tsv by the names of their columns.
fn truth(place: &Workplace, folder: &str) -> Vec<HashMap<String, String>> {
    let text = fs::read_to_string(place.path(folder).join("truth.tsv")).unwrap();
    let mut lines = text.lines().map(|line| line.split('\t'));
    let titles: Vec<_> = lines.next().unwrap().collect();
    let row = |fields: std::str::Split<char>| {
        let fields: Vec<_> = fields.collect();
        assert_eq!(fields.len(), titles.len());
        let named = titles.iter().zip(fields);
        named
            .map(|(title, field)| ((*title).to_owned(), field.to_owned()))
            .collect()
    };
    lines.map(row).collect()
}

fn count(rows: &[HashMap<String, String>], wanted: &[(&str, &str)]) -> usize {
    let is = |row: &&HashMap<String, String>| wanted.iter().all(|&(title, is)| row[title] == is);
    rows.iter().filter(is).count()
}

#[test]
fn cell_types_share_sites_and_each_opens_and_binds_its_own() {
    let place = Workplace::empty();
    place.runs(&format!("simulate --out one {SMALL}"));
    let told = place.runs(&format!(
        "simulate genome --out many --cells K562,HepG2 {SMALL}"
    ));
    assert!(told.contains("; HepG2 ("), "{told}");
    let read = |file: &str| fs::read(place.path(file)).unwrap();
    for (one, many) in [
        ("genome.fa", "genome.fa"),
        ("dnase.bigWig", "dnase.K562.bigWig"),
        ("ctcf.narrowPeak", "ctcf.K562.narrowPeak"),
    ] {
        assert!(
            read(&format!("one/{one}")) == read(&format!("many/{many}")),
            "{many}"
        );
    }
    let rows = truth(&place, "many");
    for cell in ["K562", "HepG2"] {
        let (open, bound) = (format!("open.{cell}"), format!("bound.{cell}"));
        let is_open = count(&rows, &[(&open, "1")]);
        assert_eq!(2 * is_open, rows.len());
        assert!(count(&rows, &[(&open, "1"), (&bound, "1")]) * 10 > is_open * 8);
        assert!(count(&rows, &[(&open, "0"), (&bound, "1")]) * 10 < is_open);
        let peaks = fs::read_to_string(place.path("many").join(format!("ctcf.{cell}.narrowPeak")));
        assert_eq!(
            peaks.unwrap().lines().count(),
            count(&rows, &[(&bound, "1")])
        );
    }
    let elsewhere = [("open.K562", "0"), ("open.HepG2", "1")];
    let changed = count(&rows, &elsewhere);
    assert!(
        (rows.len() / 8..rows.len() * 3 / 8).contains(&changed),
        "{changed}"
    );

    // Chromatin of each cell type is open where its own column says so.
    let mean = |cell: &str| {
        let signal = read_bigwig(&place.path("many").join(format!("dnase.{cell}.bigWig")));
        let signal: HashMap<_, _> = signal
            .into_iter()
            .map(|(name, _, runs)| (name, runs))
            .collect();
        let moved = rows
            .iter()
            .filter(|row| elsewhere.iter().all(|&(title, is)| row[title] == is));
        let values = moved.map(|row| {
            let start: u32 = row["start"].parse().unwrap();
            let at = |run: &&(u32, u32, f32)| run.0 <= start && start < run.1;
            signal[&row["contig"]].iter().find(at).unwrap().2
        });
        values.sum::<f32>() / changed as f32
    };
    assert!(
        mean("K562") < 1.0 && mean("HepG2") > 5.0,
        "{} {}",
        mean("K562"),
        mean("HepG2")
    );

    for cell in ["K562", "HepG2"] {
        place.runs(&format!(
            "make --fasta many/genome.fa --signal DNase=many/dnase.{cell}.bigWig --length 2000 \
             --peaks CTCF=many/ctcf.{cell}.narrowPeak --out {cell}.h5 --valid sim10 --test sim11"
        ));
    }
    let positives = |cell: &str| {
        let windows = place.windows(&format!("{cell}.h5"), "train");
        windows
            .iter()
            .map(|window| window.label.contains(&1))
            .collect::<Vec<_>>()
    };
    assert_ne!(positives("K562"), positives("HepG2"));
}

#[test]
fn a_cofactor_beside_an_open_site_raises_binding() {
    let place = Workplace::empty();
    let told = place.runs(&format!(
        "simulate genome --out s --cofactor TAL1_known4 --cofactor-share 0.6 --bound-without 0.3 {SMALL}"
    ));
    assert!(told.contains("with the co-factor"), "{told}");
    let rows = truth(&place, "s");
    let without = count(&rows, &[("cofactor_start", ".")]) as f64 / rows.len() as f64;
    // Five standard deviations of 198 sites are 0.17, of some 50 and 40 open ones 0.15 and 0.36.
    assert!((without - 0.4).abs() < 0.17, "{without}");
    let (mut with, mut lacking) = (vec![], vec![]);
    for row in rows.iter().filter(|row| row["open"] == "1") {
        let group = if row["cofactor_start"] == "." {
            &mut lacking
        } else {
            &mut with
        };
        group.push(f64::from(u8::from(row["bound"] == "1")));
    }
    let mean = |group: &[f64]| group.iter().sum::<f64>() / group.len() as f64;
    assert!((mean(&with) - 0.95).abs() < 0.15, "{}", mean(&with));
    assert!((mean(&lacking) - 0.3).abs() < 0.36, "{}", mean(&lacking));
    assert!(count(&rows, &[("open", "0"), ("bound", "1")]) * 10 < rows.len());

    let genome = genome(&place, "s");
    for row in rows.iter().filter(|row| row["cofactor_start"] != ".") {
        let number = |title: &str| -> usize { row[title].parse().unwrap() };
        let (start, end, at) = (number("start"), number("end"), number("cofactor_start"));
        let gap = if at > end {
            at - end
        } else {
            start - (at + 10)
        };
        assert!((5..=30).contains(&gap), "{row:?}");
        let letters = genome[&row["contig"]][at..at + 10].to_ascii_uppercase();
        // TAL1's are ..CA.CTG.. forward.
        let core = if row["cofactor_strand"] == "+" {
            &letters[5..8]
        } else {
            &letters[2..5]
        };
        assert_eq!(
            core,
            if row["cofactor_strand"] == "+" {
                "CTG"
            } else {
                "CAG"
            },
            "{row:?}"
        );
    }
    let matrix = fs::read_to_string(place.path("s/cofactor.pfm")).unwrap();
    assert!(
        matrix.starts_with(">SIM0002.1\tTAL1_known4\nA [ 250000    0"),
        "{matrix}"
    );

    for (wrong, word) in [
        ("--cofactor-share 0.5", "--cofactor"),
        (
            "--cofactor CTCF --cofactor-share 2",
            "--cofactor-share 2: expected 0 to 1",
        ),
        ("--cofactor NONE", "NONE"),
        ("--cells a,a", "twice"),
        ("--cells a/b", "names of files"),
    ] {
        let outcome = place.run(&format!("simulate genome --out t {wrong}"));
        assert!(
            !outcome.success && outcome.stderr.contains(word),
            "{}",
            outcome.stderr
        );
    }
}

fn genome(place: &Workplace, folder: &str) -> HashMap<String, String> {
    let text = fs::read_to_string(place.path(folder).join("genome.fa")).unwrap();
    let contig = |contig: &str| {
        let (name, lines) = contig.split_once('\n').unwrap();
        (name.to_owned(), lines.replace('\n', ""))
    };
    text[1..].split("\n>").map(contig).collect()
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
    let genome = genome(&place, "s");
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
