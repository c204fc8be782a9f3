//! What `make` reads of genomes and tracks, however they are packed.

use std::fs;
use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;
use tfbind_prep::schema::DataFile;

use crate::support::{Workplace, floats, letters};

#[test]
fn a_fasta_reads_the_same_in_every_packing() {
    let place = Workplace::small();
    place.makes("--valid chr2");
    let expected = place.windows("out.h5", "train");
    let plain = fs::read(place.path("g.fa")).unwrap();
    let gzip = |parts: &[&[u8]]| {
        let mut packed = Vec::new();
        for part in parts {
            let mut encoder = GzEncoder::new(&mut packed, Compression::fast());
            encoder.write_all(part).unwrap();
            encoder.finish().unwrap();
        }
        packed
    };
    let text = String::from_utf8(plain.clone()).unwrap();
    let crlf = text.replace('\n', "\r\n");
    let iupac = text.replacen("NNN", "RYk", 1).replace('k', "K");
    let packings = [
        gzip(&[&plain]),
        gzip(&[&plain[..50], &plain[50..]]),
        crlf.into_bytes(),
        iupac.into_bytes(),
    ];
    for packing in packings {
        place.write("g.fa", packing);
        place.makes("--valid chr2");
        assert_eq!(place.windows("out.h5", "train"), expected);
    }
}

#[test]
fn what_lies_past_a_short_contig_is_n_and_masked() {
    let place = Workplace::small();
    place.write(
        "g.fa",
        ">chr1\nACGTACGTAC\n>chr2\nGATTACACGATTACACGATTACAC\n>chr3\nACGTACGTACGTACGTACGT\n",
    );
    place.write("p.bed", "chr2\t0\t5\n");
    place.makes("--valid chr3");
    let train = place.windows("out.h5", "train");
    assert_eq!(train.len(), 3);
    assert_eq!(letters(&train[0].seq), "ACGTACGTACNNNNNNNNNN");
    assert_eq!(train[0].label, [[0; 10], [-1; 10]].concat());
    assert_eq!(train[2].locus.start, 20);
    assert_eq!(train[2].label[..5], [0, 0, 0, 0, -1]);
}

#[test]
fn depth_makes_tracks_of_any_sequencing_depth_alike() {
    let place = Workplace::small();
    place.makes("--signal s.bw --valid chr2");
    let alike = place.windows("out.h5", "valid");
    // 7 over the mean of the two contigs, of which s.bw covers a part
    let largest = floats(&alike[0].signal).into_iter().fold(0.0, f32::max);
    assert!((largest - 1.0645).abs() < 1e-3, "{largest}");
}

#[test]
fn alternates_of_a_held_out_contig_do_not_train() {
    let place = Workplace::small();
    let bases = "ACGTTGCA".repeat(10);
    let names = [
        "chr1",
        "chr1_KI2_random",
        "chr2",
        "chr21",
        "chr2_GL3v2_alt",
        "chrUn_K1",
    ];
    let fasta: String = names.map(|name| format!(">{name}\n{bases}\n")).concat();
    place.write("g.fa", fasta);
    let trained = |more: &str| {
        let said = place.makes(more);
        let file = DataFile::open(place.path("out.h5")).unwrap();
        let windows = place.windows("out.h5", "train");
        let mut contigs: Vec<_> = windows.iter().map(|window| window.locus.contig).collect();
        contigs.dedup();
        let name = |of: &u32| file.header().contigs[*of as usize].name.clone();
        (contigs.iter().map(name).collect::<Vec<_>>(), said)
    };
    let (names, said) = trained("--test chr2:0-40");
    assert_eq!(names, ["chr1", "chr1_KI2_random", "chr21", "chrUn_K1"]);
    assert!(
        said.contains("note: 1 contig not trained on") && said.contains("chr2_GL3v2_alt"),
        "{said}"
    );
    let (names, said) = trained("--test chr2 --train chr1,chr2_GL3v2_alt");
    assert_eq!(names, ["chr1", "chr2_GL3v2_alt"]);
    assert!(!said.contains("note"), "{said}");
    let said = place.runs("context --fasta g.fa --flank 2 --test chr2 --out c.h5");
    assert!(said.contains("note: 1 contig not trained on"), "{said}");
}

