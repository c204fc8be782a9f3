use super::*;
use proptest::prelude::*;

/// Batches of whole windows of any shape, dealt to so many tallies.
fn partition() -> impl Strategy<Value = (Shape, usize, usize, Vec<(f32, i8)>)> {
    let shape = (
        1usize..5,
        1usize..40,
        prop::sample::select(vec![1usize, 3, 4]),
    );
    let shape = shape.prop_map(|(targets, places, classes)| Shape {
        targets,
        places,
        classes,
    });
    let with_data = |shape: Shape| {
        let labels = shape.targets * shape.places;
        let most = shape.classes.max(2) as i8;
        let data = prop::collection::vec((-20f32..20.0, -1..most), labels * shape.classes * 12);
        (Just(shape), 1usize..4, 1usize..6, data)
    };
    shape.prop_flat_map(with_data)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn merged_over_any_partition_equals_the_whole((shape, batch, parts, data) in partition()) {
        let (logits, labels): (Vec<f32>, Vec<i8>) = data.into_iter().unzip();
        let batch = batch * shape.targets * shape.places;
        let labels = &labels[..logits.len() / shape.classes];
        let mut whole = Tally::new(shape);
        let mut partial = vec![Tally::new(shape); parts];
        for (i, (z, y)) in logits.chunks(batch * shape.classes).zip(labels.chunks(batch)).enumerate() {
            whole.add(z, y);
            partial[i * 7 % parts].add(z, y);
        }
        let mut merged = Tally::new(shape);
        partial.iter().rev().for_each(|part| merged.merge(part));
        prop_assert_eq!(&merged.counts, &whole.counts);
        for (a, b) in merged.sums.iter().zip(&whole.sums) {
            prop_assert!((a - b).abs() <= 1e-9 * b.abs().max(1.0));
        }
    }

    /// What several targets count is what a tally of each counts.
    #[test]
    fn a_target_among_others_is_the_target_alone((shape, batch, _, data) in partition()) {
        let (logits, labels): (Vec<f32>, Vec<i8>) = data.into_iter().unzip();
        let (row, classes) = (shape.places, shape.classes);
        let window = row * shape.targets;
        let labels = &labels[..logits.len() / classes];
        let mut all = Tally::new(shape);
        let mut each = vec![Tally::new(Shape { targets: 1, ..shape }); shape.targets];
        for (z, y) in logits.chunks(batch * window * classes).zip(labels.chunks(batch * window)) {
            all.add(z, y);
            for (target, own) in each.iter_mut().enumerate() {
                let rows = |len: usize| move |window: usize| (window * shape.targets + target) * len;
                let windows = 0..y.len() / window;
                let z = windows.clone().map(rows(row * classes)).flat_map(|at| &z[at..at + row * classes]);
                let y = windows.map(rows(row)).flat_map(|at| &y[at..at + row]);
                own.add(&z.copied().collect::<Vec<_>>(), &y.copied().collect::<Vec<_>>());
            }
        }
        for (of_all, alone) in all.by_target().iter().zip(&each) {
            let alone = &alone.by_target()[0];
            prop_assert_eq!(&of_all.labels, &alone.labels);
            for (a, b) in of_all.named().iter().zip(alone.named()) {
                let near = |(a, b): (f64, f64)| (a - b).abs() < 1e-9 * b.abs().max(1.0);
                prop_assert!(a.1 == b.1 || a.1.zip(b.1).is_some_and(near), "{:?} {:?}", a, b);
            }
        }
    }
}

const ONE: Shape = Shape {
    targets: 1,
    places: 3,
    classes: 1,
};

#[test]
fn what_is_undefined_is_said_to_be() {
    let mut tally = Tally::new(ONE);
    tally.add(&[-3.0, -2.0, 9.0], &[0, 0, -1]);
    let metrics = tally.metrics();
    for name in ["pr_auc", "average_precision", "auroc", "binary_io_u"] {
        assert_eq!(metrics.value(name), None, "{name}");
    }
    assert!(metrics.value("loss").is_some() && !metrics.is_defined());
    assert_eq!(shown(metrics.value("auroc")), "undefined");
    let nothing = Tally::new(ONE).metrics();
    assert!(nothing.named().iter().all(|(_, value)| value.is_none()));
}

#[test]
fn a_loss_that_is_no_number_stays_none() {
    for classes in [1, 4] {
        let mut tally = Tally::new(Shape { classes, ..ONE });
        let mut logits = vec![1.0; 3 * classes];
        logits[1] = f32::NAN;
        tally.add(&logits, &[1, 0, 1]);
        let loss = tally.metrics().value("loss");
        assert!(loss.is_some_and(f64::is_nan), "{classes}: {loss:?}");
    }
}
