//! Scores that need no training, on the same windows and by the same tally: the signal alone, the motif alone, and
//! their sum after both are standardised. A trained model has to beat them.

use std::{path::Path, sync::Arc};

use anyhow::{Context, Result};

use crate::{
    comm::{Comm, gather_f32},
    data::{Draw, Rows, Windows},
    evaluate::{BinScore, Bins, batches_of_rank},
    metrics::{Metrics, Shape, Tally},
    model::Io,
    motif::Motif,
};

const BATCH: usize = 64;

pub fn tallies(
    comm: &dyn Comm,
    windows: &Arc<Windows>,
    motif: Option<&Path>,
    reach: usize,
    bins: Option<Bins>,
) -> Result<Vec<(String, Metrics)>> {
    let motif = motif.map(|path| Motif::read(path).context("--motif"));
    let motif = motif.transpose()?;
    let scores = Scores {
        motif,
        reach,
        length: windows.header.length,
        tracks: windows.header.tracks.len(),
    };
    let mut names: Vec<String> = windows
        .header
        .tracks
        .iter()
        .map(|track| format!("{track} alone"))
        .collect();
    if let Some(motif) = &scores.motif {
        names.push(format!("{} motif alone", motif.name));
        if scores.tracks > 0 {
            names.push("motif + signal".into());
        }
    }

    // Standardise every score, then map it to (0, 1) between its extremes, which changes no ranking.
    let singles = scores.tracks + usize::from(scores.motif.is_some());
    let mut moments = vec![[0.0f64; 3]; singles];
    pass(comm, windows, |rows| {
        for (moment, values) in moments.iter_mut().zip(scores.singles(rows)) {
            for value in values.into_iter().map(f64::from) {
                *moment = [
                    moment[0] + 1.0,
                    moment[1] + value,
                    moment[2] + value * value,
                ];
            }
        }
    })?;
    comm.sum_f64(moments.as_flattened_mut());
    let scale: Vec<(f32, f32)> = moments
        .iter()
        .map(|[n, sum, squares]| {
            let mean = sum / n;
            (
                mean as f32,
                (squares / n - mean * mean).max(1e-12).sqrt() as f32,
            )
        })
        .collect();
    let mut extremes = vec![(f32::INFINITY, f32::NEG_INFINITY); names.len()];
    pass(comm, windows, |rows| {
        for (extreme, values) in extremes.iter_mut().zip(scores.all(rows, &scale)) {
            *extreme = values
                .iter()
                .fold(*extreme, |(low, high), &v| (low.min(v), high.max(v)));
        }
    })?;
    share_extremes(comm, &mut extremes);

    let io = windows.io();
    let shape = Shape::of(io, bins.map(|bins| bins.size));
    let mut tallies = vec![Tally::new(shape); names.len()];
    pass(comm, windows, |rows| {
        for ((tally, (low, high)), values) in tallies
            .iter_mut()
            .zip(&extremes)
            .zip(scores.all(rows, &scale))
        {
            let logit = |value: f32| {
                let p = if high > low {
                    (value - low) / (high - low)
                } else {
                    0.5
                };
                let p = p.clamp(1e-6, 1.0 - 1e-6);
                (p / (1.0 - p)).ln()
            };
            let logits = of_every_target(values.into_iter().map(logit).collect(), io);
            let labels = &rows.label[..];
            match bins {
                None => tally.add(&logits, labels),
                Some(bins) => {
                    let bins = Bins {
                        score: BinScore::Max,
                        ..bins
                    };
                    let (logits, labels) = bins.apply(&logits, labels);
                    tally.add(&logits, &labels);
                }
            }
        }
    })?;
    tallies.iter_mut().for_each(|tally| tally.sum_over(comm));
    Ok(names
        .into_iter()
        .zip(tallies.iter().map(Tally::metrics))
        .collect())
}

/// From a score for every base [B, L] those of the labels [B, T, M]: every target has the same, and a window that of
/// its best base.
fn of_every_target(scores: Vec<f32>, io: Io) -> Vec<f32> {
    if io.per_base && io.targets == 1 {
        return scores;
    }
    let of_window = |scores: &[f32]| {
        let scores = match io.per_base {
            true => scores.to_vec(),
            false => vec![scores.iter().copied().fold(f32::NEG_INFINITY, f32::max)],
        };
        scores.repeat(io.targets as usize)
    };
    let windows = scores.chunks_exact(io.length as usize);
    windows.flat_map(of_window).collect()
}

