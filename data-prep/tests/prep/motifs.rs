//! Files of motifs, as `simulate` reads them.

use std::fs;

use crate::support::Workplace;

const JASPAR: &str = "\
>MA0001.1 OTHER
A [ 1 0 ]
C [ 0 1 ]
G [ 0 0 ]
T [ 0 0 ]
>MA0002.1 FOUR
A [ 5.0 0 20 ]
C [ 5 0 0 ]
G [ 0 20 0 ]
T [ 10 0 0 ]
";
const RAW: &str = ">FOUR\n5 0 20\n5 0 0\n0 20 0\n10 0 0\n";
const MEME: &str = "\
MEME version 4

ALPHABET= ACGT

strands: + -

MOTIF MA0001.1 OTHER
letter-probability matrix: alength= 4 w= 1 nsites= 20 E= 0
 1.0 0.0 0.0 0.0

MOTIF MA0002.1 FOUR
letter-probability matrix: alength= 4 w= 3 nsites= 20 E= 0
 0.250000  0.250000  0.000000  0.500000
 0.000000  0.000000  1.000000  0.000000
 1.000000  0.000000  0.000000  0.000000
URL http://example.org/FOUR
";
const MEME_TXT: &str = "\
********************************************************************************
MEME - Motif discovery tool
********************************************************************************
MEME version 5.5.5 (Release date: Thu Sep 14 08:48:04 2023 +1000)
********************************************************************************

ALPHABET= ACGT
********************************************************************************
MOTIF OTHER MEME-1\twidth =   1  sites =  20  llr = 60  E-value = 1.0e-005
********************************************************************************
--------------------------------------------------------------------------------
letter-probability matrix: alength= 4 w= 1 nsites= 20 E= 1.0e-005
 1.0 .0 .0 .0
--------------------------------------------------------------------------------
MOTIF FOUR MEME-2\twidth =   3  sites =  20  llr = 60  E-value = 1.0e-005
********************************************************************************
Simplified        A  3:a
pos.-specific     C  3::
log-odds matrix: alength= 4 w= 3 n= 100 bayes= 5 E= 1.0e-005
   100    100   -300    200
   -10    -10    200    -10
   200    -10    -10    -10
--------------------------------------------------------------------------------
letter-probability matrix: alength= 4 w= 3 nsites= 20 E= 1.0e-005
 .25  .25  .0  .5
 .0  .0  1.0  .0
 1.0  .0  .0  .0
--------------------------------------------------------------------------------
SEQUENCE NAME            COMBINED P-VALUE  MOTIF DIAGRAM
";
const HOMER: &str = "\
>ACGT\tOTHER(bZIP)/x/Homer\t6.1
1 0 0 0
>TGA\tFOUR(zf)/y-ChIP-Seq/Homer\t5.2\t-100\t0
0.25\t0.25\t0.00\t0.50
0.00\t0.00\t1.00\t0.00
1.00\t0.00\t0.00\t0.00
";
const ENCODE: &str = "\
>OTHER x_y
A 1 0 0 0
>FOUR four_transfac_M00001
H 0.25 0.25 0 0.5
G 0 0 1 0
A 1 0 0 0
";

const SHORT: &str = "simulate motif-detection --num-pos 200 --num-neg 2 --length 20";

#[test]
fn every_format_gives_the_same_sites() {
    let place = Workplace::empty();
    let mut tables = Vec::new();
    for (name, text) in [
        ("j.txt", JASPAR),
        ("raw.pfm", RAW),
        ("m.meme", MEME),
        ("meme.txt", MEME_TXT),
        ("h.motif", HOMER),
        ("e.txt", ENCODE),
    ] {
        place.write(name, text);
        for motif in ["--motif FOUR --motif-file ", "--motif four --motif-file "] {
            place.runs(&format!("{SHORT} {motif}{name} --out t.h5"));
            let table = fs::read_to_string(place.path("t.simdata")).unwrap();
            tables.push(table.replace("four", "FOUR"));
        }
    }
    assert!(tables.iter().all(|table| table == &tables[0]));
    let sites = tables[0].matches("FOUR-").count();
    assert!(sites >= 200, "{sites}");
    for site in tables[0].split("_FOUR-").skip(1) {
        assert!(
            site[1..].starts_with("GA") || site.starts_with("TC"),
            "{site}"
        );
    }
}

