//! What was asked of the preparation, as a file keeps it.

use std::path::Path;

use serde::Serialize;
use sha2::{Digest, Sha256};

/// The options as TOML, and its SHA-256.
pub struct Recipe {
    pub text: String,
    pub hash: String,
}

impl Recipe {
    pub fn of(options: &impl Serialize) -> Self {
        let text = toml::to_string(options).expect("paths, numbers and strings are TOML");
        let hash = Sha256::digest(&text);
        let hash = hash.iter().map(|byte| format!("{byte:02x}")).collect();
        Self { text, hash }
    }
}

/// The name of an assembly: that of its file, if it was given none.
pub fn assembly(name: Option<&str>, fasta: &Path) -> String {
    let file = || fasta.file_name().unwrap_or_default().to_string_lossy();
    name.map_or_else(|| file().into_owned(), str::to_owned)
}
