//! Metrics of the pooled data: batches in file order are dealt to the ranks, and their counts are summed.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Result, ensure};
use clap::ValueEnum;
use serde_json::json;

use crate::{
    apply::Applied,
    baseline,
    checkpoint::{Checkpoint, write_atomically},
    cli::EvaluateArgs,
    comm::Comm,
    data::{Draw, Windows},
    engine::Engine,
    loader::Loader,
    metrics::{Metrics, Tally, shown},
    resume::LAST,
};

/// When a bin of many bases counts as positive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum BinLabel {
    /// Any base of it is
    Any,
    /// At least half of its bases are
    Half,
}

/// What a bin's score is made of its bases'.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum BinScore {
    /// The highest, as maxATAC has it
    Max,
    /// The mean, which a site at the very edge of a neighbour does not raise
    Mean,
}

/// Bins of bases.
#[derive(Clone, Copy, Debug)]
pub struct Bins {
    pub size: usize,
    pub score: BinScore,
    pub label: BinLabel,
}

impl Bins {
    pub fn apply(&self, logits: &[f32], labels: &[i8]) -> (Vec<f32>, Vec<i8>) {
        let mut bins = (Vec::new(), Vec::new());
        for (logits, labels) in logits.chunks(self.size).zip(labels.chunks(self.size)) {
            let known = || logits.iter().zip(labels).filter(|(_, label)| **label >= 0);
            let (count, positives) = (
                known().count(),
                known().filter(|(_, label)| **label > 0).count(),
            );
            let needed = if self.label == BinLabel::Any {
                1
            } else {
                count.div_ceil(2)
            };
            bins.1.push(if count == 0 {
                -1
            } else {
                i8::from(positives >= needed)
            });
            bins.0.push(match self.score {
                _ if count == 0 => 0.0,
                BinScore::Max => known()
                    .map(|(logit, _)| *logit)
                    .fold(f32::NEG_INFINITY, f32::max),
                BinScore::Mean => known().map(|(logit, _)| logit).sum::<f32>() / count as f32,
            });
        }
        bins
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

/// The tally of this rank's part of a split, cut short when `stop` says so.
pub fn count(
    comm: &dyn Comm,
    engine: &mut dyn Engine,
    windows: &Arc<Windows>,
    batch: usize,
    bins: Option<Bins>,
    stop: impl Fn() -> bool,
) -> Result<Tally> {
    let draws: Vec<Draw> = (0..windows.num_rows() as u32).map(Draw::from).collect();
    let batches = batches_of_rank(&draws, batch, comm);
    let count = batches.len();
    let mut loader = Loader::start(windows.clone(), batches.into_iter())?;
    let mut tally = Tally::default();
    for _ in 0..count {
        if stop() {
            break;
        }
        let rows = loader.next_rows()?;
        let logits = engine.logits(&rows)?;
        match bins {
            None => tally.add(&logits, &rows.label),
            Some(bins) => {
                let (logits, labels) = bins.apply(&logits, &rows.label);
                tally.add(&logits, &labels);
            }
        }
    }
    Ok(tally)
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
        score: args.bin_score,
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
    comm.note("the metrics", header.progress.step);
    let mut tally = count(
        comm,
        net.engine.as_mut(),
        &windows,
        args.apply.eval_batch,
        bins,
        || false,
    )?;
    tally.sum_over(comm);
    let metrics = tally.metrics();
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
    // The time of the whole training, of which the best checkpoint saw a part.
    let last = Checkpoint::read(&checkpoint.with_file_name(LAST));
    let trained = last.map_or(header.progress.clone(), |last| last.header.progress);
    let seconds = trained.training_seconds;
    let samples_per_s = trained.samples as f64 / seconds;
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
    csv.push(".csv");
    json.push(".json");
    write_atomically(Path::new(&csv), csv_text(&metrics, seconds).as_bytes())?;
    let all = json!({
        "checkpoint": checkpoint, "data": data, "split": args.apply.split, "windows": windows.num_rows(), "bin": args.bin,
        "metrics": metrics, "training_time": seconds, "samples_per_s": samples_per_s, "device": header.device, "step": header.progress.step, "ranks": header.ranks,
        "baselines": baselines.iter().map(|(name, m)| json!({"name": name, "metrics": m})).collect::<Vec<_>>(),
    });
    write_atomically(Path::new(&json), format!("{all:#}\n").as_bytes())?;

    println!(
        "\n{} windows of {} ({})",
        windows.num_rows(),
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
    for (name, value) in [
        ("training_time", format!("{seconds:.1}")),
        ("samples_per_s", format!("{samples_per_s:.1}")),
        ("ranks", header.ranks.to_string()),
        ("device", header.device.clone()),
        ("table", PathBuf::from(csv).display().to_string()),
    ] {
        println!("{name} {value}");
    }
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
        let bins = |size, score, label| Bins { size, score, label }.apply(&logits, &labels);
        let any = bins(2, BinScore::Max, BinLabel::Any);
        assert_eq!(
            any,
            (vec![0.9, -1.0, 0.0], vec![1, 0, -1]),
            "masked bases do not count"
        );
        let half = bins(3, BinScore::Mean, BinLabel::Half);
        assert_eq!(half, (vec![0.0, 0.0], vec![0, -1]));
    }
}
