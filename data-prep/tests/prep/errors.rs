//! Every failure is named, and leaves the folder as it was.

use std::fs;

use crate::support::Workplace;

/// Runs `make` where it has to fail, with an older output in place.
fn fails(place: &Workplace, arguments: &str) -> String {
    place.write("out.h5", "older");
    let before = place.names();
    let outcome = place.run(&format!("make {arguments}"));
    assert!(
        !outcome.success,
        "{arguments} succeeded: {}",
        outcome.stdout
    );
    assert_eq!(place.names(), before, "{arguments} left files behind");
    assert_eq!(fs::read(place.path("out.h5")).unwrap(), b"older");
    assert!(outcome.stderr.starts_with("error: "), "{}", outcome.stderr);
    assert_eq!(outcome.stderr.lines().count(), 1, "{}", outcome.stderr);
    outcome.stderr
}

#[track_caller]
fn expect(error: &str, parts: &[&str]) {
    for part in parts {
        assert!(error.contains(part), "`{part}` is not in: {error}");
    }
}

const BASE: &str = "--fasta g.fa --peaks p.bed --length 20 --out out.h5";

fn with_peaks(bed: &str, more: &str) -> String {
    let place = Workplace::small();
    place.write("p.bed", bed);
    fails(&place, &format!("{BASE} --valid chr2 {more}"))
}

#[test]
fn intervals() {
    let past = with_peaks("chr1\t5\t9\nchr1\t90\t101\n", "");
    expect(&past, &["p.bed", "line 2", "chr1:90-101", "100 bases"]);
    expect(
        &with_peaks("chr1\t9\t9\n", ""),
        &["p.bed, line 1", "start 9 is not below end 9"],
    );
    expect(&with_peaks("chr1\tx\t9\n", ""), &["line 1", "`x`"]);
    expect(&with_peaks("chr1\t-4\t9\n", ""), &["line 1", "`-4`"]);
    expect(&with_peaks("chr1\t4\n", ""), &["line 1", "2 columns"]);
    let summit = "chr1\t10\t20\t.\t0\t.\t1\t-1\t-1\t10\n";
    expect(
        &with_peaks(summit, "--widen 5"),
        &["line 1", "summit 10", "10..20"],
    );
    let named = "chr1\t10\t20\t.\t0\t.\t1\t-1\t-1\tx\n";
    expect(
        &with_peaks(named, "--widen 5"),
        &["line 1", "summit", "`x`"],
    );
    expect(
        &with_peaks(&format!("{named}chr1\t4\n"), ""),
        &["line 2", "2 columns"],
    );
    expect(
        &with_peaks("track name=a\ntrack1\t5\t9\n", ""),
        &["1 interval on", "such as track1"],
    );
    expect(&with_peaks("", ""), &["p.bed", "no intervals"]);
}

#[test]
fn contigs_that_the_fasta_lacks() {
    expect(
        &with_peaks("1\t5\t9\n", ""),
        &["p.bed", "1 interval on", "such as 1", "it has `chr1`"],
    );
    let some = "chr1\t5\t9\nchrUn\t5\t9\nchrUn\t7\t9\n";
    expect(
        &with_peaks(some, ""),
        &["2 intervals", "chrUn", "--skip-unknown-contigs"],
    );
    expect(
        &with_peaks("1\t5\t9\n", "--skip-unknown-contigs"),
        &["such as 1"],
    );

    let place = Workplace::small();
    place.write("p.bed", some);
    let printed = place.runs(&format!("make {BASE} --valid chr2 --skip-unknown-contigs"));
    assert!(printed.contains("note: left out 2 intervals"), "{printed}");
}

#[test]
fn splits() {
    let place = Workplace::small();
    let with = |more: &str| fails(&place, &format!("{BASE} {more}"));
    expect(&with(""), &["--valid", "--test"]);
    expect(&with("--train chr1"), &["--valid", "--test"]);
    expect(
        &with("--valid chr3"),
        &["valid split", "chr3", "(it has chr1, chr2)"],
    );
    expect(&with("--valid 2"), &["valid split", "it has `chr2`"]);
    expect(&with("--valid chr2:40-61"), &["chr2:40-61", "60"]);
    expect(&with("--valid chr2:40-x"), &["chr2:40-x"]);
    expect(
        &with("--valid chr1:0-50 --test chr1:40-90"),
        &["overlap", "chr1:0-50 in valid", "chr1:40-90 in test"],
    );
    expect(
        &with("--valid chr1:0-20 --train chr2 --max-n 0.1"),
        &["the valid split has no windows"],
    );
    expect(
        &with("--valid chr2 --negatives 1 --train chr1:50-100"),
        &["the train split has no windows"],
    );
}

#[test]
fn options() {
    let place = Workplace::small();
    let with = |more: &str| fails(&place, &format!("{BASE} --valid chr2 {more}"));
    expect(&with("--stride 21"), &["--stride 21", "1 to 20"]);
    expect(&with("--max-n 1.5"), &["--max-n 1.5"]);
    expect(
        &with("--only-positive --negatives 5"),
        &["--negatives 5", "--only-positive"],
    );
    expect(&with("--bin 4"), &["--bin", "per-window"]);
    expect(&with("--task per-window"), &["--bin 200"]);
    expect(
        &with("--task per-window --bin 4 --test chr1:0-11"),
        &["the test split has no windows", "central 4 bases (--bin)"],
    );
    expect(
        &with("--signal s.bw --signal s.bw"),
        &["two tracks are named s"],
    );
    for again in ["--peaks p.bed", "--peaks p=g.fa"] {
        expect(
            &with(again),
            &["two files of --peaks are named p", "NAME=FILE"],
        );
    }
    let nowhere = "--fasta g.fa --peaks p.bed --length 20 --out none/out.h5 --valid chr2";
    expect(&fails(&place, nowhere), &["none", "does not exist"]);
    expect(&with("--mask none.bed"), &["none.bed"]);
}

