use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use bigtools::beddata::BedParserStreamingIterator;
use bigtools::{BigWigRead, BigWigWrite, Value};
use half::f16;
use tempfile::TempDir;
use tfbind_prep::schema::{DataFile, Window};

/// A folder of small files, in which the program runs.
pub struct Workplace {
    folder: TempDir,
}

pub struct Outcome {
    pub success: bool,
    pub stdout: String,
    pub stderr: String,
}

/// Runs of equal values per contig: start, end, value.
pub type Runs<'a> = &'a [(&'a str, &'a [(u32, u32, f32)])];

impl Workplace {
    pub fn empty() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
        }
    }

    /// chr1 of 100 bases, the first 10 N; chr2 of 60, lower case at 20..30; signal and peaks on both.
    pub fn small() -> Self {
        let place = Self::empty();
        let chr1 = format!("{}{}", "N".repeat(10), "ACGTTGCA".repeat(12))[..100].to_owned();
        let mut chr2 = "GATTACAC".repeat(8)[..60].to_owned();
        chr2.replace_range(20..30, &chr2[20..30].to_ascii_lowercase());
        let wrapped = |text: &str| {
            let lines: Vec<_> = text
                .as_bytes()
                .chunks(25)
                .map(|line| String::from_utf8_lossy(line))
                .collect();
            lines.join("\n")
        };
        place.write(
            "g.fa",
            format!(
                ">chr1 first\n{}\n>chr2\n{}\n",
                wrapped(&chr1),
                wrapped(&chr2)
            ),
        );
        place.write(
            "p.bed",
            "#comment\nchr1\t30\t45\nchr1\t40\t50\nchr2\t0\t5\n",
        );
        place.bigwig(
            "s.bw",
            &[("chr1", 100), ("chr2", 60)],
            &[
                ("chr1", &[(0, 50, 1.0), (60, 100, 3.0)]),
                ("chr2", &[(0, 60, 7.0)]),
            ],
        );
        place
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        fs::write(self.path(name), content).unwrap();
    }

    pub fn bigwig(&self, name: &str, sizes: &[(&str, u32)], runs: Runs) {
        let sizes: HashMap<_, _> = sizes
            .iter()
            .map(|&(name, size)| (name.to_owned(), size))
            .collect();
        let value = |&(start, end, value): &(u32, u32, f32)| Value { start, end, value };
        let runs = runs.iter().flat_map(|(contig, runs)| {
            runs.iter()
                .map(move |run| ((*contig).to_owned(), value(run)))
        });
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .build()
            .unwrap();
        let writer = BigWigWrite::create_file(self.path(name), sizes).unwrap();
        writer
            .write(
                BedParserStreamingIterator::wrap_infallible_iter(runs, false),
                runtime,
            )
            .unwrap();
    }

    /// Runs the program on one line of arguments, with this folder as its own.
    pub fn run(&self, arguments: &str) -> Outcome {
        let output = Command::new(env!("CARGO_BIN_EXE_tfbind-prep"))
            .args(arguments.split_whitespace())
            .current_dir(self.folder.path())
            .output()
            .unwrap();
        Outcome {
            success: output.status.success(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }

    pub fn runs(&self, arguments: &str) -> String {
        let outcome = self.run(arguments);
        assert!(outcome.success, "{arguments}: {}", outcome.stderr);
        outcome.stdout
    }

    /// `make` on the small files, to out.h5, with windows of 20 bases.
    pub fn makes(&self, more: &str) -> String {
        self.runs(&format!(
            "make --fasta g.fa --peaks CTCF=p.bed --length 20 --out out.h5 {more}"
        ))
    }

    pub fn windows(&self, name: &str, split: &str) -> Vec<Window> {
        read_windows(&self.path(name), split)
    }

    pub fn names(&self) -> Vec<String> {
        self.names_in("")
    }

    pub fn names_in(&self, folder: &str) -> Vec<String> {
        let entries = fs::read_dir(self.path(folder)).unwrap();
        let mut names: Vec<_> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }
}

pub fn read_windows(path: &Path, split: &str) -> Vec<Window> {
    let split = DataFile::open(path).unwrap().split(split).unwrap();
    let loci = split.loci().unwrap();
    let read = |(row, &locus)| {
        let (mut seq, mut signal, mut label) = (vec![], vec![], vec![]);
        split
            .read_into(row, &mut seq, &mut signal, &mut label)
            .unwrap();
        Window {
            seq,
            signal,
            label,
            locus,
        }
    };
    loci.iter().enumerate().map(read).collect()
}

/// Name, size and runs of a chromosome.
pub type Chrom = (String, u32, Vec<(u32, u32, f32)>);

/// Chromosomes of a bigWig in the order of its index, with their runs.
pub fn read_bigwig(path: &Path) -> Vec<Chrom> {
    let mut bigwig = BigWigRead::open(fs::File::open(path).unwrap()).unwrap();
    let chroms = bigwig.chroms().to_vec();
    let mut read = |name: &str, length| -> Vec<_> {
        let runs = bigwig.get_interval(name, 0, length).unwrap();
        runs.map(|run| run.map(|run| (run.start, run.end, run.value)).unwrap())
            .collect()
    };
    chroms
        .iter()
        .map(|chrom| {
            (
                chrom.name.clone(),
                chrom.length,
                read(&chrom.name, chrom.length),
            )
        })
        .collect()
}

pub fn letters(seq: &[u8]) -> String {
    let letter = |&code: &u8| {
        let letter = b"ACGTN"[(code & 0x7f) as usize] as char;
        if code & 0x80 == 0 {
            letter
        } else {
            letter.to_ascii_lowercase()
        }
    };
    seq.iter().map(letter).collect()
}

pub fn floats(signal: &[f16]) -> Vec<f32> {
    signal.iter().map(|value| value.to_f32()).collect()
}
