//! What is typed as words: settings of `train` after `--`, and the target.

use std::str::FromStr;

use anyhow::{Context, Result, bail, ensure};
use clap::{Parser, ValueEnum};

use crate::{
    cli::{Cli, Command, TrainArgs},
    model::BatchNorm,
    plan::{Metric, Settings, read_settings},
};

/// Those typed after `--`, read as `train` reads them; some belong only to runs that go on until a target.
pub fn settings(words: &[String], target: bool) -> Result<Settings> {
    let whole = ["tfbind-mpi", "train", "--run", "-"].map(String::from);
    let cli = Cli::try_parse_from(whole.iter().chain(words));
    let Command::Train(args) = cli.unwrap_or_else(|err| err.exit()).command else {
        bail!("after -- stand settings of train");
    };
    let TrainArgs {
        run: _,
        resume,
        from,
        data_copy,
        trace,
        quiet,
        sync_bn,
        settings: mut typed,
    } = *args;
    let waits = |word: &String| word.starts_with("--stall-timeout");
    for (name, given) in [
        ("--data", typed.data.is_some()),
        ("--batch", typed.batch.is_some()),
        ("--global-batch", typed.global_batch.is_some()),
        ("--target", typed.target.is_some()),
        ("--stall-timeout", words.iter().any(waits)),
    ] {
        ensure!(!given, "{name} belongs before the --");
    }
    for (name, given) in [
        ("--stop-at", typed.stop_at.is_some()),
        ("--lr-scaling", typed.lr_scaling.is_some()),
        ("--resume", resume),
        ("--data-copy", data_copy.is_some()),
        ("--trace", trace.is_some()),
    ] {
        ensure!(!given, "{name} is nothing for a timed run");
    }
    // The settings of a real run may be given as they are.
    let ends = [
        ("--epochs", typed.epochs.is_some()),
        ("--patience", typed.patience.is_some()),
        ("--eval-every", typed.eval_every.is_some()),
        ("--save-every", typed.save_every.is_some()),
    ];
    let others = [
        ("--metric", typed.metric.is_some()),
        ("--keep", typed.keep.is_some()),
        ("--quiet", quiet),
        ("--seed", typed.seed.is_some() && target),
    ];
    for (name, _) in ends
        .iter()
        .filter(|_| !target)
        .chain(&others)
        .filter(|(_, given)| *given)
    {
        eprintln!("bench scaling: {name} is left out: runs that are timed have their own");
    }
    if sync_bn {
        typed.batch_norm = Some(BatchNorm::Sync);
    }
    let base = from.as_deref().map(read_settings).transpose()?;
    // A plan holds data, batch and end of its own run.
    let base = Settings {
        data: None,
        batch: None,
        global_batch: None,
        lr_scaling: None,
        stop_at: None,
        target: None,
        metric: None,
        ..base.unwrap_or_default()
    };
    Ok(typed.over(base))
}

/// `pr_auc=0.7`
pub fn target(text: &str) -> Result<(Metric, f64)> {
    let parsed = text.split_once('=').and_then(|(name, value)| {
        let metric = Metric::from_str(name, false).ok()?;
        Some((metric, f64::from_str(value).ok()?))
    });
    parsed.with_context(|| {
        let names: Vec<String> = Metric::value_variants()
            .iter()
            .map(|of| of.name())
            .collect();
        format!(
            "--target {text}: not METRIC=VALUE, with one of {}",
            names.join(", ")
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Arch;

    #[test]
    fn settings_of_train_are_read_and_those_of_the_study_refused() {
        let of = |text: &str, target| {
            let words: Vec<String> = text.split(' ').map(String::from).collect();
            settings(&words, target)
        };
        let read = of("--arch cnn --engine native --threads 2", false).unwrap();
        assert_eq!((read.arch, read.threads), (Some(Arch::Cnn), Some(2)));
        for text in ["--batch 4", "--stop-at 9", "--stall-timeout 9"] {
            let err = of(text, false).unwrap_err().to_string();
            assert!(err.starts_with(text.split(' ').next().unwrap()), "{err}");
        }
        assert_eq!(of("--epochs 9", true).unwrap().epochs, Some(9));
        assert_eq!(of("--seed 9", false).unwrap().seed, Some(9));
    }

    #[test]
    fn of_a_plan_its_own_batch_is_left_out_and_a_typed_one_refused() {
        let folder = tempfile::tempdir().unwrap();
        let plan = folder.path().join("plan.toml");
        let held =
            "data = \"d.h5\"\narch = \"cnn\"\nglobal_batch = 8\nstop_at = 9\nmetric = \"loss\"\n";
        std::fs::write(&plan, held).unwrap();
        let from = |more: &[&str]| {
            let words = [&["--from", plan.to_str().unwrap()], more].concat();
            let words: Vec<String> = words.into_iter().map(String::from).collect();
            settings(&words, false)
        };
        let read = from(&["--threads", "2"]).unwrap();
        let expected = Settings {
            arch: Some(Arch::Cnn),
            threads: Some(2),
            ..Settings::default()
        };
        assert_eq!(
            toml::to_string(&read).unwrap(),
            toml::to_string(&expected).unwrap()
        );
        for (name, value) in [
            ("--batch", "4"),
            ("--global-batch", "4"),
            ("--data", "e.h5"),
            ("--lr-scaling", "none"),
        ] {
            let err = from(&[name, value]).unwrap_err().to_string();
            assert!(err.starts_with(name), "{err}");
        }
    }

    #[test]
    fn a_target_names_a_metric() {
        assert_eq!(target("pr_auc=0.7").unwrap(), (Metric::PrAuc, 0.7));
        let err = target("prauc=0.7").unwrap_err().to_string();
        assert!(err.contains("pr_auc"), "{err}");
        assert!(target("loss").is_err());
    }
}
