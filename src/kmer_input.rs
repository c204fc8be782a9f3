//! What another run counted, as a further input of a network's last layer.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use crate::{
    checkpoint::{Checkpoint, Header},
    counts::{Neighbours, Reading},
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
    whole(run, &counted)?;
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

/// A run that was cut has counted a part.
fn whole(run: &Path, counted: &Header) -> Result<()> {
    let run = run.display();
    ensure!(
        counted.progress.epoch > 0,
        "{run}: only a part of its windows is counted; train --run {run} --resume first"
    );
    Ok(())
}

/// As it is typed.
fn words(reading: Option<Reading>) -> String {
    match reading {
        None => "nothing".into(),
        Some(Reading { neighbours, gamma }) => match neighbours {
            Neighbours::Around(bases) => format!("--kmer {bases}, --kmer-gamma {gamma}"),
            Neighbours::Before(bases) => format!("--markov-order {bases}, --kmer-gamma {gamma}"),
        },
    }
}

/// Fills the table of a network that is to be trained as `header` says; returns what the user should know.
pub fn load(run: &Path, header: &Header, net: &mut Net) -> Result<Option<String>> {
    let checkpoint = Checkpoint::read(&checkpoint_of(run))?;
    let counted = &checkpoint.header;
    whole(run, counted)?;
    let found = counted.plan.reading(counted.arch)?;
    let planned = header.plan.reading(header.arch)?;
    let shown = run.display();
    ensure!(
        found == planned,
        "{shown}: counts {}, and the plan reads {}; type --kmer-input {shown} to take what it counts now",
        words(found),
        words(planned)
    );
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
