//! Random windows: bases and signal without a genome, positives where CACGTG was put.

use std::path::Path;

use anyhow::Result;
use half::f16;
use tfbind_prep::schema::{Contig, DataWriter, Header, Locus, Task, Window};

use crate::sampler::SplitMix;

/// Enough for the metrics to be defined.
const VALID: usize = 64;
/// CACGTG: the positives of a window, which cannot be shorter.
pub const SITE: [u8; 6] = [1, 0, 1, 2, 3, 2];

pub fn random_header(length: usize) -> Header {
    Header {
        task: Task::PerBase,
        length,
        margin: 0,
        genome: "random".into(),
        contigs: vec![Contig {
            name: "chrR".into(),
            size: 1 << 31,
        }],
        tracks: vec!["dnase".into()],
        targets: vec!["ctcf".into()],
        groups: vec![String::new()],
        normalise: "none".into(),
        missing: "zero".into(),
        recipe: String::new(),
        recipe_hash: "0".into(),
    }
}

/// The same for the same `start`; six positive bases, one masked.
pub fn random_window(start: i64, length: usize) -> Window {
    let mut random = SplitMix::keyed(&[start as u64]);
    let mut seq: Vec<u8> = (0..length).map(|_| random.below(4) as u8).collect();
    let first = random.below((length - SITE.len()) as u64) as usize;
    let site = first..first + SITE.len();
    seq[site.clone()].copy_from_slice(&SITE);
    let mut label = vec![0i8; length];
    label[site].fill(1);
    label[random.below(length as u64) as usize] = -1;
    let signal = (0..length)
        .map(|_| f16::from_f32(random.below(100) as f32 / 50.0))
        .collect();
    Window {
        seq,
        signal,
        label,
        locus: Locus {
            contig: 0,
            start,
            strand: 1,
        },
    }
}

/// A file with so many training windows.
pub fn write(path: &Path, length: usize, train: usize) -> Result<()> {
    let mut writer = DataWriter::create(path, &random_header(length), true)?;
    let splits = [("train", train), ("valid", VALID)];
    let all = splits
        .iter()
        .flat_map(|&(split, windows)| vec![split; windows]);
    for (row, split) in all.enumerate() {
        writer.push(split, &random_window((row * length) as i64, length))?;
    }
    Ok(writer.finish()?)
}
