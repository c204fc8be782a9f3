//! What was asked of the preparation, as a file keeps it.

use std::fs::File;
use std::io;
use std::path::Path;

use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::error::Error;
use crate::fasta::Genome;
use crate::plan::Labels;

/// The options as TOML, and a SHA-256 by which files of the same windows are told from others. It is also of what the
/// options name, which may change and keep its name.
pub struct Recipe {
    pub text: String,
    sha: Sha256,
}

impl Recipe {
    pub fn of(options: &impl Serialize) -> Result<Self, Error> {
        // The one thing in options that TOML cannot hold.
        let text = toml::to_string(options).map_err(|error| {
            Error::Request(format!(
                "a file's name among the options is not UTF-8, and the data keep the options: rename it ({error})"
            ))
        })?;
        let sha = Sha256::new_with_prefix(&text);
        Ok(Self { text, sha })
    }

    pub fn add_genome(&mut self, genome: &Genome) {
        for contig in &genome.contigs {
            self.sha
                .update(format!("{}\t{}\n", contig.name, contig.size));
        }
        self.sha.update(genome.digest);
    }

    /// The peaks and the mask, however their files write them.
    pub fn add_labels(&mut self, labels: &Labels) {
        const MASK: usize = usize::MAX;
        for (contig, (peaks, mask)) in labels.peaks.iter().zip(&labels.mask).enumerate() {
            let mask = mask.within(0..u64::MAX).map(|bases| (MASK, bases));
            for (target, bases) in peaks.within(0..u64::MAX).chain(mask) {
                let numbers = [contig as u64, target as u64, bases.start, bases.end];
                self.sha
                    .update(numbers.map(u64::to_le_bytes).as_flattened());
            }
        }
    }

    /// All of a file: a GB takes a second or so, much less than it takes to read as signal.
    pub fn add_file(&mut self, path: &Path) -> Result<(), Error> {
        let read = File::open(path).and_then(|mut file| io::copy(&mut file, &mut self.sha));
        read.map(drop).map_err(Error::io(path))
    }

    pub fn hash(&self) -> String {
        let bytes = self.sha.clone().finalize();
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// The name of an assembly: that of its file, if it was given none.
pub fn assembly(name: Option<&str>, fasta: &Path) -> String {
    let file = || fasta.file_name().unwrap_or_default().to_string_lossy();
    name.map_or_else(|| file().into_owned(), str::to_owned)
}