#[test]
fn a_summit_widened_by_nothing_is_no_interval() {
    let place = Workplace::small();
    let refused = place
        .run(&format!("make {BASE} --valid chr2 --widen 0"))
        .stderr;
    expect(&refused, &["--widen", "0 is not in 1"]);
}

#[test]
fn options_of_signal_without_any() {
    let place = Workplace::small();
    for option in ["--normalise depth", "--missing zero"] {
        let refused = place.run(&format!("make {BASE} --valid chr2 {option}"));
        assert!(!refused.success, "{option}: {}", refused.stdout);
        expect(&refused.stderr, &["required", "--signal"]);
    }
}

#[cfg(unix)]
#[test]
fn a_name_that_is_not_utf_8() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;

    let place = Workplace::small();
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_tfbind-prep"))
        .args([
            "make", "--peaks", "p.bed", "--out", "o.h5", "--valid", "chr2", "--fasta",
        ])
        .arg(OsStr::from_bytes(b"g\xff.fa"))
        .current_dir(place.path(""))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        said.starts_with("error: ") && said.lines().count() == 1,
        "{said}"
    );
    expect(&said, &["not UTF-8", "rename it"]);
}

#[test]
fn sequences() {
    let with = |fasta: &[u8]| {
        let place = Workplace::small();
        place.write("g.fa", fasta);
        fails(&place, &format!("{BASE} --valid chr2"))
    };
    expect(
        &with(b">chr1\nACGT\n>chr2 x\nACGT\nACXT\n"),
        &["g.fa, line 5", "`X`", "contig chr2"],
    );
    expect(
        &with(b">chr1\nACGT\n>chr1\nACGT\n"),
        &["line 3", "chr1 is there twice"],
    );
    expect(&with(b"ACGT\n>chr1\nACGT\n"), &["line 1", "`>`"]);
    expect(&with(b"@read\nACGT\n"), &["line 1", "`>`"]);
    expect(&with(b""), &["g.fa", "no sequence"]);
    expect(&with(b">chr1\n>chr2\n"), &["g.fa", "no sequence"]);
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(
        &mut packed,
        &[&b">chr1\n"[..], &b"ACGTTG\n".repeat(50)].concat(),
    )
    .unwrap();
    let packed = packed.finish().unwrap();
    expect(&with(&packed[..packed.len() - 12]), &["g.fa", "cut short"]);
}

fn with_signal(contigs: &[(&str, u32)], runs: crate::support::Runs, more: &str) -> String {
    let place = Workplace::small();
    place.bigwig("s.bw", contigs, runs);
    fails(&place, &format!("{BASE} --signal s.bw --valid chr2 {more}"))
}

#[test]
fn signals() {
    let sizes = [("chr1", 100), ("chr2", 60)];
    let with = |value: f32, more: &str| {
        let flat: &[(u32, u32, f32)] = &[(0, 60, 1.0)];
        let spike: &[(u32, u32, f32)] = &[(0, 33, 1.0), (33, 34, value)];
        with_signal(&sizes, &[("chr1", spike), ("chr2", flat)], more)
    };
    expect(
        &with(f32::NAN, "--missing error"),
        &["s.bw", "chr1:33", "not covered"],
    );
    expect(
        &with(f32::INFINITY, "--normalise log1p"),
        &["s.bw", "chr1:33", "inf"],
    );
    expect(
        &with(70_000.0, "--normalise none"),
        &["chr1:33", "70000", "65504"],
    );
    expect(
        &with(-1.0, "--normalise log1p"),
        &["chr1:33", "-1", "--normalise none"],
    );
    expect(&with(f32::INFINITY, ""), &["s.bw", "mean", "log1p"]);
    expect(&with(1.0, "--missing error"), &["chr1:34", "not covered"]);

    let flat: &[(u32, u32, f32)] = &[(0, 50, 1.0)];
    let other = with_signal(
        &[("chr1", 99), ("chr2", 60)],
        &[("chr1", flat), ("chr2", flat)],
        "",
    );
    expect(&other, &["s.bw", "chr1 has 99 bases", "FASTA 100"]);
    expect(
        &with_signal(&sizes, &[("chr1", flat)], "--missing error"),
        &["lacks the contig chr2", "with --train", "--missing zero"],
    );
    expect(
        &with_signal(&[("1", 100)], &[("1", flat)], ""),
        &["lacks the contig chr1", "it has `1`"],
    );
}

#[test]
fn damaged_bigwigs() {
    let place = Workplace::small();
    let whole = fs::read(place.path("s.bw")).unwrap();
    // The header ends at 64; chromosomes, data and index follow, then what zooming needs.
    let index = u64::from_le_bytes(whole[24..32].try_into().unwrap()) as usize;
    for keep in [0, 30, 80, index / 2, index + 10] {
        place.write("s.bw", &whole[..keep]);
        let error = fails(&place, &format!("{BASE} --signal s.bw --valid chr2"));
        expect(
            &error,
            &["s.bw", if keep == 0 { "no signal" } else { "cut short" }],
        );
    }
    place.write("s.bw", "chr1\t0\t100\t1\n".repeat(20));
    expect(
        &fails(&place, &format!("{BASE} --signal s.bw --valid chr2")),
        &["not a readable bigWig"],
    );
}
