//! What a model's output rests on: relevance base by base, which `tfbind-prep export` turns into a bigWig, by gradients
//! or, for models without any, by hiding bases; and what is lost when the flanks of a window are destroyed.

mod flanks;
mod profile;
mod relevance;

use std::{fs, path::PathBuf};

use anyhow::{Context, Result, bail, ensure};
use clap::ValueEnum;

use crate::{
    apply::Applied, cli::ExplainArgs, comm::Comm, data::Draw, engine::EngineChoice,
    evaluate::name_of_strands, plan::word,
};
use relevance::How;

/// Of integrated gradients, unless others are typed.
const STEPS: usize = 32;

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Method {
    /// Gradient times input: what a small change of each base and signal would do
    GradientInput,
    /// The same, averaged on the way from a window of N without signal: adds up to what the window gains over that
    /// (Sundararajan et al. 2017, arXiv:1703.01365)
    IntegratedGradients,
    /// What is lost when one base becomes N, or one value of a signal nothing: for any model, with a pass over the windows
    /// for each base
    Occlusion,
    /// The metrics when the bases beyond --keep are shuffled
    FlankShuffle,
    /// The same when they are drawn anew, each base as likely
    FlankRandom,
}

impl Method {
    fn of_gradients(self) -> bool {
        matches!(self, Self::GradientInput | Self::IntegratedGradients)
    }
}

/// What every method begins with.
struct Task {
    applied: Applied,
    draws: Vec<Draw>,
    /// Number of the target explained.
    target: usize,
    batch: usize,
    /// Files begin with this.
    stem: PathBuf,
}

pub fn explain(comm: &dyn Comm, args: ExplainArgs) -> Result<()> {
    check_options(&args, args.method.unwrap_or(Method::IntegratedGradients))?;
    let gradients = args.method.is_none_or(Method::of_gradients);
    let applied = Applied::open(comm, &args.apply, gradients)?;
    ensure!(
        !applied.counted_them,
        "{}: explain changes windows, and these were counted as they are: another --split",
        applied.data.display()
    );
    let method = settle(comm, &args, &applied)?;
    check_options(&args, method)?;
    let (rows, targets) = (applied.windows.num_rows(), &applied.windows.header.targets);
    let wanted = args.windows.unwrap_or(rows);
    ensure!(
        (1..=rows).contains(&wanted),
        "--windows {wanted}: 1 to {rows}, which the split holds"
    );
    let target = match (&args.target, targets.as_slice()) {
        (None, [_]) => 0,
        (None, several) => bail!("--target: which of {}", several.join(", ")),
        (Some(name), all) => {
            let found = all.iter().position(|target| target == name);
            found.with_context(|| format!("--target {name}: the data has {}", all.join(", ")))?
        }
    };
    let draws = (0..wanted).map(|i| Draw::from((i * rows / wanted) as u32));
    let beside = applied.checkpoint.parent().map(PathBuf::from);
    let folder = args.out.clone().or(beside).unwrap_or_default();
    if comm.rank() == 0 {
        fs::create_dir_all(&folder).with_context(|| format!("creating {}", folder.display()))?;
    }
    let mut name = format!("{}_{}", word(method), args.apply.split);
    if targets.len() > 1 {
        name += &format!("_{}", in_a_file_name(targets, target));
    }
    name += name_of_strands(args.apply.both_strands);
    let stem = folder.join(name);
    let task = Task {
        draws: draws.collect(),
        target,
        batch: args.apply.eval_batch,
        stem,
        applied,
    };
    match method {
        Method::GradientInput => relevance::write(comm, task, How::Gradient),
        Method::IntegratedGradients => {
            relevance::write(comm, task, How::Integrated(args.steps.unwrap_or(STEPS)))
        }
        Method::Occlusion => relevance::write(comm, task, How::Occlusion),
        Method::FlankShuffle | Method::FlankRandom => {
            let seed = args.seed.unwrap_or(1);
            flanks::write(comm, task, method, args.keep.as_deref(), seed)
        }
    }
}

/// The method that was typed, or one that the model can be explained by.
fn settle(comm: &dyn Comm, args: &ExplainArgs, applied: &Applied) -> Result<Method> {
    let header = &applied.header;
    let without = if header.arch.paper().recipe.counts.is_some() {
        Some("a table of counts")
    } else if header.plan.kmer_input.is_some() {
        Some("a model that reads counts (--kmer-input)")
    } else if args.apply.both_strands {
        Some("a mean of both strands (--both-strands)")
    } else if args.apply.engine == EngineChoice::Native {
        Some("the native engine (--engine native)")
    } else {
        None
    };
    match (args.method, without) {
        (Some(method), Some(what)) if method.of_gradients() => bail!(
            "--method {}: {what} has no gradient of its input; --method occlusion needs none",
            word(method)
        ),
        (Some(method), _) => Ok(method),
        (None, None) => Ok(Method::IntegratedGradients),
        (None, Some(what)) => {
            if comm.rank() == 0 {
                println!("method occlusion: {what} has no gradient of its input");
            }
            Ok(Method::Occlusion)
        }
    }
}

/// What only some methods have is an error with the others.
fn check_options(args: &ExplainArgs, method: Method) -> Result<()> {
    ensure!(
        args.steps.is_none() || method == Method::IntegratedGradients,
        "--steps belongs to --method integrated-gradients, not to {}",
        word(method)
    );
    ensure!(args.steps != Some(0), "--steps must be at least 1");
    ensure!(
        (args.keep.is_none() && args.seed.is_none())
            || matches!(method, Method::FlankShuffle | Method::FlankRandom),
        "--keep and --seed belong to --method flank-shuffle and flank-random, not to {}",
        word(method)
    );
    Ok(())
}

/// The name of a target, with its number where letters had to go.
fn in_a_file_name(targets: &[String], target: usize) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.+".contains(c);
    let name = &targets[target];
    let shown: String = name
        .chars()
        .map(|c| if plain(c) { c } else { '_' })
        .collect();
    match shown == *name {
        true => shown,
        false => format!("{shown}_{}", target + 1),
    }
}

impl Task {
    fn path(&self, ending: &str) -> PathBuf {
        let mut path = self.stem.clone().into_os_string();
        path.push(ending);
        path.into()
    }
}
