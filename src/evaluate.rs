//! Metrics of the pooled data: batches in file order are dealt to the ranks, and their counts are summed.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context, Result, ensure};
use clap::ValueEnum;
use serde_json::json;

use crate::{
    baseline,
    checkpoint::{Checkpoint, Header, write_atomically},
    cli::{ApplyArgs, EvaluateArgs},
    comm::{Comm, share_text},
    data::{Draw, Windows},
    device,
    engine::{Engine, Net},
    loader::Loader,
    metrics::{Metrics, Tally, shown},
    model::Options,
    train::{BEST, broadcast},
};

/// When a bin of many bases counts as positive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum BinLabel {
    /// Any base of it is
    Any,
    /// At least half of its bases are
    Half,
}

/// Bins of bases: the score is the highest of the bin, as maxATAC and ENCODE-DREAM have it.
#[derive(Clone, Copy, Debug)]
pub struct Bins {
    pub size: usize,
    pub label: BinLabel,
}

impl Bins {
    pub fn apply(&self, logits: &[f32], labels: &[i8]) -> (Vec<f32>, Vec<i8>) {
        let scores = logits
            .chunks(self.size)
            .map(|bin| bin.iter().copied().fold(f32::NEG_INFINITY, f32::max));
        let label = |bin: &[i8]| {
            let positives = bin.iter().filter(|&&label| label > 0).count();
            let needed = if self.label == BinLabel::Any {
                1
            } else {
                self.size.div_ceil(2)
            };
            match positives >= needed {
                true => 1,
                false if bin.iter().all(|&label| label < 0) => -1,
                false => 0,
            }
        };
        (
            scores.collect(),
            labels.chunks(self.size).map(label).collect(),
        )
    }
}

/// Batches of `batch` windows in file order, those of this rank; a window belongs to exactly one.
pub fn batches_of_rank(draws: &[Draw], batch: usize, comm: &dyn Comm) -> Vec<Vec<Draw>> {
    draws
        .chunks(batch)
        .skip(comm.rank())
        .step_by(comm.size())
        .map(<[Draw]>::to_vec)
        .collect()
}

/// The tally of a split over all ranks.
pub fn tally(
    comm: &dyn Comm,
    engine: &mut dyn Engine,
    windows: &Arc<Windows>,
    batch: usize,
    bins: Option<Bins>,
) -> Result<Tally> {
    let draws: Vec<Draw> = (0..windows.len() as u32).map(Draw::from).collect();
    let batches = batches_of_rank(&draws, batch, comm);
    let count = batches.len();
    let mut loader = Loader::start(windows.clone(), batches.into_iter())?;
    let mut tally = Tally::default();
    for _ in 0..count {
        let rows = loader.next()?;
        let logits = engine.logits(&rows)?;
        match bins {
            None => tally.add(&logits, &rows.label),
            Some(bins) => {
                let (logits, labels) = bins.apply(&logits, &rows.label);
                tally.add(&logits, &labels);
            }
        }
    }
    tally.sum_over(comm);
    Ok(tally)
}

/// A trained model beside the windows it is applied to.
pub struct Applied {
    pub checkpoint: PathBuf,
    pub header: Header,
    pub data: PathBuf,
    pub windows: Arc<Windows>,
    pub net: Net,
}

impl Applied {
    /// Rank 0 reads the checkpoint; every rank gets its header and the filled model. The windows may have another
    /// length than those it was trained on.
    pub fn open(comm: &dyn Comm, args: &ApplyArgs) -> Result<Self> {
        ensure!(args.eval_batch > 0, "--eval-batch must be at least 1");
        let device = device::set_up(args.device, args.threads, comm)?;
        let checkpoint = if args.run.is_dir() {
            args.run.join(BEST)
        } else {
            args.run.clone()
        };
        let mut read = None;
        let text = share_text(comm, || {
            let found = Checkpoint::read(&checkpoint)?;
            let text = serde_json::to_string(&found.header)?;
            read = Some(found);
            Ok(text)
        })?;
        let header: Header = serde_json::from_str(&text)?;
        let data = args
            .data
            .clone()
            .or(header.plan.data.clone())
            .context("--data is missing")?;
        let windows = Arc::new(Windows::open(&data, &args.split)?);
        check_fit(&header, &windows, &data)?;
        let options = Options {
            up_activation: header.up_activation,
            ..Options::default()
        };
        let net = Net::new(header.arch, options, windows.io(), device, 0, None)?;
        if let Some(read) = read {
            read.restore(&net.flat, None)?;
        }
        broadcast(comm, &net.flat.parameters);
        broadcast(comm, &net.flat.buffers);
        Ok(Self {
            checkpoint,
            header,
            data,
            windows,
            net,
        })
    }
}

