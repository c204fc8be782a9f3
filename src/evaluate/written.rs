//! What an evaluation leaves: tables beside the checkpoint, and what is printed.

use std::{
    fmt::Write,
    path::{Path, PathBuf},
};

use anyhow::Result;
use serde_json::json;

use super::{BinLabel, BinScore, Tallies};
use crate::{
    apply::Applied,
    checkpoint::{Checkpoint, Header, write_atomically},
    cli::EvaluateArgs,
    data::Windows,
    metrics::{Metrics, Targets, class_name, shown},
    plan::word,
    resume::{BEST, LAST},
};

/// Names of files in a run folder, without what [`name_of`] adds and without their endings.
pub const METRICS: &str = "evaluation_metrics";
const TARGETS: &str = "evaluation_targets";

/// The competition's columns, and those where labels are classes.
const COLUMNS: [&str; 4] = ["loss", "pr_auc", "dice_coef", "binary_io_u"];
const COLUMNS_OF_CLASSES: [&str; 4] =
    ["loss", "accuracy", "balanced_accuracy", "majority_accuracy"];

pub fn write(
    args: &EvaluateArgs,
    applied: &Applied,
    tallies: &Tallies,
    targets: &Targets,
    baselines: Vec<(String, Metrics)>,
) -> Result<()> {
    let Applied {
        checkpoint,
        header,
        data,
        windows,
        ..
    } = applied;
    let metrics = tallies.metrics();
    // The time of the whole training, of which the best checkpoint saw a part.
    let last = Checkpoint::read(&checkpoint.with_file_name(LAST));
    let trained = last.map_or(header.progress.clone(), |last| last.header.progress);
    let seconds = trained.training_seconds;
    // Weights that were imported were trained elsewhere.
    let samples_per_s = (seconds > 0.0).then(|| trained.samples as f64 / seconds);
    let [csv, of_targets, json] = paths(args, applied);
    write_atomically(&csv, csv_text(&metrics, seconds).as_bytes())?;
    write_atomically(&of_targets, targets.csv().as_bytes())?;
    let confusion = tallies.all.confusion();
    let mut all = json!({
        "checkpoint": checkpoint, "data": data, "data_recipe": windows.header.recipe_hash, "split": args.apply.split, "both_strands": args.apply.both_strands, "windows": windows.num_rows(), "bin": args.bin,
        "bin_score": args.bin.map(|_| word(args.bin_score)), "bin_label": args.bin.map(|_| word(args.bin_label)),
        "metrics": metrics, "training_time": seconds, "samples_per_s": samples_per_s, "device": header.device,
        "step": header.progress.step, "ranks": header.ranks, "targets": targets.json(),
        "baselines": baselines.iter().map(|(name, m)| json!({"name": name, "metrics": m})).collect::<Vec<_>>(),
    });
    if let Some(confusion) = &confusion {
        all["confusion"] = json!(confusion);
    }
    write_atomically(&json, format!("{all:#}\n").as_bytes())?;

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
        for (name, m) in std::iter::once((own, metrics.clone())).chain(baselines) {
            println!(
                "{name:>24}  {:>9}  {:>17}  {:>9}",
                shown(m.value("pr_auc")),
                shown(m.value("average_precision")),
                shown(m.value("auroc"))
            );
        }
    }
    if let Some(confusion) = confusion {
        print!("{}", confusion_table(&confusion));
    }
    if windows.header.targets.len() > 1 {
        print!("{}", targets.table());
    }
    for (name, value) in metrics.named() {
        println!("{name} {}", shown(*value));
    }
    for (name, value) in [
        ("training_time", format!("{seconds:.1}")),
        (
            "samples_per_s",
            samples_per_s.map_or("undefined".into(), |rate| format!("{rate:.1}")),
        ),
        ("ranks", header.ranks.to_string()),
        ("device", header.device.clone()),
        ("table", csv.display().to_string()),
        ("targets", of_targets.display().to_string()),
    ] {
        println!("{name} {value}");
    }
    Ok(())
}

/// The table of the pooled data, that of its targets, and everything.
fn paths(args: &EvaluateArgs, applied: &Applied) -> [PathBuf; 3] {
    let folder = args.out.as_deref().or(applied.checkpoint.parent());
    let folder = folder.unwrap_or(Path::new("."));
    let of = name_of(args) + &name_of_source(applied);
    let path = |name: &str, ending: &str| folder.join(format!("{name}{of}.{ending}"));
    [
        path(METRICS, "csv"),
        path(TARGETS, "csv"),
        path(METRICS, "json"),
    ]
}

