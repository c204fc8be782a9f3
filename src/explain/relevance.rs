//! The relevance of every base and signal of a window for one output.

use anyhow::{Result, ensure};
use half::f16;
use tch::{Device, Kind, Tensor};
use tfbind_prep::schema::{Locus, N, PredictionHeader, PredictionWriter, Task as Labels};

use super::{Task, profile::Profile};
use crate::{comm::Comm, data::Rows, engine::Engine, model::Io, predict::in_file_order};

/// The number of each window that is explained, of its logits [B, T K, M]: the logit of the target; for a target of
/// classes the log-probability of the true class; for a target with a logit a base their sum, each weighed by the
/// probability there, as the few places where something binds are what is asked about (Avsec et al. 2021 weigh so).
struct Score {
    io: Io,
    target: i64,
    /// [B, T, M]
    labels: Tensor,
    /// [B, 1, M], where every base has a logit.
    weights: Option<Tensor>,
}

impl Score {
    fn new(engine: &mut dyn Engine, rows: &Rows, io: Io, target: usize) -> Result<Self> {
        let target = target as i64;
        let mut weights = None;
        if io.per_base {
            let logits = Tensor::from_slice(&engine.logits(rows)?);
            let logits = logits.view([rows.len() as i64, io.outputs(), -1]);
            weights = Some(logits.narrow(1, target, 1).sigmoid());
        }
        Ok(Self {
            io,
            target,
            labels: rows.labels(io, Device::Cpu),
            weights,
        })
    }

    fn of(&self, logits: &Tensor) -> Tensor {
        let classes = self.io.classes;
        let own = logits.narrow(1, self.target * classes, classes);
        if classes > 1 {
            let truth = self.labels.narrow(1, self.target, 1).clamp_min(0);
            let truth = truth.to_kind(Kind::Int64).to_device(own.device());
            return own.log_softmax(1, own.kind()).gather(1, &truth, false);
        }
        match &self.weights {
            Some(weights) => own * weights.to_device(logits.device()).to_kind(logits.kind()),
            None => own,
        }
    }
}

/// How relevance is found.
#[derive(Clone, Copy, Debug)]
pub enum How {
    Gradient,
    /// Averaged over so many steps.
    Integrated(usize),
    Occlusion,
}

/// Of each window [B, 1 + S, L]: the bases' relevance and each signal's.
fn relevance(
    engine: &mut dyn Engine,
    rows: &Rows,
    io: Io,
    target: usize,
    how: How,
) -> Result<Tensor> {
    let score = Score::new(engine, rows, io, target)?;
    let x = rows.input(io, Device::Cpu);
    let of = |logits: &Tensor| score.of(logits);
    let gradient = match how {
        How::Occlusion => return occlusion(engine, rows, &score),
        How::Gradient => engine.input_gradient(&x, &of)?,
        How::Integrated(steps) => {
            let mut sum = x.zeros_like();
            for step in 0..steps {
                // The middle of each part of the way from all N and no signal.
                let share = (step as f64 + 0.5) / steps as f64;
                sum += engine.input_gradient(&(&x * share), &of)?;
            }
            sum / steps as f64
        }
    };
    let product = gradient * x;
    let bases = product
        .narrow(1, 0, 4)
        .sum_dim_intlist(1, true, Kind::Float);
    Ok(Tensor::cat(
        &[bases, product.narrow(1, 4, io.channels - 4)],
        1,
    ))
}

/// What each window's score loses when a base becomes N, or a signal nothing: a pass over the windows for each number.
fn occlusion(engine: &mut dyn Engine, rows: &Rows, score: &Score) -> Result<Tensor> {
    let (windows, io) = (rows.len(), score.io);
    let length = io.length as usize;
    let tracks = io.channels as usize - 4;
    // [B]
    let mut scores = |rows: &Rows| -> Result<Tensor> {
        let logits = Tensor::from_slice(&engine.logits(rows)?);
        let logits = logits.view([windows as i64, io.outputs(), -1]);
        Ok(score
            .of(&logits)
            .flatten(1, -1)
            .sum_dim_intlist(1, false, Kind::Double))
    };
    let whole = scores(rows)?;
    let mut losses = Vec::with_capacity((1 + tracks) * length);
    let mut without = rows.clone();
    for at in 0..length {
        (0..windows).for_each(|window| without.seq[window * length + at] = N);
        losses.push(&whole - scores(&without)?);
        (0..windows).for_each(|window| {
            let i = window * length + at;
            without.seq[i] = rows.seq[i];
        });
    }
    for place in 0..tracks * length {
        (0..windows)
            .for_each(|window| without.signal[window * tracks * length + place] = f16::ZERO);
        losses.push(&whole - scores(&without)?);
        (0..windows).for_each(|window| {
            let i = window * tracks * length + place;
            without.signal[i] = rows.signal[i];
        });
    }
    let losses = Tensor::stack(&losses, 1).to_kind(Kind::Float);
    Ok(losses.view([windows as i64, 1 + tracks as i64, length as i64]))
}

