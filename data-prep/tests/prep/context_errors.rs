//! What a set of bases in their context cannot be made of, and what of it cannot be read.

use crate::support::Workplace;

#[test]
fn what_cannot_be_is_refused_and_leaves_nothing() {
    let place = Workplace::empty();
    let (long, short) = ("ACGTTGCA".repeat(40), "GATTACAC".repeat(10));
    place.write("g.fa", format!(">c1\n{long}\n>c2\n{short}\n"));
    place.write("n.fa", ">c1\nNNNNNNNNNNNN\n>c2\nACGTACGTACGT\n");
    let before = place.names();
    for (arguments, parts) in [
        ("--fasta g.fa --flank 0 --valid c2", &["--flank 0"][..]),
        (
            "--fasta g.fa --flank 45 --valid c2",
            &["the valid split", "91 known bases", "--flank 45"],
        ),
        (
            "--fasta g.fa --flank 5 --valid c9",
            &["valid split", "c9", "c1, c2"],
        ),
        ("--fasta g.fa --flank 5", &["--valid", "--test"]),
        (
            "--fasta g.fa --flank 5 --valid c1:0-50 --test c1:40-90",
            &["overlap"],
        ),
        (
            "--fasta n.fa --flank 2 --valid c2 --train c1",
            &["the train split", "5 known bases", "most are 0"],
        ),
        (
            "--fasta g.fa --flank 5 --valid c2 --sample 5000",
            &["--sample 5000", "windows", "--sample train=whole"],
        ),
        (
            "--fasta g.fa --flank 5 --valid c2 --sample dev=10",
            &["--sample dev=", "train, valid, test, predict"],
        ),
        (
            "--fasta g.fa --flank 5 --valid c2 --sample 0",
            &["`0`", "whole"],
        ),
        (
            "--fasta g.fa --flank 5 --valid c2 --sample test=5",
            &["--sample test=", "no test split", "--test"],
        ),
        (
            "--fasta g.fa --flank 5 --predict c2 --sample train=5",
            &["--sample train=", "no train split"],
        ),
        (
            "--fasta g.fa --flank 5 --valid c2 --sample whole --seed 7",
            &["--seed 7", "--sample N"],
        ),
        ("--fasta none.fa --flank 5 --valid c2", &["none.fa"]),
    ] {
        let outcome = place.run(&format!("context --out out.h5 {arguments}"));
        assert!(!outcome.success, "{arguments}: {}", outcome.stdout);
        for part in parts {
            assert!(
                outcome.stderr.contains(part),
                "`{part}` is not in: {}",
                outcome.stderr
            );
        }
        assert_eq!(place.names(), before, "{arguments}");
    }
}

#[test]
fn contigs_without_a_window_and_genomes_without_repeats_are_said() {
    let place = Workplace::empty();
    place.write("g.fa", ">a\nACGTACGTAC\n>b\nACG\n>c\nTTGCATTGCA\n");
    let said = place.runs("context --fasta g.fa --flank 2 --valid c --out out.h5");
    assert!(
        said.contains("note: 1 of 2 train regions hold no window"),
        "{said}"
    );
    assert!(said.contains("no base is soft-masked"), "{said}");
    assert_eq!(place.windows("out.h5", "train").len(), 6);
}

#[test]
fn a_damaged_index_or_sequence_is_named() {
    let place = Workplace::empty();
    place.write("g.fa", ">a\nACGTACGTAC\n>b\nACGTACGTAC\n");
    let fails = |change: &dyn Fn(&hdf5::File) -> hdf5::Result<()>| {
        place.runs("context --fasta g.fa --flank 2 --valid b --sample 3 --out out.h5");
        change(&hdf5::File::open_rw(place.path("out.h5")).unwrap()).unwrap();
        place.run("inspect out.h5").stderr
    };
    let sample = |file: &hdf5::File| file.dataset("train/sample")?.write_raw(&[0u32, 1, 6]);
    let said = fails(&sample);
    assert!(
        said.contains("split `train`: its sample names the window 6 of 6"),
        "{said}"
    );
    let fewer = |file: &hdf5::File| file.dataset("train/sample")?.resize([2]);
    let said = fails(&fewer);
    assert!(said.contains("counts 3 windows and names 2"), "{said}");
    let unknown = |file: &hdf5::File| {
        file.dataset("valid/seq")?
            .write_raw(&[0u8, 1, 2, 3, 0, 1, 2, 4, 0, 1])
    };
    let said = fails(&unknown);
    assert!(
        said.contains("split `valid`: base code 4 at 7 of its sequence"),
        "{said}"
    );
    let short = |file: &hdf5::File| file.dataset("valid/seq")?.resize([9]);
    let said = fails(&short);
    assert!(
        said.contains("`valid/seq` has the shape [9], expected [10]"),
        "{said}"
    );
    let bases = |file: &hdf5::File| file.group("train")?.delete_attr("bases");
    let said = fails(&bases);
    assert!(said.contains("attribute `bases`"), "{said}");
}