/// In the names of files.
pub const BOTH_STRANDS: &str = "_both_strands";

/// What the names of an evaluation's files have beyond those of a plain one on the test windows, so that none
/// overwrites another.
fn name_of(args: &EvaluateArgs) -> String {
    let mut of = name_of_split(&args.apply.split);
    if let Some(size) = args.bin {
        of += &format!("_bin{size}");
        if args.bin_score != BinScore::Max {
            of += &format!("_{}", word(args.bin_score));
        }
        if args.bin_label != BinLabel::Any {
            of += &format!("_{}", word(args.bin_label));
        }
    }
    of + name_of_strands(args.apply.both_strands)
}

/// Of these names the part for the strands; predictions and explanations have it too.
pub fn name_of_strands(both: bool) -> &'static str {
    if both { BOTH_STRANDS } else { "" }
}

/// Of these names the part for the split.
pub fn name_of_split(split: &str) -> String {
    match split {
        "test" => String::new(),
        split => format!("_{split}"),
    }
}

/// Of these names the part for a model or data that are not the run's own; predictions have it too.
pub fn name_of_source(applied: &Applied) -> String {
    let of_data = name_of_data(&applied.header, &applied.windows, &applied.data);
    name_of_checkpoint(&applied.checkpoint) + &of_data
}

/// Nothing for the checkpoint that its folder stands for.
fn name_of_checkpoint(checkpoint: &Path) -> String {
    let never_evaluated = || !checkpoint.with_file_name(BEST).exists();
    match checkpoint.ends_with(BEST) || (checkpoint.ends_with(LAST) && never_evaluated()) {
        true => String::new(),
        false => stem(checkpoint),
    }
}

/// Nothing for the data that were trained on, wherever they lie: a job reads a copy on its own disks.
pub fn name_of_data(header: &Header, windows: &Windows, data: &Path) -> String {
    match header.data_recipe == windows.header.recipe_hash {
        true => String::new(),
        false => stem(data),
    }
}

fn stem(path: &Path) -> String {
    let stem = path.file_stem().unwrap_or_default();
    format!("_{}", stem.to_string_lossy())
}

fn csv_text(metrics: &Metrics, seconds: f64) -> String {
    let columns = match metrics.labels.len() {
        2 => COLUMNS,
        _ => COLUMNS_OF_CLASSES,
    };
    let values = columns.map(|name| shown(metrics.value(name)));
    format!(
        "{},training_time\n{},{seconds:.2}\n",
        columns.join(","),
        values.join(",")
    )
}

/// Calls in columns, labels in rows, and the share of each label that is called right.
fn confusion_table(confusion: &[Vec<u64>]) -> String {
    let classes = confusion.len();
    let name = |class| class_name(class, classes);
    let mut out = format!("{:>16}", "label \\ called");
    for class in 0..classes {
        let _ = write!(out, "  {:>9}", name(class));
    }
    out += "     recall\n";
    for (class, calls) in confusion.iter().enumerate() {
        let _ = write!(out, "{:>16}", name(class));
        for count in calls {
            let _ = write!(out, "  {count:>9}");
        }
        let all: u64 = calls.iter().sum();
        let recall = (all > 0).then(|| calls[class] as f64 / all as f64);
        let _ = writeln!(out, "  {:>9}", shown(recall));
    }
    out
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::{data::tests::windows, model::Arch, plan::Settings};

    #[test]
    fn a_checkpoint_that_its_folder_does_not_stand_for_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let name = |file: &str| name_of_checkpoint(&folder.path().join(file));
        assert_eq!(name(LAST), "");
        fs::write(folder.path().join(BEST), "").unwrap();
        assert_eq!([name(BEST), name(LAST)], ["", "_last"]);
        assert_eq!(name("step-00000002.safetensors"), "_step-00000002");
    }

    #[test]
    fn data_of_another_recipe_are_named_and_a_copy_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let mut windows = windows(folder.path());
        let header = Header::new(&windows, Arch::Cnn, None, Settings::default());
        let data = Path::new("jobfs/other.h5");
        assert_eq!(name_of_data(&header, &windows, data), "");
        windows.header.recipe_hash = "of others".into();
        assert_eq!(name_of_data(&header, &windows, data), "_other");
    }
}
