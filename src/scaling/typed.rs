//! What is typed as words: settings of `train` after `--`, and the target.

use std::str::FromStr;

use anyhow::{Context, Result, bail, ensure};
use clap::{Parser, ValueEnum};

use crate::{
    cli::{Cli, Command, TrainArgs},
    model::BatchNorm,
    plan::{Metric, Settings, read_settings},
};

/// Those typed after `--`, read as `train` reads them.
pub fn settings(words: &[String]) -> Result<Settings> {
    let typed = ["tfbind-mpi", "train", "--run", "-"].map(String::from);
    let cli = Cli::try_parse_from(typed.iter().chain(words));
    let Command::Train(args) = cli.unwrap_or_else(|err| err.exit()).command else {
        bail!("after -- stand settings of train");
    };
    let TrainArgs {
        resume,
        from,
        data_copy,
        trace,
        sync_bn,
        settings,
        ..
    } = *args;
    let base = from.as_deref().map(read_settings).transpose()?;
    let mut settings = settings.over(base.unwrap_or_default());
    if sync_bn {
        settings.batch_norm = Some(BatchNorm::Sync);
    }
    settings.lr_scaling = settings.lr_scaling.filter(|_| from.is_none());
    // A plan holds the batch of its own run.
    if from.is_some() {
        (settings.batch, settings.global_batch, settings.data) = (None, None, None);
    }
    for (name, given) in [
        ("--data", settings.data.is_some()),
        ("--batch", settings.batch.is_some()),
        ("--global-batch", settings.global_batch.is_some()),
        ("--target", settings.target.is_some()),
    ] {
        ensure!(!given, "{name} belongs before the --");
    }
    let own = [
        ("--stop-at", settings.stop_at.is_some()),
        ("--lr-scaling", settings.lr_scaling.is_some()),
        ("--resume", resume),
        ("--data-copy", data_copy.is_some()),
        ("--trace", trace.is_some()),
    ];
    for (name, given) in own {
        ensure!(!given, "{name} is nothing for a timed run");
    }
    Ok(settings)
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
        let words = |text: &str| text.split(' ').map(String::from).collect::<Vec<_>>();
        let read = settings(&words("--arch cnn --engine native --threads 2")).unwrap();
        assert_eq!((read.arch, read.threads), (Some(Arch::Cnn), Some(2)));
        for (text, name) in [("--batch 4", "--batch"), ("--stop-at 9", "--stop-at")] {
            let err = settings(&words(text)).unwrap_err().to_string();
            assert!(err.contains(name), "{err}");
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
