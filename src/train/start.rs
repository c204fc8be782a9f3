//! What a run begins with: its settings, its windows and its plan.

use std::path::Path;

use anyhow::{Result, anyhow, ensure};
use tfbind_prep::schema::Error;

use super::labels::check_labels;
use crate::{
    checkpoint::Checkpoint,
    cli::TrainArgs,
    comm::Comm,
    data::Windows,
    kmer_input,
    model::BatchNorm,
    plan::{Metric, Plan, Settings, read_settings},
    resume::{LAST, remove_partial},
};

/// The settings of the run: the command line, over a file or over those of the run resumed.
pub fn settle(args: &TrainArgs) -> Result<Settings> {
    let last = args.run.join(LAST);
    let mut base = match &args.from {
        Some(path) => read_settings(path)?,
        None if args.resume => Checkpoint::read(&last)?.header.plan,
        None => Settings::default(),
    };
    // Where a run was cut is not a property of the run.
    base.stop_at = None;
    ensure!(
        args.resume || !last.exists(),
        "{} holds a run already: --resume goes on with it; else name another --run",
        args.run.display()
    );
    if args.run.is_dir() {
        remove_partial(&args.run)?;
    }
    let mut typed = kmer_input::resolved(args.settings.clone())?;
    if typed.kmer_input.is_some() {
        // What the file's own run counted.
        (base.kmer, base.markov_order, base.kmer_gamma) = (None, None, None);
    } else if base.kmer.is_none() && base.markov_order.is_none() {
        // A file that was written by hand.
        base = kmer_input::resolved(base)?;
    }
    ensure!(
        !args.resume || (typed.init.is_none() && typed.start_motifs.is_none()),
        "--init and --start-motifs are for the start of a run, not for --resume"
    );
    if args.sync_bn {
        typed.batch_norm = Some(BatchNorm::Sync);
    }
    Ok(typed.over(base))
}

/// The windows that a run trains on, and those that it is evaluated on.
pub fn open_windows(data: &Path) -> Result<[Windows; 2]> {
    let open = |split| {
        Windows::open(data, split).map_err(|err| match err.downcast_ref() {
            Some(missing @ Error::NoSplit { .. }) => anyhow!(
                "{missing}; a run needs train and valid: prepare it with tfbind-prep make or context, --valid CONTIG"
            ),
            _ => err,
        })
    };
    Ok([open("train")?, open("valid")?])
}

/// The plan of a run with these windows, or why it would be refused; the ranks of `comm` share the look at them.
pub fn plan_on(
    comm: &dyn Comm,
    ranks: usize,
    mut settings: Settings,
    windows: &Windows,
    valid: &Windows,
) -> Result<Plan> {
    let (rows, margin) = (windows.num_rows(), windows.header.margin);
    if windows.io().classes > 1 {
        settings.metric.get_or_insert(Metric::Accuracy);
    }
    let plan = Plan::new(settings, ranks, rows, margin)?;
    check_labels(comm, &plan, windows, valid)?;
    Ok(plan)
}
