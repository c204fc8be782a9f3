//! Sequences of zeros and ones, made up.

use std::path::Path;

use anyhow::Result;
use half::f16;
use tfbind_prep::schema::{Contig, DataWriter, Header, Locus, N, Task, Window};

use crate::sampler::SplitMix;

/// What a model sees, and what it is to say of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Example {
    pub bits: Vec<u8>,
    pub label: bool,
}

/// A data file without bases, whose one track holds the bits.
pub fn write(path: &Path, target: &str, splits: &[(&str, &[Example])]) -> Result<()> {
    let length = splits[0].1[0].bits.len();
    let header = Header {
        task: Task::PerWindow,
        length,
        margin: 0,
        genome: "generated".into(),
        contigs: vec![Contig {
            name: "bits".into(),
            size: 1 << 31,
        }],
        tracks: vec!["bits".into()],
        targets: vec![target.into()],
        groups: vec![String::new()],
        normalise: "none".into(),
        missing: "zero".into(),
        recipe: String::new(),
        recipe_hash: target.into(),
    };
    let mut writer = DataWriter::create(path, &header, false)?;
    let mut start = 0;
    for (split, examples) in splits {
        for example in *examples {
            let window = Window {
                seq: vec![N; length],
                signal: example.bits.iter().map(|&bit| f16::from(bit)).collect(),
                label: vec![i8::from(example.label)],
                locus: Locus {
                    contig: 0,
                    start,
                    strand: 1,
                },
            };
            writer.push(split, &window)?;
            start += length as i64;
        }
    }
    Ok(writer.finish()?)
}

/// As they are printed.
pub fn text(bits: &[u8]) -> String {
    bits.iter().map(u8::to_string).collect()
}

/// Bits that are 0 or 1 alike, and whether the motif stands among them.
pub fn with_motif(motif: &[u8], length: usize, count: usize, seed: u64) -> Vec<Example> {
    let mut random = SplitMix::keyed(&[seed]);
    let mut sequence = || (0..length).map(|_| random.below(2) as u8).collect();
    (0..count).map(|_| labelled(motif, sequence())).collect()
}

/// Every sequence of this length.
pub fn all_with_motif(motif: &[u8], length: usize) -> Vec<Example> {
    let bits = |number: usize| {
        (0..length)
            .map(|place| (number >> place & 1) as u8)
            .collect()
    };
    (0..1 << length)
        .map(|number| labelled(motif, bits(number)))
        .collect()
}

fn labelled(motif: &[u8], bits: Vec<u8>) -> Example {
    let label = bits.windows(motif.len()).any(|part| part == motif);
    Example { bits, label }
}

/// 0^n 1^n one after the other, each n one of 1..=`longest` alike, cut to `length`.
pub fn counted(longest: u64, length: usize, random: &mut SplitMix) -> Vec<u8> {
    let mut bits = Vec::new();
    while bits.len() < length {
        let n = 1 + random.below(longest) as usize;
        bits.extend([vec![0; n], vec![1; n]].concat());
    }
    bits.truncate(length);
    bits
}

/// The `context` bits before each bit that is asked for, and that bit. As in the class: after the first 0 1, every 1,
/// and every 0 after a 1. A 1 after a 0 could not be foretold, but of what follows a 0 only the 1 is asked for.
pub fn asked(bits: &[u8], context: usize) -> Vec<Example> {
    let (mut examples, mut started) = (Vec::new(), false);
    for at in context..bits.len() {
        let (before, bit) = (bits[at - 1], bits[at]);
        // The class looks at the bit before from the second place on.
        let known = at > context;
        if started && (bit == 1 || before == 1) {
            examples.push(Example {
                bits: bits[at - context..at].to_vec(),
                label: bit == 1,
            });
        }
        started |= known && before == 0 && bit == 1;
    }
    examples
}

/// The accuracy of always saying the more frequent label.
pub fn majority(examples: &[Example]) -> f64 {
    let ones = examples.iter().filter(|example| example.label).count();
    ones.max(examples.len() - ones) as f64 / examples.len() as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_all_sequences_of_ten_bits_520_hold_the_motif() {
        let all = all_with_motif(&[1, 1, 1], 10);
        assert_eq!(all.len(), 1024);
        // Those without are counted by tribonacci numbers: 504.
        assert_eq!(all.iter().filter(|example| example.label).count(), 520);
        assert!((majority(&all) - 520.0 / 1024.0).abs() < 1e-12);
        let drawn = with_motif(&[1, 1, 1], 10, 1000, 7);
        assert!(drawn.iter().all(|example| all.contains(example)));
        assert_ne!(drawn, with_motif(&[1, 1, 1], 10, 1000, 8));
    }

    #[test]
    fn what_is_asked_for_follows_from_the_context() {
        let mut random = SplitMix::keyed(&[1]);
        let mut all = Vec::new();
        for _ in 0..20 {
            all.extend(asked(&counted(19, 1000, &mut random), 100));
        }
        for example in &all {
            let run = |bit: u8, from: usize| {
                let before = example.bits[..from].iter().rev();
                before.take_while(|&&of| of == bit).count()
            };
            let ones = run(1, 100);
            let zeros = run(0, 100 - ones);
            // A 0 comes where there are as many ones as zeros, and only there.
            assert_eq!(example.label, ones < zeros, "{:?}", example.bits);
        }
        // Of n ones and a zero for each n: 10 / 11 on average.
        assert!(
            (majority(&all) - 10.0 / 11.0).abs() < 0.005,
            "{}",
            majority(&all)
        );
    }
}