/// Whether windows are what the model was trained to read; their length may differ.
pub fn check_fit(header: &Header, windows: &Windows, data: &Path) -> Result<()> {
    let io = windows.io();
    ensure!(
        (io.channels, io.targets, io.per_base)
            == (header.io.channels, header.io.targets, header.io.per_base),
        "{}: the model reads tracks {:?} and predicts {:?}; the data has tracks {:?} and targets {:?}",
        data.display(),
        header.tracks,
        header.targets,
        windows.header.tracks,
        windows.header.targets
    );
    ensure!(
        windows.header.normalise == header.normalise,
        "{}: signal normalised by {:?}, but the model was trained on {:?}; prepare the data alike",
        data.display(),
        windows.header.normalise,
        header.normalise
    );
    Ok(())
}

pub fn evaluate(comm: &dyn Comm, args: EvaluateArgs) -> Result<()> {
    let Applied {
        checkpoint,
        header,
        data,
        windows,
        mut net,
    } = Applied::open(comm, &args.apply)?;
    let bins = args.bin.map(|size| Bins {
        size,
        label: args.bin_label,
    });
    if let Some(bins) = bins {
        ensure!(
            bins.size > 0 && windows.header.label_len() % bins.size == 0,
            "--bin {} does not divide the windows of {} labels",
            bins.size,
            windows.header.label_len()
        );
    }
    let metrics = tally(
        comm,
        net.engine.as_mut(),
        &windows,
        args.apply.eval_batch,
        bins,
    )?
    .metrics();
    let baselines = match args.baselines || args.motif.is_some() {
        true => baseline::tallies(
            comm,
            &windows,
            args.motif.as_deref(),
            args.motif_reach,
            bins,
        )?,
        false => Vec::new(),
    };
    if comm.rank() != 0 {
        return Ok(());
    }
    let seconds = header.progress.training_seconds;
    let folder = args
        .out
        .as_deref()
        .or(checkpoint.parent())
        .unwrap_or(Path::new("."));
    let mut stem = folder.join("evaluation_metrics").into_os_string();
    if args.apply.split != "test" {
        stem.push(format!("_{}", args.apply.split));
    }
    if let Some(bins) = bins {
        stem.push(format!("_bin{}", bins.size));
    }
    let (mut csv, mut json) = (stem.clone(), stem);
    (csv.push(".csv"), json.push(".json"));
    write_atomically(Path::new(&csv), csv_text(&metrics, seconds).as_bytes())?;
    let all = json!({
        "checkpoint": checkpoint, "data": data, "split": args.apply.split, "windows": windows.len(), "bin": args.bin,
        "metrics": metrics, "training_time": seconds, "step": header.progress.step, "ranks": header.ranks,
        "baselines": baselines.iter().map(|(name, m)| json!({"name": name, "metrics": m})).collect::<Vec<_>>(),
    });
    write_atomically(Path::new(&json), format!("{all:#}\n").as_bytes())?;

    println!(
        "\n{} windows of {} ({})",
        windows.len(),
        data.display(),
        args.apply.split
    );
    if !baselines.is_empty() {
        println!(
            "{:>24}  {:>9}  {:>17}  {:>9}",
            "score", "pr_auc", "average_precision", "auroc"
        );
        let own = format!("{} (trained)", header.arch.name());
        for (name, m) in std::iter::once((own, metrics)).chain(baselines) {
            println!(
                "{name:>24}  {:>9}  {:>17}  {:>9}",
                shown(m.pr_auc),
                shown(m.average_precision),
                shown(m.auroc)
            );
        }
    }
    for (name, value) in metrics.named() {
        println!("{name} {}", shown(value));
    }
    println!(
        "training_time {seconds:.1}\nwritten to {}",
        PathBuf::from(csv).display()
    );
    Ok(())
}

/// The competition's columns.
fn csv_text(metrics: &Metrics, seconds: f64) -> String {
    format!(
        "loss,pr_auc,dice_coef,binary_io_u,training_time\n{},{},{},{},{seconds:.2}\n",
        shown(metrics.loss),
        shown(metrics.pr_auc),
        shown(metrics.dice_coef),
        shown(metrics.binary_io_u)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bins_take_the_highest_score_and_follow_their_rule() {
        let logits = [0.1, 0.9, -1.0, -2.0, 0.0, 0.5];
        let labels = [0, 1, 0, -1, -1, -1];
        let bins = |label| Bins { size: 2, label }.apply(&logits, &labels);
        assert_eq!(bins(BinLabel::Any), (vec![0.9, -1.0, 0.5], vec![1, 0, -1]));
        let thirds = Bins {
            size: 3,
            label: BinLabel::Half,
        }
        .apply(&logits, &labels);
        assert_eq!(thirds, (vec![0.9, 0.5], vec![0, -1]));
    }
}