#[test]
fn a_file_can_be_named_with_its_motif_or_alone() {
    let place = Workplace::empty();
    place.write("e.txt", ENCODE);
    place.write("raw.pfm", RAW);
    place.write("raw#2.pfm", RAW);
    let mut tables = Vec::new();
    for motif in [
        "--motif FOUR --motif-file e.txt",
        "--motif e.txt#FOUR",
        "--motif raw.pfm",
        "--motif-file raw.pfm",
        "--motif-file e.txt#FOUR",
        "--motif raw#2.pfm",
    ] {
        place.runs(&format!("{SHORT} {motif} --out t.h5"));
        tables.push(fs::read_to_string(place.path("t.simdata")).unwrap());
    }
    assert!(tables.iter().all(|table| table == &tables[0]));
}

#[test]
fn what_is_wrong_with_a_file_is_said_with_its_line() {
    let place = Workplace::empty();
    for (text, name, words) in [
        ("", "X", &["w.txt", "no motifs"][..]),
        ("A [ 1 2 ]\n", "X", &["w.txt, line 1", "starts with `>`"]),
        (
            ">X\nA [ 1 2 ]\nC [ 1 x ]\nG [ 1 2 ]\nT [ 1 2 ]\n",
            "X",
            &["w.txt, line 3", "`x`"],
        ),
        (
            ">X\nA [ 1 2 ]\nC [ 1 ]\nG [ 1 2 ]\nT [ 1 2 ]\n",
            "X",
            &["w.txt, line 3", "1 numbers"],
        ),
        (
            ">X\nA [ 1 2 ]\nC [ 1 2 ]\nG [ 1 2 ]\n",
            "X",
            &["w.txt, line 1", "3 rows"],
        ),
        (
            ">X\nA [ 1 0 ]\nC [ 1 0 ]\nG [ 1 0 ]\nT [ 1 0 ]\n",
            "X",
            &["w.txt, line 1", "column 2"],
        ),
        (
            ">X\nA 1 0 0 0\nN 0.2 0.2 0.2 0.2\n",
            "X",
            &["w.txt, line 3", "sum to 0.8"],
        ),
        (
            ">X\nA 1 0 0 0\nN 0.5 -0.5 0.5 0.5\n",
            "X",
            &["w.txt, line 3", "`-0.5`"],
        ),
        (
            ">X\nA 1 0 0 0\nC 0 1 0\n",
            "X",
            &["w.txt, line 3", "3 numbers"],
        ),
        (">X\n>Y\nA 1 0 0 0\n", "X", &["w.txt, line 1", "no numbers"]),
        (
            "MEME version 4\nMOTIF X\nletter-probability matrix: w= 2\n1 0 0 0\n",
            "X",
            &["w.txt, line 2", "w= 2, found 1"],
        ),
        (ENCODE, "Z", &["w.txt", "called Z", "OTHER, FOUR"]),
        (
            ">X a\nA 1 0 0 0\n>X b\nC 0 1 0 0\n",
            "X",
            &["w.txt", "2 motifs are called X"],
        ),
    ] {
        place.write("w.txt", text);
        let outcome = place.run(&format!(
            "{SHORT} --motif {name} --motif-file w.txt --out t.h5"
        ));
        assert!(!outcome.success, "{text}");
        for word in words {
            assert!(outcome.stderr.contains(word), "{text}: {}", outcome.stderr);
        }
    }
    place.write("w.txt", ENCODE);
    for which in [
        &*format!("{SHORT} --motif-file w.txt --out t.h5"),
        "simulate genome --cofactor w.txt --out g",
    ] {
        let outcome = place.run(which);
        let words = "w.txt: 2 motifs, expected one; name it as w.txt#NAME, of OTHER, FOUR";
        assert!(outcome.stderr.contains(words), "{}", outcome.stderr);
    }
    for (kind, motifs) in [
        ("multi-motif", "CTCF_known1, ZNF143_known2, SIX5_known1"),
        ("heterodimer", "SPI1_known4, IRF_known20"),
    ] {
        let outcome = place.run(&format!("simulate {kind} --motif-file w.txt --out t.h5"));
        let words = format!("there are OTHER, FOUR; {motifs} are the built-in defaults: name");
        assert!(outcome.stderr.contains(&words), "{}", outcome.stderr);
    }
    let outcome = place.run(&format!(
        "{SHORT} --motif X --motif-file none.txt --out t.h5"
    ));
    assert!(outcome.stderr.contains("none.txt"), "{}", outcome.stderr);
}