#[test]
fn the_hash_of_a_recipe_is_also_of_what_the_files_hold() {
    let place = Workplace::small();
    place.write("m.bed", "chr1\t60\t70\n");
    let hash = || {
        place.makes("--valid chr2 --signal s.bw --mask m.bed");
        let file = DataFile::open(place.path("out.h5")).unwrap();
        (
            file.header().recipe.clone(),
            file.header().recipe_hash.clone(),
        )
    };
    let first = hash();
    assert_eq!(hash(), first);
    let fasta = fs::read_to_string(place.path("g.fa")).unwrap();
    place.write("g.fa", fasta.replacen("TTGCA", "TTGCC", 1));
    let changed = hash();
    assert_eq!(changed.0, first.0);
    assert_ne!(changed.1, first.1, "another base");
    place.write("g.fa", format!("{fasta}>chr3\n"));
    assert_ne!(hash().1, first.1, "another contig");
    place.write("g.fa", &fasta);
    assert_eq!(hash(), first);
    place.write("m.bed", "chr1\t60\t71\n");
    assert_ne!(hash().1, first.1, "another mask");
    place.write("m.bed", "chr1\t65\t70\nchr1\t60\t65\n");
    assert_eq!(hash(), first, "the same mask in other words");
    let sizes = [("chr1", 100), ("chr2", 60)];
    place.bigwig("s.bw", &sizes, &[("chr2", &[(0, 60, 7.5)])]);
    let signal = hash().1;
    assert_ne!(signal, first.1, "another signal");
    place.write("p.bed", "chr1\t30\t51\nchr2\t0\t5\n");
    assert_ne!(hash().1, signal, "another peak");
}

#[test]
fn what_is_predicted_rests_on_no_peak_and_no_mask() {
    let place = Workplace::small();
    place.write("mask.bed", "chr2\t0\t60\n");
    for task in ["", "--task per-window --bin 4 --stride 20"] {
        place.makes(&format!(
            "--valid chr1:60-100 --train chr1:0-60 --predict chr2 --mask mask.bed {task}"
        ));
        assert_eq!(place.windows("out.h5", "predict").len(), 3, "{task}");
    }
    place.write("p.bed", "chr1\t30\t50\nchr1\t60\t80\n");
    place.makes("--valid chr1:60-100 --train chr1:0-60 --predict chr2 --only-positive");
    let rows = |split: &str| place.windows("out.h5", split).len();
    assert_eq!([rows("predict"), rows("train"), rows("valid")], [3, 2, 1]);
}

#[test]
fn a_contig_that_a_bigwig_lacks_is_missing() {
    let place = Workplace::small();
    place.bigwig("s.bw", &[("chr1", 100)], &[("chr1", &[(0, 100, 1.0)])]);
    let said = place.makes("--signal s.bw --valid chr2 --missing zero");
    assert!(
        said.contains("note: s.bw: the bigWig lacks 1 of the contigs"),
        "{said}"
    );
    let file = DataFile::open(place.path("out.h5")).unwrap();
    let missing = |split: &str| file.split(split).unwrap().counts().missing_bases;
    assert_eq!([missing("train"), missing("valid")], [0, 60]);
    assert!(
        floats(&place.windows("out.h5", "valid")[0].signal)
            .iter()
            .all(|&value| value == 0.0)
    );
}

#[test]
fn a_base_that_a_bigwig_says_is_nan_is_missing() {
    let place = Workplace::small();
    let sizes = [("chr1", 100), ("chr2", 60)];
    let flat: &[(u32, u32, f32)] = &[(0, 60, 7.0)];
    let made = |of_chr1: &[(u32, u32, f32)]| {
        place.bigwig("s.bw", &sizes, &[("chr1", of_chr1), ("chr2", flat)]);
        place.makes("--signal s.bw --valid chr2");
        let file = DataFile::open(place.path("out.h5")).unwrap();
        let missing = file.split("train").unwrap().counts().missing_bases;
        (missing, place.windows("out.h5", "train"))
    };
    let without = made(&[(0, 50, 1.0), (60, 100, 3.0)]);
    let nan = made(&[(0, 50, 1.0), (50, 60, f32::NAN), (60, 100, 3.0)]);
    assert_eq!(without.0, 10);
    assert_eq!(nan, without, "the mean of the track is the same too");
}

#[test]
fn the_length_of_a_contig_matters_where_a_split_uses_it() {
    let place = Workplace::small();
    let flat: &[(u32, u32, f32)] = &[(0, 50, 1.0)];
    let sizes = [("chr1", 100), ("chr2", 59)];
    place.bigwig("s.bw", &sizes, &[("chr1", flat), ("chr2", flat)]);
    let said = place.makes("--signal s.bw --train chr1:0-60 --valid chr1:60-100");
    assert!(
        said.contains("length of 1 contig that no split uses, such as chr2: 59 and 60 bases"),
        "{said}"
    );
}
