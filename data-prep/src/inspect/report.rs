use std::fmt;
use std::ops::Range;

use serde::Serialize;
use serde_json::{Value, json};

use crate::schema::{Contig, Counts, Header, PREDICTIONS, PredictionHeader, Task, WINDOWS};

/// Of more targets than these, those of which a window says nothing are not printed one by one.
const SHOWN: usize = 8;

pub enum Report {
    Data(Box<DataReport>),
    Predictions(PredictionReport),
}

pub struct DataReport {
    pub header: Header,
    pub bin: Option<usize>,
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
    /// Whether the central base is soft-masked.
    pub repeat: bool,
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
    /// Where the label is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub base: Option<char>,
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
                    "bin": report.bin,
                    "margin": header.margin,
                    "genome": header.genome,
                    "contigs": contigs(&header.contigs),
                    "tracks": header.tracks,
                    "targets": header.targets,
                    "groups": header.groups,
                    "classes": header.classes(),
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
                "bin": header.bin,
                "genome": header.genome,
                "contigs": contigs(&header.contigs),
                "model": header.model,
                "windows": windows,
                "targets": targets,
            }),
        }
    }
}

/// How many targets are of each group, groups as they first come.
fn groups(groups: &[String]) -> String {
    let mut counts: Vec<(&str, usize)> = Vec::new();
    for group in groups {
        match counts.iter_mut().find(|(known, _)| known == group) {
            Some((_, count)) => *count += 1,
            None => counts.push((group, 1)),
        }
    }
    let text = counts.iter().map(|(group, count)| match group.is_empty() {
        true => format!("{count} of none"),
        false => format!("{group} {count}"),
    });
    text.collect::<Vec<_>>().join(", ")
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
            "bases": self.counts.bases,
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
                if let Task::Central(_) = task {
                    let flank = length / 2;
                    writeln!(
                        f,
                        "windows of {flank} bases on each side of a hidden one, {task}, {genome}"
                    )?;
                } else {
                    writeln!(
                        f,
                        "windows of {length} bases + {margin} on each side, {task}{}, {genome}",
                        report
                            .bin
                            .map_or(String::new(), |bin| format!(" of the central {bin}"))
                    )?;
                    if !tracks.is_empty() {
                        let Header {
                            normalise, missing, ..
                        } = header;
                        writeln!(f, "tracks: {tracks} ({normalise}, missing {missing})")?;
                    }
                    writeln!(f, "targets: {targets}")?;
                }
                if header.groups.iter().any(|group| !group.is_empty()) {
                    writeln!(f, "groups: {}", groups(&header.groups))?;
                }
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
            bases,
        } = self.counts;
        write!(f, "{}: {windows} windows, ", self.name)?;
        match bases {
            [0, 0, 0, 0] => write!(
                f,
                "{positives} positives, {negatives} negatives, {masked} masked, \
                 {missing_bases} missing bases"
            )?,
            [a, c, g, t] => write!(f, "{a} A, {c} C, {g} G, {t} T")?,
        }
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
        let repeat = if self.repeat {
            ", centre soft-masked"
        } else {
            ""
        };
        write!(
            f,
            "  {row} {contig}:{start}-{end} {strand} GC {gc:.3}{repeat}"
        )?;
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
        let silent = |label: &&LabelReport| {
            label.positives.is_empty() && label.masked == 0 && label.base.is_none()
        };
        let few = self.labels.len() <= SHOWN;
        for label in self.labels.iter().filter(|label| few || !silent(label)) {
            let LabelReport {
                target,
                base,
                positives,
                masked,
            } = label;
            if let Some(base) = base {
                write!(f, "\n    {target}: {base}")?;
                continue;
            }
            let place = |run: &Range<i64>| format!("{contig}:{}-{}", run.start, run.end);
            let runs: Vec<_> = positives.iter().map(place).collect();
            let runs = if runs.is_empty() {
                "no positives".to_owned()
            } else {
                runs.join(" ")
            };
            write!(f, "\n    {target}: {runs}, {masked} masked")?;
        }
        let silent = self.labels.iter().filter(silent).count();
        if !few && silent > 0 {
            write!(f, "\n    {silent} targets without positives")?;
        }
        Ok(())
    }
}
