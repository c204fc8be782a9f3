//! Published data, where a checkout of it lies beside the project.

use std::fs;
use std::path::Path;

use tfbind_prep::schema::DataFile;

use crate::support::{Workplace, letters};

/// The published site of Reb1, and its other strand.
const SITES: [&str; 2] = ["TTACCCG", "CGGGTAA"];

/// The folder of a genome, if it is there.
fn data(name: &str) -> Option<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data");
    match fs::canonicalize(path.join(name)) {
        Ok(path) => Some(path.display().to_string()),
        Err(_) => {
            eprintln!("skipped: {} is not there", path.join(name).display());
            None
        }
    }
}

#[test]
fn labels_of_251_factors_are_those_of_their_files() {
    let Some(data) = data("yeast") else { return };
    let place = Workplace::empty();
    place.runs(&format!(
        "make --fasta {data}/sacCer3.fa.gz --peaks-dir {data}/peaks --widen 100 --task per-window \
         --length 1000 --stride 200 --bin 200 --only-positive --train chrI --test chrIX --out y.h5"
    ));
    let file = DataFile::open(place.path("y.h5")).unwrap();
    let targets = &file.header().targets;
    assert_eq!(targets.len(), 251);
    let windows = place.windows("y.h5", "test");
    assert!(windows.iter().all(|window| window.label.contains(&1)));
    let mut bins = 0;
    for (target, name) in targets.iter().enumerate().step_by(50) {
        let text = fs::read_to_string(format!("{data}/peaks/{name}.bed")).unwrap();
        let peaks = text.lines().filter_map(|line| line.strip_prefix("chrIX\t"));
        let mut bound = vec![0; 439_888];
        for peak in peaks {
            let peak: usize = peak.split('\t').next().unwrap().parse().unwrap();
            bound[peak.saturating_sub(100)..peak + 100].fill(1);
        }
        let expected: Vec<i64> = (0..)
            .step_by(200)
            .take_while(|start| start + 1000 <= 439_800)
            .filter(|&start| bound[start + 400..start + 600].iter().sum::<usize>() > 100)
            .map(|start| start as i64)
            .collect();
        let positive = windows.iter().filter(|window| window.label[target] == 1);
        let mut found: Vec<i64> = positive.map(|window| window.locus.start).collect();
        // Whether the last window of a contig is there is not what is asked here.
        found.retain(|&start| start + 1000 <= 439_800);
        assert_eq!(found, expected, "{name}");
        bins += found.len();
    }
    assert!(bins > 20, "{bins} positive bins");
}

#[test]
fn hidden_bases_of_human_repeats_are_marked() {
    let Some(data) = data("human") else { return };
    let place = Workplace::empty();
    place.runs(&format!(
        "context --fasta {data}/hg19.subset.fa.gz --flank 10 --train chr22:16050000-17000000 \
         --test chr22:17000000-18000000 --sample test=4000 --out c.h5"
    ));
    // 150 kb of the 950 kb are N, and two flanks are lost at each end of a run.
    let train = DataFile::open(place.path("c.h5"))
        .unwrap()
        .split("train")
        .unwrap();
    assert_eq!(train.len(), 950_000 - 150_000 - 2 * 20);
    let repeats = place.windows("c.h5", "test").into_iter();
    let repeats = repeats.filter(|window| window.seq[10] == 0x84).count();
    assert!((1000..3000).contains(&repeats), "{repeats} of 4000");
}

#[test]
fn reb1_sites_lie_where_labels_say() {
    let Some(data) = data("yeast") else { return };
    let place = Workplace::empty();
    place.write("rdna.bed", "chrXII\t450000\t492000\n");
    place.runs(&format!(
        "make --fasta {data}/sacCer3.fa.gz --signal {data}/signal/atac_SRR1822137_insertions_ext75.bw \
         --peaks {data}/peaks/Reb1.bed --length 2048 --widen 50 --mask rdna.bed --out y.h5 \
         --valid chrVIII --test chrIX,chrX"
    ));
    let counts = DataFile::open(place.path("y.h5"))
        .unwrap()
        .split("train")
        .unwrap()
        .counts();
    // 42,000 bases of rDNA, less the windows that are wholly masked.
    assert!((1..42_000).contains(&counts.masked), "{counts:?}");

    let (mut labelled, mut with_site, mut flanks, mut flanks_with_site) = (0, 0, 0, 0);
    for window in place.windows("y.h5", "test") {
        let sequence = letters(&window.seq);
        let has_site = |from: usize| {
            SITES
                .iter()
                .any(|site| sequence[from..from + 100].contains(site))
        };
        for from in (0..1948).step_by(20) {
            let labels = &window.label[from..from + 100];
            if labels.iter().all(|&label| label == 1) {
                labelled += 1;
                with_site += usize::from(has_site(from));
            } else if !labels.contains(&1) {
                flanks += 1;
                flanks_with_site += usize::from(has_site(from));
            }
        }
    }
    let (inside, outside) = (
        f64::from(with_site as u32) / f64::from(labelled),
        f64::from(flanks_with_site as u32) / f64::from(flanks),
    );
    assert!(
        inside > 0.4 && inside > 10.0 * outside,
        "{inside} in peaks, {outside} elsewhere"
    );
}
