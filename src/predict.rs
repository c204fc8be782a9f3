//! Scores of every base with their locus. Ranks take batches in turn, rank 0 writes them in file order: the file is
//! the same for any number of ranks.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Result, bail, ensure};
use tfbind_prep::schema::{Locus, PredictionHeader, PredictionWriter, Task};

use crate::{
    apply::Applied,
    cli::PredictArgs,
    comm::{Comm, gather_f32},
    data::{Draw, Rows, Windows},
    evaluate::{batches_of_rank, name_of_source, name_of_strands},
    metrics::{class_name, sigmoid, softmax},
};

/// On one thread a convolution adds in the same order whatever runs beside it; on several it may not.
const THREADS: usize = 1;

/// In the name of a model, before its step.
const STEP: &str = " step ";

pub fn predict(comm: &dyn Comm, mut args: PredictArgs) -> Result<()> {
    args.apply.threads.get_or_insert(THREADS);
    let applied = Applied::open(comm, &args.apply, false)?;
    let of_source = name_of_source(&applied);
    let Applied {
        checkpoint,
        header,
        data,
        windows,
        mut net,
        ..
    } = applied;
    let (draws, loci) = plan_rows(&windows, args.half_window)?;
    let (of, classes) = (&windows.header, windows.io().classes as usize);
    let out = args.out.clone().unwrap_or_else(|| {
        let name = file_name(&args.apply.split, args.apply.both_strands, &of_source);
        checkpoint.with_file_name(name)
    });
    let inputs = [Some(&checkpoint), Some(&data), header.plan.data.as_ref()];
    refuse_inputs(&out, inputs.into_iter().flatten())?;
    let mut writer = None;
    if comm.rank() == 0 {
        let shape = PredictionHeader {
            task: of.task,
            length: of.length,
            bin: windows.bin,
            margin: 0,
            genome: of.genome.clone(),
            contigs: of.contigs.clone(),
            targets: columns(&of.targets, classes),
            model: format!(
                "{} {}{STEP}{}",
                header.arch.name(),
                checkpoint.display(),
                header.progress.step
            ),
        };
        let mut created = PredictionWriter::create(&out, &shape, draws.len())?;
        created.write_loci(&loci)?;
        writer = Some(created);
    }
    let row_len = of.targets.len() * classes * of.label_len();
    let mut written = 0;
    let predict = |rows: &Rows| {
        let mut numbers = net.engine.logits(rows)?;
        match classes {
            1 => numbers
                .iter_mut()
                .for_each(|number| *number = sigmoid(*number)),
            _ => softmax(&mut numbers, classes, of.label_len()),
        }
        Ok(numbers)
    };
    let batch = args.apply.eval_batch;
    in_file_order(comm, &windows, &draws, batch, predict, |batch| {
        if let Some(writer) = &mut writer {
            writer.write_rows(written, &batch)?;
            written += batch.len() / row_len;
        }
        Ok(())
    })?;
    if let Some(writer) = writer {
        ensure!(
            written == draws.len(),
            "predicted {written} windows of {}",
            draws.len()
        );
        writer.finish()?;
        println!("{written} windows predicted, written to {}", out.display());
    }
    Ok(())
}

/// Predictions would take the place of what they are made from.
fn refuse_inputs<'a>(out: &Path, mut inputs: impl Iterator<Item = &'a PathBuf>) -> Result<()> {
    // What is not there yet has no canonical path.
    let of_out = out.canonicalize().ok();
    let is_out = |input: &&PathBuf| of_out.is_some() && input.canonicalize().ok() == of_out;
    match inputs.find(is_out) {
        Some(input) => bail!(
            "--out {}: this is {}, which predictions are made from: name another file",
            out.display(),
            input.display()
        ),
        None => Ok(()),
    }
}

/// In a run folder; what is predicted otherwise, or of another model or data, does not overwrite the plain predictions.
pub fn file_name(split: &str, both_strands: bool, of_source: &str) -> String {
    let strands = name_of_strands(both_strands);
    format!("predictions_{split}{strands}{of_source}.h5")
}

/// The step of the model that a file of predictions names.
pub fn step_of(model: &str) -> Option<u64> {
    let (_, step) = model.rsplit_once(STEP)?;
    step.parse().ok()
}

/// A probability for each target, or for each of its classes.
fn columns(targets: &[String], classes: usize) -> Vec<String> {
    let names = |target: &String| match classes {
        1 => vec![target.clone()],
        _ => (0..classes)
            .map(|class| format!("{target} {}", class_name(class, classes)))
            .collect(),
    };
    targets.iter().flat_map(names).collect()
}

/// What `compute` makes of each batch of windows: the ranks take batches in turn, rank 0 gets theirs in file order, the
/// others nothing.
pub fn in_file_order(
    comm: &dyn Comm,
    windows: &Arc<Windows>,
    draws: &[Draw],
    batch: usize,
    mut compute: impl FnMut(&Rows) -> Result<Vec<f32>>,
    mut take: impl FnMut(Vec<f32>) -> Result<()>,
) -> Result<()> {
    let mut own = batches_of_rank(comm, windows, draws, batch)?;
    let rounds = draws.len().div_ceil(batch).div_ceil(comm.size());
    for _ in 0..rounds {
        let numbers = match own.next() {
            Some(rows) => compute(&rows?)?,
            None => Vec::new(),
        };
        for batch in gather_f32(comm, &numbers) {
            take(batch)?;
        }
    }
    Ok(())
}

/// The windows to predict, in file order. With `half_window`, between two windows that touch on a contig comes the one
/// that joins their halves, so that every base is seen away from an edge; `tfbind-prep export` averages them.
fn plan_rows(windows: &Windows, half_window: bool) -> Result<(Vec<Draw>, Vec<Locus>)> {
    let (length, loci) = (windows.header.length as i64, windows.loci()?);
    ensure!(
        !half_window || (windows.header.task == Task::PerBase && length % 2 == 0),
        "--half-window needs a label for every base and an even window length"
    );
    let (mut draws, mut places) = (Vec::new(), Vec::new());
    for (row, &locus) in loci.iter().enumerate() {
        draws.push(Draw::from(row as u32));
        places.push(locus);
        let next = Locus {
            start: locus.start + length,
            ..locus
        };
        if half_window && locus.strand > 0 && loci.get(row + 1) == Some(&next) {
            draws.push(Draw {
                between: true,
                ..Draw::from(row as u32)
            });
            places.push(Locus {
                start: locus.start + length / 2,
                ..locus
            });
        }
    }
    ensure!(
        !half_window || draws.len() > loci.len() || loci.len() == 1,
        "--half-window: no two windows of this split touch; prepare it with a --stride of the window length"
    );
    Ok((draws, places))
}
