use serde::Serialize;
use sha2::{Digest, Sha256};

/// What was asked of a preparation, as TOML, and the hash that tells two apart.
pub struct Recipe {
    pub text: String,
    pub hash: String,
}

impl Recipe {
    pub fn of(options: &impl Serialize) -> Self {
        let text = toml::to_string(options).expect("paths, numbers and strings are TOML");
        let hash = Sha256::digest(&text);
        Self {
            hash: hash.iter().map(|byte| format!("{byte:02x}")).collect(),
            text,
        }
    }
}
