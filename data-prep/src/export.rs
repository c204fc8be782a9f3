//! `export`: predictions to bigWig and bedGraph.

mod runs;

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::PathBuf;

use bigtools::Value;
use clap::{ArgGroup, Args};

use crate::bigwig;
use crate::error::Error;
use crate::outputs;
use crate::partial::PartialFile;
use crate::schema::{PredictionFile, Task};
use runs::{Run, Runs};

#[derive(Debug, Clone, Args)]
#[command(group(ArgGroup::new("outputs").args(["bigwig", "bedgraph"]).required(true).multiple(true)))]
pub struct ExportOptions {
    /// File of predictions
    predictions: PathBuf,
    #[arg(long)]
    bigwig: Option<PathBuf>,
    #[arg(long)]
    bedgraph: Option<PathBuf>,
    /// Outer bases of a window that give way to the inner part of another; if not given, 100 but at
    /// most a quarter of the window. Where a window has one label, its bin is meant, and 0 if not given
    #[arg(long)]
    trim: Option<usize>,
    /// Target to export; may be left out where there is one
    #[arg(long, value_name = "NAME")]
    target: Option<String>,
    /// Leave out values below
    #[arg(long)]
    min: Option<f32>,
}

/// How much was written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Exported {
    pub windows: usize,
    pub runs: u64,
    pub bases: u64,
}

impl ExportOptions {
    fn target(&self, targets: &[String]) -> Result<usize, Error> {
        let known = targets.join(", ");
        match &self.target {
            Some(name) => targets
                .iter()
                .position(|target| target == name)
                .ok_or_else(|| {
                    Error::Request(format!("--target {name}: the file predicts {known}"))
                }),
            None if targets.len() == 1 => Ok(0),
            None => Err(Error::Request(format!("give --target, one of {known}"))),
        }
    }

    fn trim(&self, task: Task, length: usize) -> Result<usize, Error> {
        match self.trim {
            Some(trim) if matches!(task, Task::Central(_)) => Err(Error::Request(format!(
                "--trim {trim}: predictions of {task} are of the central base of a window alone"
            ))),
            Some(trim) if trim >= length.div_ceil(2) => Err(Error::Request(format!(
                "--trim {trim}: nothing is left of {length} bases"
            ))),
            Some(trim) => Ok(trim),
            None if task == Task::PerBase => Ok((length / 4).min(100)),
            None => Ok(0),
        }
    }
}

pub fn export(options: &ExportOptions) -> Result<Exported, Error> {
    let outputs: Vec<_> = options.bigwig.iter().chain(&options.bedgraph).collect();
    let outputs: Vec<_> = outputs.into_iter().map(PathBuf::as_path).collect();
    outputs::check(&outputs, [options.predictions.as_path()])?;
    let file = PredictionFile::open(&options.predictions)?;
    let header = file.header().clone();
    let target = options.target(&header.targets)?;
    let trim = options.trim(header.task, header.labelled().len())?;
    let bedgraph = options.bedgraph.as_deref().map(|path| {
        let partial = PartialFile::beside(path).map_err(Error::io(path))?;
        let out = File::create(partial.path()).map_err(Error::io(path))?;
        Ok::<_, Error>((partial, BufWriter::new(out)))
    });
    let mut bedgraph = bedgraph.transpose()?;

    let mut exported = Exported {
        windows: file.len(),
        ..Exported::default()
    };
    let runs = Runs::new(&options.predictions, file, target, trim)?;
    let kept = runs.filter(|run| {
        let least = options.min.unwrap_or(f32::NEG_INFINITY);
        run.as_ref().map_or(true, |(_, run)| run.value >= least)
    });
    let mut told = kept.map(|run| {
        let (contig, run) = run?;
        exported.runs += 1;
        exported.bases += run.end - run.start;
        if let Some((partial, out)) = &mut bedgraph {
            let Run { start, end, value } = run;
            writeln!(out, "{contig}\t{start}\t{end}\t{value}")
                .map_err(Error::io(partial.target()))?;
        }
        Ok((contig, run))
    });
    match &options.bigwig {
        Some(path) => {
            // Longer contigs than 32 bits can tell are refused before the first run.
            let value = |(contig, run): (String, Run)| {
                let (start, end) = (run.start as u32, run.end as u32);
                let value = run.value;
                (contig, Value { start, end, value })
            };
            bigwig::write(path, &header.contigs, told.map(|run| run.map(value)))?;
        }
        None => told.try_for_each(|run| run.map(drop))?,
    }
    if let Some((partial, mut out)) = bedgraph {
        let path = partial.target().to_owned();
        if exported.runs == 0 {
            return Err(Error::NothingToExport { path });
        }
        out.flush().map_err(Error::io(&path))?;
        drop(out);
        partial.commit().map_err(Error::io(&path))?;
    }
    Ok(exported)
}
