//! What a run begins with: its settings, its windows and its plan.

use std::{fs::File, path::Path};

use anyhow::{Result, anyhow, bail, ensure};
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
    resume::{self, BEST, LAST, kept},
};

/// Hidden, since it says nothing to a user.
const LOCK: &str = ".lock";

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
    if !args.resume {
        nothing_else_in(&args.run)?;
    }
    let mut typed = kmer_input::resolved(args.settings.clone())?;
    if typed.kmer_input.is_some() {
        // What the file's own run counted.
        (base.kmer, base.markov_order, base.kmer_gamma) = (None, None, None);
    } else if base.kmer.is_none() && base.markov_order.is_none() {
        // A file that was written by hand.
        base = kmer_input::resolved(base)?;
    }
    if args.resume {
        // A job that goes on has the words it began with.
        for (option, typed, base) in [
            ("init", &typed.init, &base.init),
            ("start-motifs", &typed.start_motifs, &base.start_motifs),
            ("kmer-input", &typed.kmer_input, &base.kmer_input),
        ] {
            ensure!(
                typed.is_none() || typed == base,
                "--{option} is for the start of a run, and {} began {}; leave it out",
                args.run.display(),
                match base {
                    Some(path) => format!("with {}", path.display()),
                    None => "without".into(),
                }
            );
        }
    }
    if args.sync_bn {
        typed.batch_norm = Some(BatchNorm::Sync);
    }
    Ok(typed.over(base))
}

/// That a run which begins would replace or be taken for.
fn nothing_else_in(run: &Path) -> Result<()> {
    let [last, best] = [LAST, BEST].map(|name| run.join(name));
    ensure!(
        !last.exists(),
        "{} holds a run already: --resume goes on with it; else name another --run",
        run.display()
    );
    // One that was killed before its first checkpoint has a best, too.
    ensure!(
        !best.exists() || Checkpoint::read(&best)?.header.progress.step > 0,
        "{} holds an imported model: name another --run, and with --init {} it begins from that",
        run.display(),
        best.display()
    );
    if let Some(step) = kept(run)?.first() {
        bail!(
            "{} is of an earlier run: remove what is left of that, or name another --run",
            step.display()
        );
    }
    Ok(())
}

/// The run is this process' until the file that is returned is closed; what killed ones left half written is removed.
pub fn take(run: &Path) -> Result<File> {
    let lock = resume::lock(run, LOCK)?;
    resume::remove_partial(run)?;
    Ok(lock)
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
