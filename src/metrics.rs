//! Metrics as counts that can be added: over batches, over ranks, in any partition. Divided once, at the end.

mod binary;
mod classes;
mod targets;
#[cfg(test)]
mod tests;

use std::borrow::Cow;

use serde::{Serialize, Serializer, ser::SerializeMap};

pub use binary::sigmoid;
pub use classes::{class_name, softmax};
pub(crate) use targets::quoted;
pub use targets::{Targets, add_over_targets};

use crate::{comm::Comm, model::Io};

/// How labels [B, T, M] lie, and what they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    pub targets: usize,
    /// Labels of a window for each target.
    pub places: usize,
    /// 1 where a label is 0 or 1; else it is one of so many classes.
    pub classes: usize,
}

impl Shape {
    /// `bin` bases are scored together.
    pub fn of(io: Io, bin: Option<usize>) -> Self {
        Self {
            targets: io.targets as usize,
            places: match io.per_base {
                true => io.length as usize / bin.unwrap_or(1),
                false => 1,
            },
            classes: io.classes as usize,
        }
    }

    /// Labels of a window.
    pub fn row(self) -> usize {
        self.targets * self.places
    }

    pub fn per_window(self) -> bool {
        self.places == 1
    }

    /// Numbers that a target counts.
    fn cells(self) -> usize {
        match self.classes {
            1 => binary::cells(),
            classes => classes * classes,
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct Tally {
    shape: Shape,
    /// What each target counted, then the number of batches.
    counts: Vec<u64>,
    /// The loss of each target, then the sum over batches of the soft dice coefficient, which Keras defines batch by
    /// batch.
    sums: Vec<f64>,
}

impl Tally {
    pub fn new(shape: Shape) -> Self {
        Self {
            shape,
            counts: vec![0; shape.targets * shape.cells() + 1],
            sums: vec![0.0; shape.targets + 1],
        }
    }

    /// One batch: logits [B, T K, M], labels [B, T, M]; a label of -1 is left out.
    pub fn add(&mut self, logits: &[f32], labels: &[i8]) {
        let Shape {
            targets,
            places,
            classes,
        } = self.shape;
        assert_eq!(logits.len(), labels.len() * classes);
        assert!(targets == 1 || labels.len().is_multiple_of(self.shape.row()));
        if labels.iter().all(|&label| label < 0) {
            return;
        }
        let cells = self.shape.cells();
        let (mut overlap, mut total) = (0.0, 0.0);
        for target in 0..targets {
            // One target after the other, so that what it counts stays in the cache.
            let logits = rows_of(target, targets, classes * places, logits);
            let labels = rows_of(target, targets, places, labels);
            let counts = &mut self.counts[target * cells..][..cells];
            self.sums[target] += match classes {
                1 => {
                    let sums = binary::add(counts, &logits, &labels);
                    overlap += sums.overlap;
                    total += sums.total;
                    sums.loss
                }
                _ => classes::add(counts, &logits, &labels, classes, places),
            };
        }
        self.sums[targets] += (2.0 * overlap + 1.0) / (total + 1.0);
        self.counts[targets * cells] += 1;
    }

    pub fn merge(&mut self, other: &Tally) {
        assert_eq!(self.shape, other.shape);
        for (own, others) in self.counts.iter_mut().zip(&other.counts) {
            *own += others;
        }
        for (own, others) in self.sums.iter_mut().zip(&other.sums) {
            *own += others;
        }
    }

    /// Becomes the tally of all ranks' data.
    pub fn sum_over(&mut self, comm: &dyn Comm) {
        comm.sum_u64(&mut self.counts);
        comm.sum_f64(&mut self.sums);
    }

    fn counts_of(&self, target: usize) -> &[u64] {
        let cells = self.shape.cells();
        &self.counts[target * cells..][..cells]
    }

    /// How often each class was called each, by label and by call, over all targets.
    pub fn confusion(&self) -> Option<Vec<Vec<u64>>> {
        let classes = self.shape.classes;
        let rows = || {
            self.counts()
                .chunks_exact(classes)
                .map(<[u64]>::to_vec)
                .collect()
        };
        (classes > 1).then(rows)
    }

    /// Over all targets together.
    fn counts(&self) -> Vec<u64> {
        let mut all = self.counts_of(0).to_vec();
        for target in 1..self.shape.targets {
            for (sum, count) in all.iter_mut().zip(self.counts_of(target)) {
                *sum += count;
            }
        }
        all
    }

    /// Of the pooled labels of all targets.
    pub fn metrics(&self) -> Metrics {
        let loss = self.sums[..self.shape.targets].iter().sum();
        let mut metrics = self.read(&self.counts(), loss);
        if self.shape.classes == 1 {
            let (batches, dice) = (self.counts.last(), self.sums.last());
            let (batches, dice) = (*batches.expect("never empty"), *dice.expect("never empty"));
            let dice = (batches > 0).then(|| dice / batches as f64);
            metrics.insert_after("auroc", "dice_coef", dice);
        }
        metrics
    }

    pub fn by_target(&self) -> Vec<Metrics> {
        let of = |target| self.read(self.counts_of(target), self.sums[target]);
        (0..self.shape.targets).map(of).collect()
    }

    fn read(&self, counts: &[u64], loss: f64) -> Metrics {
        match self.shape.classes {
            1 => binary::read(counts, loss, self.shape.per_window()),
            classes => classes::read(counts, loss, classes),
        }
    }
}

/// Of [B, T, row] the rows of one target: [B, row].
fn rows_of<T: Copy>(target: usize, targets: usize, row: usize, all: &[T]) -> Cow<'_, [T]> {
    match targets {
        1 => all.into(),
        _ => {
            let rows = all.chunks_exact(row).skip(target).step_by(targets);
            rows.flatten().copied().collect::<Vec<T>>().into()
        }
    }
}

/// Metrics by name; `None` where one is undefined for the labels (no positive, no negative, or neither predicted nor
/// there).
#[derive(Clone, Debug, PartialEq)]
pub struct Metrics {
    named: Vec<(&'static str, Option<f64>)>,
    /// Known labels of each class; of two classes negatives, then positives.
    pub labels: Vec<u64>,
}

impl Metrics {
    /// The metric of a name of the tables.
    pub fn value(&self, name: &str) -> Option<f64> {
        let mut named = self.named.iter();
        named
            .find(|(of, _)| *of == name)
            .and_then(|(_, value)| *value)
    }

    /// In the order of the tables.
    pub fn named(&self) -> &[(&'static str, Option<f64>)] {
        &self.named
    }

    pub fn push(&mut self, name: &'static str, value: Option<f64>) {
        self.named.push((name, value));
    }

    fn insert_after(&mut self, before: &str, name: &'static str, value: Option<f64>) {
        let place = self.named.iter().position(|(of, _)| *of == before);
        let place = place.map_or(self.named.len(), |place| place + 1);
        self.named.insert(place, (name, value));
    }

    /// Whether the labels can be told apart: there are two kinds of them at least.
    pub fn is_defined(&self) -> bool {
        self.labels.iter().filter(|&&labels| labels > 0).count() > 1
    }
}

impl Serialize for Metrics {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        for (name, value) in &self.named {
            map.serialize_entry(name, value)?;
        }
        match self.labels[..] {
            [negatives, positives] => {
                map.serialize_entry("positives", &positives)?;
                map.serialize_entry("negatives", &negatives)?;
            }
            _ => map.serialize_entry("labels", &self.labels)?,
        }
        map.end()
    }
}

/// A metric for people: never a number where there is none.
pub fn shown(value: Option<f64>) -> String {
    value.map_or_else(|| "undefined".into(), |value| format!("{value:.6}"))
}

/// The share that the most frequent label has: the accuracy of always saying that.
fn majority(labels: &[u64]) -> Option<f64> {
    let all: u64 = labels.iter().sum();
    let most = labels.iter().max().copied().unwrap_or(0);
    (all > 0).then(|| most as f64 / all as f64)
}

/// Mean over the classes that have labels of the share called right.
fn balanced(right: impl IntoIterator<Item = u64>, labels: &[u64]) -> Option<f64> {
    let shares = right
        .into_iter()
        .zip(labels)
        .filter(|(_, labels)| **labels > 0);
    let shares: Vec<f64> = shares
        .map(|(right, &all)| right as f64 / all as f64)
        .collect();
    (shares.len() > 1).then(|| shares.iter().sum::<f64>() / shares.len() as f64)
}
