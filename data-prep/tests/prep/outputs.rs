//! Where outputs go: never onto an input, through links, and nowhere if the program is ended.

use std::fs;
use std::os::unix::fs::symlink;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::support::Workplace;

#[track_caller]
fn refused(place: &Workplace, arguments: &str, part: &str) {
    let before = place.names();
    let outcome = place.run(arguments);
    assert!(!outcome.success, "{arguments}: {}", outcome.stdout);
    assert!(outcome.stderr.contains(part), "{}", outcome.stderr);
    assert_eq!(outcome.stderr.lines().count(), 1, "{}", outcome.stderr);
    assert_eq!(place.names(), before, "{arguments}");
}

#[test]
fn an_output_is_no_input_and_no_other_output() {
    let place = Workplace::small();
    symlink("g.fa", place.path("link.fa")).unwrap();
    let genome = fs::read(place.path("g.fa")).unwrap();
    for out in ["g.fa", "./g.fa", "link.fa", "p.bed", "s.bw", "m.bed"] {
        place.write("m.bed", "chr1\t60\t70\n");
        refused(
            &place,
            &format!(
                "make --fasta g.fa --peaks p.bed --signal s.bw --mask m.bed --length 20 --valid chr2 --out {out}"
            ),
            &format!("{out}: the output is also an input"),
        );
    }
    refused(
        &place,
        "context --fasta link.fa --flank 2 --test chr2 --out g.fa",
        "g.fa: the output is also an input",
    );
    refused(
        &place,
        "simulate motif-detection --num-pos 2 --num-neg 2 --length 20 --background g.fa --out g.h5",
        "g.fa: the output is also an input",
    );
    assert_eq!(fs::read(place.path("g.fa")).unwrap(), genome);
    refused(
        &place,
        "export own.h5 --bedgraph own.h5",
        "own.h5: the output is also an input",
    );
    refused(
        &place,
        "export own.h5 --bigwig same --bedgraph ./same",
        "same: the output is also another output",
    );
}

#[test]
fn a_link_stays_and_what_cannot_be_replaced_is_named() {
    let place = Workplace::small();
    fs::create_dir(place.path("disk")).unwrap();
    place.write("disk/large.h5", "older");
    symlink("disk/large.h5", place.path("out.h5")).unwrap();
    place.makes("--valid chr2");
    assert!(place.path("out.h5").is_symlink());
    assert_eq!(place.names_in("disk"), ["large.h5"]);
    assert!(!place.windows("disk/large.h5", "train").is_empty());

    let make = "make --fasta g.fa --peaks p.bed --length 20 --valid chr2 --out";
    symlink("nothing", place.path("lost.h5")).unwrap();
    refused(
        &place,
        &format!("{make} lost.h5"),
        "not there; remove the link",
    );
    let pipe = Command::new("mkfifo").arg(place.path("pipe")).status();
    assert!(pipe.unwrap().success());
    refused(&place, &format!("{make} pipe"), "cannot be replaced");
    refused(&place, &format!("{make} disk"), "this is a folder");
}

#[test]
fn a_program_that_is_ended_leaves_no_unfinished_file() {
    let place = Workplace::empty();
    let words = "simulate motif-detection --num-pos 300000 --num-neg 1 --length 1000 --out t.h5";
    let mut program = Command::new(env!("CARGO_BIN_EXE_tfbind-prep"))
        .args(words.split_whitespace())
        .current_dir(place.path(""))
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    while place.names().is_empty() {
        assert_eq!(program.try_wait().unwrap(), None, "it ended first");
        thread::sleep(Duration::from_millis(1));
    }
    kill(Pid::from_raw(program.id() as i32), Signal::SIGTERM).unwrap();
    let status = program.wait().unwrap();
    assert_eq!(status.signal(), Some(Signal::SIGTERM as i32), "{status}");
    assert_eq!(place.names(), Vec::<String>::new());
}
