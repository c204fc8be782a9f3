//! `make`: genome files to windows.
//!
//! One pass over the FASTA learns the contigs, then windows are planned without it, then a second
//! pass writes them: memory depends on the peaks and on the length of a window.

mod options;
mod targets;

use half::f16;

pub use options::MakeOptions;

use targets::{Target, Targets};

use crate::error::{Error, plural};
use crate::fasta::{FastaReader, Genome, Sequence};
use crate::intervals::TargetIntervals;
use crate::made::Made;
use crate::outputs;
use crate::partial::PartialFile;
use crate::peaks::{Tally, read_merged};
use crate::plan::{Labels, Plan};
use crate::recipe::Recipe;
use crate::regions::Regions;
use crate::schema::{DataWriter, Locus, Task, Window};
use crate::signal::Track;

pub fn make(options: &MakeOptions) -> Result<Made, Error> {
    options.check()?;
    let targets = Targets::of(options)?;
    outputs::check(&[&options.out], options.inputs(&targets.all))?;
    // Finds a missing or read-only folder before the work, not after it.
    drop(PartialFile::beside(&options.out).map_err(Error::io(&options.out))?);

    let mut recipe = Recipe::of(options)?;
    let genome = Genome::survey(&options.fasta)?;
    recipe.add_genome(&genome);
    let asked = options.splits.asked();
    let Regions { all, left_out } = Regions::resolve(&asked, &genome)?;
    let (labels, tally) = labels(options, &targets.all, &genome)?;
    recipe.add_labels(&labels);
    let stride = options.stride() as u64;
    let mut plan = Plan::new(&genome, all, &labels, stride, options.max_n);
    let mut notes = Vec::from_iter(left_out);
    if tally.skipped > 0 {
        let intervals = plural(tally.skipped, "interval");
        notes.push(format!(
            "left out {intervals} on contigs that the FASTA lacks"
        ));
    }
    if tally.middles > 0 {
        let intervals = plural(tally.middles, "interval");
        notes.push(format!(
            "--widen is about the middle of {intervals} without a summit"
        ));
    }
    notes.extend(targets.left_out());
    if let Some(group) = &options.only_positive {
        plan.keep_only(targets.of_group(group)?);
    }
    if let Some(negatives) = options.negatives {
        plan.thin(negatives);
    }
    let splits = nonempty_splits(&plan, &asked)?;
    let mut tracks = Vec::with_capacity(options.signal.len());
    for file in &options.signal {
        let track = Track::open(&file.path, options.normalise, options.missing)?;
        notes.extend(track.check_contigs(&genome, |contig| plan.uses(contig))?);
        tracks.push(track);
        recipe.add_file(&file.path)?;
    }

    let header = options.header(&genome, &targets.all, recipe);
    let mut writer = DataWriter::create(&options.out, &header, plan.masks_labels())?;
    if header.task == Task::PerWindow {
        writer.set_bin(options.bin())?;
    }
    write_windows(options, &plan, &mut tracks, &mut writer)?;
    let splits = splits.into_iter().map(|split| {
        let counts = writer.counts(&split);
        (split, counts)
    });
    let splits = splits.collect();
    writer.finish()?;
    Made::at(&options.out, header.task, splits, notes)
}

/// Labels, and how many intervals were not taken as they stand.
fn labels(
    options: &MakeOptions,
    targets: &[Target],
    genome: &Genome,
) -> Result<(Labels, Tally), Error> {
    let (mask, mut tally) = read_merged(&options.mask, genome, options.reading(None))?;
    let mut peaks = vec![TargetIntervals::default(); genome.contigs.len()];
    for (index, target) in targets.iter().enumerate() {
        let (intervals, of_target) =
            read_merged(&target.paths, genome, options.reading(options.widen))?;
        tally += of_target;
        for (peaks, intervals) in peaks.iter_mut().zip(&intervals) {
            peaks.add(index, intervals);
        }
    }
    peaks.iter_mut().for_each(TargetIntervals::sort);
    let labels = Labels {
        task: options.task(),
        length: options.length as u64,
        bin: options.bin() as u64,
        targets: targets.len(),
        peaks,
        mask,
    };
    Ok((labels, tally))
}

/// The splits of the plan, each of which has to keep a window.
fn nonempty_splits(plan: &Plan, asked: &[(&str, &[String])]) -> Result<Vec<String>, Error> {
    let mut splits = Vec::new();
    for (split, texts) in asked {
        let split = *split;
        let mut contigs = 0..plan.genome.contigs.len();
        if contigs.any(|contig| {
            plan.windows(contig)
                .any(|(region, _)| region.split == split)
        }) {
            splits.push(split.to_owned());
        } else if !texts.is_empty() || plan.regions.iter().any(|region| region.split == split) {
            let mut why = "all of its windows are N (--max-n), wholly masked, or without positives where --negatives \
                           or --only-positive wants them"
                .to_owned();
            if plan.labels.task == Task::PerWindow {
                why += &format!(
                    "; or its regions end before the central {} bases (--bin) of a window",
                    plan.labels.bin
                );
            }
            let split = split.to_owned();
            return Err(Error::NoWindows { split, why });
        }
    }
    Ok(splits)
}

fn write_windows(
    options: &MakeOptions,
    plan: &Plan,
    tracks: &mut [Track],
    writer: &mut DataWriter,
) -> Result<(), Error> {
    let mut reader = FastaReader::open(&options.fasta)?;
    for (index, contig) in plan.genome.contigs.iter().enumerate() {
        reader.enter(&contig.name)?;
        for track in tracks.iter_mut() {
            track.enter(&contig.name, contig.size);
        }
        let mut sequence = Sequence::default();
        for (region, start) in plan.windows(index) {
            let label = plan.labels.of(index, start, region.end);
            let (start, margin) = (start as i64, options.margin as i64);
            let range = start - margin..start + options.length as i64 + margin;
            let (mut seq, mut signal) = (Vec::new(), Vec::<f16>::new());
            sequence.append(&mut reader, range.clone(), &mut seq)?;
            let mut missing = 0;
            for track in tracks.iter_mut() {
                missing += track.append(range.clone(), &mut signal)?;
            }
            let locus = Locus {
                contig: index as u32,
                start,
                strand: 1,
            };
            writer.push(
                &region.split,
                &Window {
                    seq,
                    signal,
                    label,
                    locus,
                },
            )?;
            writer.add_missing(&region.split, missing)?;
        }
    }
    Ok(())
}
