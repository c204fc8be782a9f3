//! `inspect`: what a data file or a file of predictions holds.

mod report;

use std::ops::Range;
use std::path::PathBuf;

use clap::Args;
use half::f16;

use crate::error::Error;
use crate::schema::{
    self, Central, DataFile, Header, PREDICTIONS, PredictionFile, SOFT_MASKED, Split, Task,
};
pub use report::Report;
use report::{
    DataReport, LabelReport, PredictionReport, SplitReport, TargetReport, TrackReport, WindowReport,
};

#[derive(Debug, Clone, Args)]
pub struct InspectOptions {
    file: PathBuf,
    /// Split to show; all if not given
    #[arg(long)]
    split: Option<String>,
    /// Windows to show of each split that has them [default: 0,1,2]
    #[arg(long, value_delimiter = ',')]
    rows: Option<Vec<usize>>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

const LETTERS: [char; 4] = ['A', 'C', 'G', 'T'];

pub fn inspect(options: &InspectOptions) -> Result<Report, Error> {
    if schema::schema_of(&options.file)? == PREDICTIONS {
        if let Some(split) = &options.split {
            return Err(Error::Request(format!(
                "--split {split}: a file of predictions has no splits"
            )));
        }
        if options.rows.is_some() {
            return Err(Error::Request(
                "--rows: of a file of predictions sums are shown; tfbind-prep export --bedgraph writes its values"
                    .to_owned(),
            ));
        }
        return predictions(options).map(Report::Predictions);
    }
    let file = DataFile::open(&options.file)?;
    let header = file.header();
    let names = match &options.split {
        Some(split) => vec![split.clone()],
        None => file.splits(),
    };
    let found: Vec<_> = names
        .iter()
        .map(|name| file.split(name))
        .collect::<Result<_, _>>()?;
    let rows = options.rows.clone().unwrap_or(vec![0, 1, 2]);
    // Rows that were asked for have to be somewhere.
    let most = found.iter().max_by_key(|split| split.len());
    if let (Some(_), Some(most)) = (&options.rows, most) {
        rows.iter().try_for_each(|&row| most.locus(row).map(drop))?;
    }
    let mut splits = Vec::new();
    for (name, split) in names.into_iter().zip(found) {
        let rows = rows.iter().filter(|&&row| row < split.len());
        let windows = rows
            .map(|&row| window(header, file.bin(), &split, row))
            .collect::<Result<_, _>>()?;
        splits.push(SplitReport {
            name,
            counts: split.counts(),
            windows,
        });
    }
    Ok(Report::Data(Box::new(DataReport {
        header: header.clone(),
        bin: file.bin(),
        splits,
    })))
}

fn window(
    header: &Header,
    bin: Option<usize>,
    split: &Split,
    row: usize,
) -> Result<WindowReport, Error> {
    let (mut seq, mut signal, mut label) = (Vec::new(), Vec::new(), Vec::new());
    split.read_into(row, &mut seq, &mut signal, &mut label)?;
    let locus = split.locus(row)?;
    let bases = &seq[header.margin..header.margin + header.length];
    let count = |codes: Range<u8>| {
        bases
            .iter()
            .filter(|&&code| codes.contains(&(code & !SOFT_MASKED)))
            .count()
    };
    let tracks = header
        .tracks
        .iter()
        .zip(signal.chunks_exact(header.width()));
    let targets = header
        .targets
        .iter()
        .zip(label.chunks_exact(header.label_len()));
    let contig = match header.contigs.get(locus.contig as usize) {
        Some(contig) => contig.name.clone(),
        None => format!("contig {}", locus.contig),
    };
    let known = count(0..schema::N).max(1);
    Ok(WindowReport {
        row,
        contig,
        start: locus.start,
        end: locus.start + header.length as i64,
        strand: locus.strand,
        repeat: seq[seq.len() / 2] & SOFT_MASKED != 0,
        gc: count(1..3) as f64 / known as f64,
        tracks: tracks.map(|(name, values)| track(name, values)).collect(),
        labels: targets
            .map(|(target, labels)| LabelReport {
                target: target.clone(),
                base: match header.task {
                    Task::Central(Central::Base) => Some(LETTERS[labels[0] as usize]),
                    _ => None,
                },
                positives: positives(header, bin, locus, labels),
                masked: labels
                    .iter()
                    .filter(|&&label| label == schema::MASKED)
                    .count(),
            })
            .collect(),
    })
}

fn track(name: &str, values: &[f16]) -> TrackReport {
    let values = || values.iter().map(|value| value.to_f32());
    TrackReport {
        track: name.to_owned(),
        min: values().fold(f32::INFINITY, f32::min),
        mean: values().sum::<f32>() / values().len() as f32,
        max: values().fold(f32::NEG_INFINITY, f32::max),
    }
}

/// Runs of positives in coordinates of the contig.
fn positives(
    header: &Header,
    bin: Option<usize>,
    locus: schema::Locus,
    labels: &[i8],
) -> Vec<Range<i64>> {
    let end = locus.start + header.length as i64;
    let centre = locus.start + header.length as i64 / 2;
    let of_window = match header.task {
        Task::PerBase => None,
        Task::PerWindow => {
            let labelled = schema::labelled(header.length, bin);
            Some(locus.start + labelled.start as i64..locus.start + labelled.end as i64)
        }
        Task::Central(Central::Base) => return Vec::new(),
        Task::Central(_) => Some(centre..centre + 1),
    };
    if let Some(place) = of_window {
        return if labels == [1] {
            vec![place]
        } else {
            Vec::new()
        };
    }
    let mut runs: Vec<Range<i64>> = Vec::new();
    for at in (0..labels.len()).filter(|&at| labels[at] == 1) {
        match runs.last_mut() {
            Some(run) if run.end == at as i64 => run.end += 1,
            _ => runs.push(at as i64..at as i64 + 1),
        }
    }
    let placed = |run: Range<i64>| match locus.strand {
        ..0 => end - run.end..end - run.start,
        _ => locus.start + run.start..locus.start + run.end,
    };
    runs.into_iter().map(placed).collect()
}

fn predictions(options: &InspectOptions) -> Result<PredictionReport, Error> {
    const BATCH: usize = 256;
    let file = PredictionFile::open(&options.file)?;
    let header = file.header().clone();
    let mut sums = vec![0f64; header.targets.len()];
    let mut highest = vec![f32::NEG_INFINITY; header.targets.len()];
    for first in (0..file.len()).step_by(BATCH) {
        let values = file.read_rows(first..(first + BATCH).min(file.len()))?;
        for (at, values) in values.chunks_exact(header.label_len()).enumerate() {
            let target = at % header.targets.len();
            sums[target] += values.iter().map(|&value| f64::from(value)).sum::<f64>();
            highest[target] = values.iter().copied().fold(highest[target], f32::max);
        }
    }
    let values = (file.len() * header.label_len()).max(1) as f64;
    let targets = header.targets.iter().zip(sums).zip(highest);
    let targets = targets.map(|((target, sum), max)| TargetReport {
        target: target.clone(),
        mean: sum / values,
        max,
    });
    let targets = targets.collect();
    Ok(PredictionReport {
        header,
        windows: file.len(),
        targets,
    })
}