fn pass(comm: &dyn Comm, windows: &Arc<Windows>, mut each: impl FnMut(&Rows)) -> Result<()> {
    let draws: Vec<Draw> = (0..windows.num_rows() as u32).map(Draw::from).collect();
    batches_of_rank(comm, windows, &draws, BATCH)?.try_for_each(|rows| {
        each(&rows?);
        Ok(())
    })
}

fn share_extremes(comm: &dyn Comm, extremes: &mut [(f32, f32)]) {
    let own: Vec<f32> = extremes
        .iter()
        .flat_map(|&(low, high)| [low, high])
        .collect();
    let mut bytes = vec![0u8; own.len() * 4];
    let all = gather_f32(comm, &own);
    for (i, word) in bytes.chunks_exact_mut(4).enumerate() {
        let of = all.iter().map(|ranks| ranks[i]);
        let value = if i % 2 == 0 {
            of.fold(f32::INFINITY, f32::min)
        } else {
            of.fold(f32::NEG_INFINITY, f32::max)
        };
        word.copy_from_slice(&value.to_ne_bytes());
    }
    comm.broadcast(&mut bytes);
    let values: Vec<f32> = bytes
        .as_chunks::<4>()
        .0
        .iter()
        .map(|word| f32::from_ne_bytes(*word))
        .collect();
    for (extreme, pair) in extremes.iter_mut().zip(values.chunks_exact(2)) {
        *extreme = (pair[0], pair[1]);
    }
}

struct Scores {
    motif: Option<Motif>,
    /// A base takes the best motif hit whose centre lies within so many bases.
    reach: usize,
    length: usize,
    tracks: usize,
}

impl Scores {
    /// The tracks, then the motif: one value for every base of every window.
    fn singles(&self, rows: &Rows) -> Vec<Vec<f32>> {
        let mut all: Vec<Vec<f32>> = (0..self.tracks)
            .map(|track| {
                let of_window = |window: &[half::f16]| {
                    window[track * self.length..][..self.length]
                        .iter()
                        .map(|value| value.to_f32())
                        .collect::<Vec<_>>()
                };
                rows.signal
                    .chunks_exact(self.tracks * self.length)
                    .flat_map(of_window)
                    .collect()
            })
            .collect();
        if let Some(motif) = &self.motif {
            all.push(
                rows.seq
                    .chunks_exact(self.length)
                    .flat_map(|seq| self.best_hits(motif, seq))
                    .collect(),
            );
        }
        all
    }

    fn all(&self, rows: &Rows, scale: &[(f32, f32)]) -> Vec<Vec<f32>> {
        let mut all = self.singles(rows);
        for (values, (mean, deviation)) in all.iter_mut().zip(scale) {
            values
                .iter_mut()
                .for_each(|value| *value = (*value - mean) / deviation);
        }
        if self.motif.is_some() && self.tracks > 0 {
            all.push(
                (0..all[0].len())
                    .map(|i| all.iter().map(|values| values[i]).sum())
                    .collect(),
            );
        }
        all
    }

    fn best_hits(&self, motif: &Motif, seq: &[u8]) -> Vec<f32> {
        let mut best = vec![motif.lowest_score(); seq.len()];
        for (start, site) in seq.windows(motif.width()).enumerate() {
            let score = motif.score(site);
            let centre = start + motif.width() / 2;
            for value in &mut best
                [centre.saturating_sub(self.reach)..(centre + self.reach + 1).min(seq.len())]
            {
                *value = value.max(score);
            }
        }
        best
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_target_has_the_scores_of_its_window() {
        let io = |targets, per_base| Io {
            channels: 4,
            length: 3,
            targets,
            per_base,
            classes: 1,
        };
        // Two windows of three bases.
        let scores = vec![1.0, 5.0, 2.0, 0.0, -1.0, 4.0];
        let of = |targets, per_base| of_every_target(scores.clone(), io(targets, per_base));
        assert_eq!(of(1, true), scores);
        assert_eq!(
            of(2, true),
            [1.0, 5.0, 2.0, 1.0, 5.0, 2.0, 0.0, -1.0, 4.0, 0.0, -1.0, 4.0]
        );
        assert_eq!(of(2, false), [5.0, 5.0, 4.0, 4.0]);
    }
}
