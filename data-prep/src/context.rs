//! `context`: windows around hidden bases of a genome.
//!
//! One pass over the FASTA learns where its bases are known, which says what the windows are; a second copies those
//! bases. A window lies wholly inside a region of its split, so that no base of one split is seen by another.

mod options;

use std::iter;
use std::ops::Range;

use rand::SeedableRng;
use rand::seq::index;
use rand_chacha::ChaCha8Rng;

pub use options::ContextOptions;

use crate::error::Error;
use crate::fasta::{FastaReader, Genome, Sequence};
use crate::made::Made;
use crate::outputs;
use crate::partial::PartialFile;
use crate::recipe::Recipe;
use crate::regions::{Region, Regions};
use crate::schema::{ContextWriter, N, SOFT_MASKED, Stretch};

/// Bases that are copied at a time.
const PIECE: u64 = 1 << 18;

/// The windows of a split.
struct Split {
    name: &'static str,
    stretches: Vec<Stretch>,
    sample: Option<Vec<u32>>,
}

pub fn context(options: &ContextOptions) -> Result<Made, Error> {
    options.check()?;
    outputs::check(&[&options.out], [options.fasta.as_path()])?;
    // Finds a missing or read-only folder before the work, not after it.
    drop(PartialFile::beside(&options.out).map_err(Error::io(&options.out))?);

    let recipe = Recipe::of(&options.filled_in())?;
    let genome = Genome::survey(&options.fasta)?;
    let asked = options.splits.asked();
    let Regions { all, left_out } = Regions::resolve(&asked, &genome)?;
    let mut splits = Vec::new();
    let mut notes = Vec::from_iter(left_out);
    for (stream, (name, _)) in asked.into_iter().enumerate() {
        let of_split: Vec<_> = all.iter().filter(|region| region.split == name).collect();
        if of_split.is_empty() {
            continue;
        }
        let (stretches, short) = stretches(options, &genome, name, &of_split)?;
        if short > 0 {
            notes.push(format!(
                "{short} of {} {name} regions hold no window and were left out",
                of_split.len()
            ));
        }
        let sample = draw(options, name, stream as u64, &stretches)?;
        splits.push(Split {
            name,
            stretches,
            sample,
        });
    }

    let header = options.header(&genome, recipe);
    let mut writer = ContextWriter::create(&options.out, &header)?;
    for split in &splits {
        writer.add_split(split.name, split.stretches.clone(), split.sample.clone())?;
    }
    if !copy(options, &genome, &splits, &mut writer)? {
        notes.push("no base is soft-masked (lower case): nothing is known of repeats".to_owned());
    }
    let splits = writer.counts();
    writer.finish()?;
    Made::at(&options.out, header.task, splits, notes)
}

/// Runs of known bases that hold a window, and how many regions have none.
fn stretches(
    options: &ContextOptions,
    genome: &Genome,
    split: &str,
    regions: &[&Region],
) -> Result<(Vec<Stretch>, usize), Error> {
    let (mut stretches, mut short, mut longest) = (Vec::new(), 0, 0);
    for region in regions {
        let before = stretches.len();
        let mut start = region.start;
        let unknown = genome.unknown[region.contig].within(region.start..region.end);
        for Range {
            start: end,
            end: next,
        } in unknown.chain(iter::once(region.end..region.end))
        {
            let bases = end - start;
            longest = longest.max(bases);
            if bases >= options.width() {
                stretches.push(Stretch {
                    contig: region.contig as u32,
                    start,
                    bases,
                });
            }
            start = next;
        }
        short += usize::from(stretches.len() == before);
    }
    if stretches.is_empty() {
        let why = format!(
            "none of its regions has {} known bases in a row (--flank {} on each side of one); \
             the most are {longest}",
            options.width(),
            options.flank
        );
        let split = split.to_owned();
        return Err(Error::NoWindows { split, why });
    }
    Ok((stretches, short))
}

/// The windows that are rows, if not all are.
fn draw(
    options: &ContextOptions,
    split: &str,
    stream: u64,
    stretches: &[Stretch],
) -> Result<Option<Vec<u32>>, Error> {
    let windows = stretches
        .iter()
        .map(|stretch| stretch.bases + 1 - options.width());
    let windows: u64 = windows.sum();
    if windows > u64::from(u32::MAX) {
        return Err(Error::Request(format!(
            "the {split} split has {windows} windows, and a split holds {}: name fewer contigs",
            u32::MAX
        )));
    }
    let Some(rows) = options.sample(split) else {
        return Ok(None);
    };
    if rows as u64 > windows {
        return Err(Error::Request(format!(
            "--sample {rows}: the {split} split has {windows} windows; --sample {split}=whole takes all"
        )));
    }
    let mut random = ChaCha8Rng::seed_from_u64(options.seed());
    random.set_stream(stream);
    let drawn = index::sample(&mut random, windows as usize, rows);
    let mut drawn: Vec<u32> = drawn.into_iter().map(|window| window as u32).collect();
    drawn.sort_unstable();
    Ok(Some(drawn))
}

/// Copies the bases of all stretches; whether any of them is soft-masked.
fn copy(
    options: &ContextOptions,
    genome: &Genome,
    splits: &[Split],
    writer: &mut ContextWriter,
) -> Result<bool, Error> {
    let mut reader = FastaReader::open(&options.fasta)?;
    let (mut codes, mut masked) = (Vec::new(), false);
    for (index, contig) in genome.contigs.iter().enumerate() {
        reader.enter(&contig.name)?;
        let mut stretches = Vec::new();
        for split in splits {
            // In genome order, as their regions are.
            let before = |stretch: &Stretch| stretch.contig < index as u32;
            let rest = &split.stretches[split.stretches.partition_point(before)..];
            let here = rest.iter().take_while(|of| of.contig == index as u32);
            stretches.extend(here.map(|stretch| (split.name, *stretch)));
        }
        stretches.sort_by_key(|(_, stretch)| stretch.start);
        let mut sequence = Sequence::default();
        for (split, Stretch { start, bases, .. }) in stretches {
            for from in (start..start + bases).step_by(PIECE as usize) {
                let until = (from + PIECE).min(start + bases);
                codes.clear();
                sequence.append(&mut reader, from as i64..until as i64, &mut codes)?;
                if codes.iter().any(|code| code & !SOFT_MASKED == N) {
                    return Err(reader.changed());
                }
                masked |= codes.iter().any(|code| code & SOFT_MASKED != 0);
                writer.append(split, &codes)?;
            }
        }
    }
    Ok(masked)
}
