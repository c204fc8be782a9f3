//! Published data, where a checkout of it lies beside the project.

use std::fs;
use std::path::Path;

use tfbind_prep::schema::DataFile;

use crate::support::{Workplace, letters};

/// The published site of Reb1, and its other strand.
const SITES: [&str; 2] = ["TTACCCG", "CGGGTAA"];

#[test]
fn reb1_sites_lie_where_labels_say() {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data/yeast");
    if !data.is_dir() {
        eprintln!("skipped: {} is not there", data.display());
        return;
    }
    let place = Workplace::empty();
    let data = fs::canonicalize(data).unwrap().display().to_string();
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
