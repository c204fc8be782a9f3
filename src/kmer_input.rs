//! What another run counted, as a further input of a network's last layer.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use crate::{
    checkpoint::{Checkpoint, Header},
    engine::Net,
    plan::Settings,
    resume::checkpoint_of,
};

/// Settings that name such a run, with what it counted.
pub fn resolved(mut typed: Settings) -> Result<Settings> {
    let Some(run) = &typed.kmer_input else {
        return Ok(typed);
    };
    ensure!(
        typed.kmer.is_none() && typed.markov_order.is_none() && typed.kmer_gamma.is_none(),
        "--kmer, --kmer-gamma and --markov-order are those of the run that --kmer-input names"
    );
    let counted = Checkpoint::read(&checkpoint_of(run))?.header;
    ensure!(
        counted.arch.paper().recipe.counts.is_some(),
        "{}: a run of {}; --kmer-input names one of kmer or markov",
        run.display(),
        counted.arch
    );
    // Resumed from another folder, a relative path would lead elsewhere.
    let run: Result<PathBuf> = run
        .canonicalize()
        .with_context(|| run.display().to_string());
    typed.kmer_input = Some(run?);
    let plan = counted.plan;
    (typed.kmer, typed.markov_order, typed.kmer_gamma) =
        (plan.kmer, plan.markov_order, plan.kmer_gamma);
    Ok(typed)
}

/// Fills the table of a network that is to be trained as `header` says; returns what the user should know.
pub fn load(run: &Path, header: &Header, net: &mut Net) -> Result<Option<String>> {
    let checkpoint = Checkpoint::read(&checkpoint_of(run))?;
    let counted = &checkpoint.header;
    ensure!(
        (&counted.targets, counted.io.classes) == (&header.targets, header.io.classes),
        "{}: counted {:?}, and the data has {:?}",
        run.display(),
        counted.targets,
        header.targets
    );
    if let Some(counter) = net.engine.counter_mut() {
        checkpoint.restore_counts(counter)?;
    }
    let own = counted.data_recipe == header.data_recipe;
    Ok(own.then(|| {
        format!(
            "note: {} counted these training windows themselves, so the network trusts the counts more than they deserve",
            run.display()
        )
    }))
}
