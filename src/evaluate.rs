//! Metrics of the pooled data: batches in file order are dealt to the ranks, and their counts are summed.

mod bins;
mod written;

use std::sync::Arc;

use anyhow::{Result, ensure};
use tfbind_prep::schema::Task;

pub use bins::{BinLabel, BinScore, Bins};
pub use written::{
    BOTH_STRANDS, METRICS, name_of_data, name_of_source, name_of_split, name_of_strands,
};

use crate::{
    apply::Applied,
    baseline,
    cli::EvaluateArgs,
    comm::Comm,
    data::{Draw, Rows, Windows},
    engine::Engine,
    loader::Loader,
    metrics::{Metrics, Shape, Tally, Targets, add_over_targets},
};

/// Batches of `batch` windows in file order, those of this rank, read ahead; a window belongs to exactly one.
pub fn batches_of_rank(
    comm: &dyn Comm,
    windows: &Arc<Windows>,
    draws: &[Draw],
    batch: usize,
) -> Result<impl Iterator<Item = Result<Rows>> + use<>> {
    let own = draws.chunks(batch).skip(comm.rank()).step_by(comm.size());
    let own: Vec<_> = own.map(<[Draw]>::to_vec).collect();
    let count = own.len();
    let mut loader = Loader::start(windows.clone(), own.into_iter())?;
    Ok((0..count).map(move |_| loader.next_rows()))
}

/// The tally of all windows; where a label is of a hidden base also those outside and inside of repeats, as a base is
/// easier to guess there.
pub struct Tallies {
    all: Tally,
    parts: Option<[Tally; 2]>,
    shape: Shape,
}

impl Tallies {
    pub fn new(windows: &Windows, bins: Option<Bins>) -> Self {
        let shape = Shape::of(windows.io(), bins.map(|bins| bins.size));
        let is_hidden = matches!(windows.header.task, Task::Central(_));
        Self {
            all: Tally::new(shape),
            parts: is_hidden.then(|| [Tally::new(shape), Tally::new(shape)]),
            shape,
        }
    }

    pub fn add(&mut self, logits: &[f32], rows: &Rows, bins: Option<Bins>) {
        if let Some(bins) = bins {
            let (logits, labels) = bins.apply(logits, &rows.label);
            return self.all.add(&logits, &labels);
        }
        self.all.add(logits, &rows.label);
        for (which, part) in self.parts.iter_mut().flatten().enumerate() {
            let mut labels = rows.label.clone();
            for (labels, &repeat) in labels.chunks_mut(self.shape.row()).zip(&rows.repeat) {
                if usize::from(repeat) != which {
                    labels.fill(-1);
                }
            }
            part.add(logits, &labels);
        }
    }

    /// Becomes that of all ranks' windows.
    pub fn sum_over(&mut self, comm: &dyn Comm) {
        self.all.sum_over(comm);
        for part in self.parts.iter_mut().flatten() {
            part.sum_over(comm);
        }
    }

    /// Of all labels together; then over targets where there are several, and outside and inside of repeats.
    pub fn metrics(&self) -> Metrics {
        let mut metrics = self.all.metrics();
        if self.shape.targets > 1 {
            add_over_targets(&mut metrics, &self.all.by_target());
        }
        if let Some(parts) = &self.parts {
            let [outside, inside] = parts.each_ref().map(Tally::metrics);
            let labels = |of: &Metrics| of.labels.iter().sum::<u64>() as f64;
            let all = labels(&outside) + labels(&inside);
            let share = (all > 0.0).then(|| labels(&inside) / all);
            for (name, value) in [
                ("accuracy_non_repeat", outside.value("accuracy")),
                ("accuracy_repeat", inside.value("accuracy")),
                ("loss_non_repeat", outside.value("loss")),
                ("loss_repeat", inside.value("loss")),
                ("repeat_share", share),
            ] {
                metrics.push(name, value);
            }
        }
        metrics
    }
}

/// The tally of this rank's part of a split, cut short when `stop` says so.
pub fn count(
    comm: &dyn Comm,
    engine: &mut dyn Engine,
    windows: &Arc<Windows>,
    batch: usize,
    bins: Option<Bins>,
    stop: impl Fn() -> bool,
) -> Result<Tallies> {
    let draws: Vec<Draw> = (0..windows.num_rows() as u32).map(Draw::from).collect();
    let mut tallies = Tallies::new(windows, bins);
    for rows in batches_of_rank(comm, windows, &draws, batch)?.take_while(|_| !stop()) {
        let rows = rows?;
        let logits = engine.logits(&rows)?;
        tallies.add(&logits, &rows, bins);
    }
    Ok(tallies)
}

/// How many targets have both positive and negative labels.
pub fn num_defined_targets(comm: &dyn Comm, windows: &Windows) -> Result<usize> {
    let (targets, places) = (windows.header.targets.len(), windows.header.label_len());
    let mut counts = vec![0u64; 2 * targets];
    for row in (comm.rank()..windows.num_rows()).step_by(comm.size()) {
        let rows = windows.read(&[Draw::from(row as u32)])?;
        for (of, labels) in counts
            .as_chunks_mut::<2>()
            .0
            .iter_mut()
            .zip(rows.label.chunks(places))
        {
            for label in labels.iter().filter(|label| **label >= 0) {
                of[usize::from(*label > 0)] += 1;
            }
        }
    }
    comm.sum_u64(&mut counts);
    let targets = counts.as_chunks::<2>().0.iter();
    Ok(targets.filter(|of| of[0] > 0 && of[1] > 0).count())
}

pub fn evaluate(comm: &dyn Comm, args: EvaluateArgs) -> Result<()> {
    let mut applied = Applied::open(comm, &args.apply, false)?;
    let windows = applied.windows.clone();
    let bins = args.bin.map(|size| Bins {
        size,
        score: args.bin_score,
        label: args.bin_label,
    });
    let wants_baselines = args.baselines || args.motif.is_some();
    ensure!(
        windows.io().classes == 1 || (bins.is_none() && !wants_baselines),
        "--bin, --baselines and --motif are for labels of 0 and 1; {} holds classes",
        applied.data.display()
    );
    if let Some(bins) = bins {
        ensure!(
            bins.size > 0 && windows.header.label_len() % bins.size == 0,
            "--bin {} does not divide the windows of {} labels",
            bins.size,
            windows.header.label_len()
        );
    }
    comm.note("the metrics", applied.header.progress.step);
    let engine = applied.net.engine.as_mut();
    let mut tallies = count(comm, engine, &windows, args.apply.eval_batch, bins, || {
        false
    })?;
    tallies.sum_over(comm);
    let baselines = match wants_baselines {
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
    let (targets, groups) = (&windows.header.targets, &windows.header.groups);
    let targets = Targets::new(targets, groups, tallies.all.by_target());
    written::write(&args, &applied, &tallies, &targets, baselines)
}
