//! What was asked of the preparation, as a file keeps it.

use std::path::Path;

use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::error::Error;
use crate::fasta::Genome;

/// The options as TOML, and a SHA-256 by which files of the same windows are told from others.
pub struct Recipe {
    pub text: String,
    pub hash: String,
}

impl Recipe {
    pub fn of(options: &impl Serialize) -> Result<Self, Error> {
        // The one thing in options that TOML cannot hold.
        let text = toml::to_string(options).map_err(|error| {
            Error::Request(format!(
                "a file's name among the options is not UTF-8, and the data keep the options: rename it ({error})"
            ))
        })?;
        let hash = hex(&Sha256::digest(&text));
        Ok(Self { text, hash })
    }

    /// The hash is also of the genome: a FASTA may change and keep its name.
    pub fn on(self, genome: &Genome) -> Self {
        let mut hash = Sha256::new();
        hash.update(&self.text);
        for contig in &genome.contigs {
            hash.update(format!("{}\t{}\n", contig.name, contig.size));
        }
        hash.update(genome.digest);
        let hash = hex(&hash.finalize());
        Self { hash, ..self }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The name of an assembly: that of its file, if it was given none.
pub fn assembly(name: Option<&str>, fasta: &Path) -> String {
    let file = || fasta.file_name().unwrap_or_default().to_string_lossy();
    name.map_or_else(|| file().into_owned(), str::to_owned)
}