pub fn write(comm: &dyn Comm, task: Task, how: How) -> Result<()> {
    let (windows, header) = (&task.applied.windows, &task.applied.header);
    let of = &windows.header;
    let io = windows.io();
    let loci = task.draws.iter().map(|draw| windows.locus(draw.row));
    let loci: Vec<Locus> = loci.collect::<Result<_>>()?;
    let mut parts = vec!["sequence".to_string()];
    parts.extend(of.tracks.iter().cloned());
    let mut profile = Profile::new(&parts, of.length);
    let out = task.path(".h5");
    let mut writer = None;
    if comm.rank() == 0 {
        let shape = PredictionHeader {
            task: Labels::PerBase,
            length: of.length,
            bin: None,
            margin: 0,
            genome: of.genome.clone(),
            contigs: of.contigs.clone(),
            targets: parts.clone(),
            model: format!(
                "relevance for {}, {} {} step {}",
                of.targets[task.target],
                header.arch,
                task.applied.checkpoint.display(),
                header.progress.step
            ),
        };
        let mut created = PredictionWriter::create(&out, &shape, loci.len())?;
        created.write_loci(&loci)?;
        writer = Some(created);
    }
    let (row_len, mut written) = (parts.len() * of.length, 0);
    let mut engine = task.applied.net.engine;
    let explain = |rows: &Rows| {
        let found = relevance(engine.as_mut(), rows, io, task.target, how)?;
        Ok(Vec::try_from(found.to_kind(Kind::Float).flatten(0, -1))?)
    };
    in_file_order(comm, windows, &task.draws, task.batch, explain, |batch| {
        if let Some(writer) = &mut writer {
            ensure!(
                batch.iter().all(|value| value.is_finite()),
                "the relevance of window {written} or one after it is not finite"
            );
            profile.add(&batch);
            writer.write_rows(written, &batch)?;
            written += batch.len() / row_len;
        }
        Ok(())
    })?;
    let Some(writer) = writer else {
        return Ok(());
    };
    writer.finish()?;
    let stem = &task.stem;
    profile.write(stem, &of.targets[task.target])?;
    println!(
        "{written} windows explained, base by base: {}",
        out.display()
    );
    println!(
        "as a track: tfbind-prep export {} --target sequence --bigwig FILE",
        out.display()
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        data::Draw,
        engine::{Build, EngineChoice},
        model::{Arch, Options},
    };

    /// What [`Score`] adds up to over a window.
    fn total(engine: &mut dyn Engine, score: &Score, rows: &Rows) -> f64 {
        let logits = Tensor::from_slice(&engine.logits(rows).unwrap());
        let logits = logits.view([rows.len() as i64, score.io.outputs(), -1]);
        score.of(&logits).sum(Kind::Double).double_value(&[])
    }

    #[test]
    fn integrated_gradients_add_up_to_what_the_window_gains() {
        for arch in [Arch::Unet, Arch::Tal1] {
            let io = Io {
                length: 64,
                channels: 4,
                targets: 2,
                ..arch.paper().io
            };
            let build = Build {
                arch,
                options: Options::default(),
                io,
                device: Device::Cpu,
                engine: EngineChoice::Libtorch,
                kind: Kind::Float,
                seed: 4,
                prior: None,
            };
            let mut net = build.net().unwrap();
            let engine = net.engine.as_mut();
            let labels = if io.per_base { 2 * io.length } else { 2 };
            let rows = |base: &dyn Fn(i64) -> i64| Rows {
                draws: vec![Draw::from(0)],
                seq: (0..io.length).map(|at| base(at) as u8).collect(),
                label: vec![0; labels as usize],
                ..Rows::default()
            };
            let (window, nothing) = (rows(&|at| at * at % 7 % 4), rows(&|_| 4));
            let score = Score::new(engine, &window, io, 1).unwrap();
            let gain = total(engine, &score, &window) - total(engine, &score, &nothing);
            let found = relevance(engine, &window, io, 1, How::Integrated(400)).unwrap();
            let sum = found.sum(Kind::Double).double_value(&[]);
            let off = (sum - gain).abs();
            assert!(
                gain.abs() > 1e-3 && off < 0.02 * gain.abs(),
                "{arch}: {sum} {gain}"
            );
            let hidden = relevance(engine, &window, io, 1, How::Occlusion).unwrap();
            let mut without = window.clone();
            without.seq[20] = N;
            let lost = total(engine, &score, &window) - total(engine, &score, &without);
            let own = hidden.double_value(&[0, 0, 20]);
            assert!(
                lost != 0.0 && (own - lost).abs() < 1e-4 * lost.abs(),
                "{arch}: {own} {lost}"
            );
        }
    }
}
