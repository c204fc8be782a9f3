use std::fmt;
use std::ops::Range;

use serde::Serialize;
use serde_json::{Value, json};

use crate::schema::{Contig, Counts, Header, PREDICTIONS, PredictionHeader, WINDOWS};

pub enum Report {
    Data(Box<DataReport>),
    Predictions(PredictionReport),
}

pub struct DataReport {
    pub header: Header,
    pub splits: Vec<SplitReport>,
}

pub struct SplitReport {
    pub name: String,
    pub counts: Counts,
    pub windows: Vec<WindowReport>,
}

#[derive(Serialize)]
pub struct WindowReport {
    pub row: usize,
    pub contig: String,
    pub start: i64,
    pub end: i64,
    pub strand: i8,
    pub gc: f64,
    pub tracks: Vec<TrackReport>,
    pub labels: Vec<LabelReport>,
}

#[derive(Serialize)]
pub struct TrackReport {
    pub track: String,
    pub min: f32,
    pub mean: f32,
    pub max: f32,
}

#[derive(Serialize)]
pub struct LabelReport {
    pub target: String,
    /// Runs in coordinates of the contig.
    pub positives: Vec<Range<i64>>,
    pub masked: usize,
}

pub struct PredictionReport {
    pub header: PredictionHeader,
    pub windows: usize,
    pub targets: Vec<TargetReport>,
}

#[derive(Serialize)]
pub struct TargetReport {
    pub target: String,
    pub mean: f64,
    pub max: f32,
}

impl Report {
    pub fn to_json(&self) -> Value {
        match self {
            Self::Data(report) => {
                let header = &report.header;
                json!({
                    "schema": WINDOWS,
                    "task": header.task.as_str(),
                    "length": header.length,
                    "margin": header.margin,
                    "genome": header.genome,
                    "contigs": contigs(&header.contigs),
                    "tracks": header.tracks,
                    "targets": header.targets,
                    "normalise": header.normalise,
                    "missing": header.missing,
                    "recipe": header.recipe,
                    "recipe_hash": header.recipe_hash,
                    "splits": report.splits.iter().map(SplitReport::to_json).collect::<Vec<_>>(),
                })
            }
            Self::Predictions(PredictionReport {
                header,
                windows,
                targets,
            }) => json!({
                "schema": PREDICTIONS,
                "task": header.task.as_str(),
                "length": header.length,
                "genome": header.genome,
                "contigs": contigs(&header.contigs),
                "model": header.model,
                "windows": windows,
                "targets": targets,
            }),
        }
    }
}

fn contigs(contigs: &[Contig]) -> Vec<Value> {
    let one = |contig: &Contig| json!({ "name": contig.name, "size": contig.size });
    contigs.iter().map(one).collect()
}

impl SplitReport {
    fn to_json(&self) -> Value {
        json!({
            "split": self.name,
            "windows": self.counts.windows,
            "positives": self.counts.positives,
            "negatives": self.counts.negatives,
            "masked": self.counts.masked,
            "missing_bases": self.counts.missing_bases,
            "rows": self.windows,
        })
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Data(report) => {
                let header = &report.header;
                let Header {
                    task,
                    length,
                    margin,
                    genome,
                    ..
                } = header;
                let (tracks, targets) = (header.tracks.join(", "), header.targets.join(", "));
                writeln!(
                    f,
                    "windows of {length} bases + {margin} on each side, {task}, {genome}"
                )?;
                writeln!(
                    f,
                    "tracks: {tracks} ({}, missing {})",
                    header.normalise, header.missing
                )?;
                writeln!(f, "targets: {targets}")?;
                write!(f, "recipe {}", header.recipe_hash)?;
                report
                    .splits
                    .iter()
                    .try_for_each(|split| write!(f, "\n{split}"))
            }
            Self::Predictions(PredictionReport {
                header,
                windows,
                targets,
            }) => {
                let PredictionHeader {
                    task,
                    length,
                    genome,
                    model,
                    ..
                } = header;
                write!(
                    f,
                    "predictions for {windows} windows of {length} bases, {task}, {genome}"
                )?;
                write!(f, "\nmodel: {model}")?;
                targets
                    .iter()
                    .try_for_each(|TargetReport { target, mean, max }| {
                        write!(f, "\n{target}: mean {mean:.5}, max {max:.4}")
                    })
            }
        }
    }
}

impl fmt::Display for SplitReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Counts {
            windows,
            positives,
            negatives,
            masked,
            missing_bases,
        } = self.counts;
        write!(
            f,
            "{}: {windows} windows, {positives} positives, ",
            self.name
        )?;
        write!(
            f,
            "{negatives} negatives, {masked} masked, {missing_bases} missing bases"
        )?;
        self.windows
            .iter()
            .try_for_each(|window| write!(f, "\n{window}"))
    }
}

impl fmt::Display for WindowReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            row,
            contig,
            start,
            end,
            gc,
            ..
        } = self;
        let strand = if self.strand < 0 { '-' } else { '+' };
        write!(f, "  {row} {contig}:{start}-{end} {strand} GC {gc:.3}")?;
        for TrackReport {
            track,
            min,
            mean,
            max,
        } in &self.tracks
        {
            write!(
                f,
                "\n    {track}: min {min:.3}, mean {mean:.3}, max {max:.3}"
            )?;
        }
        for LabelReport {
            target,
            positives,
            masked,
        } in &self.labels
        {
            let place = |run: &Range<i64>| format!("{contig}:{}-{}", run.start, run.end);
            let runs: Vec<_> = positives.iter().map(place).collect();
            let runs = if runs.is_empty() {
                "no positives".to_owned()
            } else {
                runs.join(" ")
            };
            write!(f, "\n    {target}: {runs}, {masked} masked")?;
        }
        Ok(())
    }
}
