//! Labels that are one of K classes, each with a logit: the cross-entropy, and how often which class was called which.

use tfbind_prep::schema::Central;

use super::{Metrics, balanced, majority};

/// Adds logits [B, K, M] with labels [B, M] to the counts [K, K] by label and by call; returns the summed loss.
pub(super) fn add(
    counts: &mut [u64],
    logits: &[f32],
    labels: &[i8],
    classes: usize,
    places: usize,
) -> f64 {
    let mut loss = 0.0;
    for (i, &label) in labels.iter().enumerate().filter(|(_, label)| **label >= 0) {
        let (label, first) = (label as usize, i / places * places * classes + i % places);
        assert!(label < classes, "a label is of class {label} of {classes}");
        let of = |class: usize| f64::from(logits[first + class * places]);
        let largest = (0..classes).map(of).fold(f64::NEG_INFINITY, f64::max);
        let sum: f64 = (0..classes).map(|class| (of(class) - largest).exp()).sum();
        loss += sum.ln() + largest - of(label);
        let called = (0..classes).find(|&class| of(class) == largest);
        counts[label * classes + called.unwrap_or(0)] += 1;
    }
    loss
}

pub(super) fn read(counts: &[u64], loss: f64, classes: usize) -> Metrics {
    let rows = counts.chunks_exact(classes);
    let labels: Vec<u64> = rows.map(|row| row.iter().sum()).collect();
    let right = || (0..classes).map(|class| counts[class * (classes + 1)]);
    let all: u64 = labels.iter().sum();
    let share = |of: f64| (all > 0).then(|| of / all as f64);
    let named = vec![
        ("loss", share(loss)),
        ("accuracy", share(right().sum::<u64>() as f64)),
        ("balanced_accuracy", balanced(right(), &labels)),
        ("majority_accuracy", majority(&labels)),
    ];
    Metrics { named, labels }
}

/// What a class is called: four are the bases.
pub fn class_name(class: usize, classes: usize) -> String {
    let bases = Central::Base.class_names();
    match classes == bases.len() {
        true => bases[class].to_string(),
        false => class.to_string(),
    }
}

/// Probabilities from logits, both [.., K, M], in place.
pub fn softmax(logits: &mut [f32], classes: usize, places: usize) {
    for row in logits.chunks_exact_mut(classes * places) {
        for place in 0..places {
            let all = (0..classes).map(|class| f64::from(row[class * places + place]));
            let largest = all.clone().fold(f64::NEG_INFINITY, f64::max);
            let sum: f64 = all.map(|logit| (logit - largest).exp()).sum();
            for class in 0..classes {
                let logit = &mut row[class * places + place];
                *logit = ((f64::from(*logit) - largest).exp() / sum) as f32;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Shape, Tally};
    use super::*;

    #[test]
    fn classes_are_counted_and_scored_as_by_hand() {
        let shape = Shape {
            targets: 1,
            places: 2,
            classes: 3,
        };
        let mut tally = Tally::new(shape);
        // Two windows of two places: [K, M] each.
        let ln = |p: f32| p.ln();
        tally.add(
            &[
                ln(0.5),
                ln(0.1),
                ln(0.25),
                ln(0.1),
                ln(0.25),
                ln(0.8), //
                ln(0.2),
                ln(0.3),
                ln(0.2),
                ln(0.3),
                ln(0.6),
                ln(0.4),
            ],
            &[0, 2, 1, -1],
        );
        assert_eq!(tally.counts(), [1, 0, 0, 0, 0, 1, 0, 0, 1]);
        let metrics = tally.metrics();
        assert_eq!(metrics.labels, [1, 1, 1]);
        let expected = -(0.5f64.ln() + 0.8f64.ln() + 0.2f64.ln()) / 3.0;
        let near = |name: &str, expected: f64| {
            let value = metrics.value(name).unwrap();
            assert!(
                (value - expected).abs() < 1e-6,
                "{name} {value}, not {expected}"
            );
        };
        near("loss", expected);
        near("accuracy", 2.0 / 3.0);
        near("balanced_accuracy", 2.0 / 3.0);
        near("majority_accuracy", 1.0 / 3.0);
    }

    #[test]
    fn probabilities_of_the_classes_of_a_place_sum_to_one() {
        // Two targets of three classes at two places; the second is far from what exp can hold.
        let mut p = [
            0.0, 1.0, 0.0, 2.0, 0.0, 3.0, 900.0, -900.0, 901.0, 0.0, 899.0, -1.0,
        ];
        softmax(&mut p, 3, 2);
        for (target, place) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
            let sum: f32 = (0..3).map(|class| p[target * 6 + class * 2 + place]).sum();
            assert!((sum - 1.0).abs() < 1e-6, "{p:?}");
        }
        let third = 1.0 / 3.0;
        assert!(
            (p[0] - third).abs() < 1e-6 && (p[8] - 0.665_241).abs() < 1e-5,
            "{p:?}"
        );
    }
}
