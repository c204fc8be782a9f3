use super::*;
use crate::sampler::SplitMix;
use proptest::prelude::*;

const FLANK: usize = 5;

/// Windows of 5 bases on each side over a sequence, the hidden base N, each with what is hidden.
fn windows(sequence: &[u8]) -> Vec<(Vec<u8>, u8)> {
    let each = sequence.windows(2 * FLANK + 1).map(|window| {
        let mut window = window.to_vec();
        let base = std::mem::replace(&mut window[FLANK], 4);
        (window, base)
    });
    each.filter(|(_, base)| *base < 4).collect()
}

fn other_strand(window: &[u8]) -> Vec<u8> {
    let complement = |&base: &u8| if base < 4 { 3 - base } else { base };
    window.iter().rev().map(complement).collect()
}

/// A label of each kind, its number on the other strand, and classes.
type Kind = (fn(u8) -> i8, Option<i8>, i64);
const KINDS: [Kind; 3] = [
    (|base| base as i8, Some(3), 4),
    (|base| i8::from(base == 1 || base == 2), None, 1),
    (|base| i8::from(base % 2 == 0), Some(1), 1),
];

/// By the formula, over all windows written out on both strands; `k` bases around, or before, must agree.
fn oracle(
    reading: Reading,
    counted: &[(Vec<u8>, i8)],
    (mirror, classes): (Option<i8>, i64),
    asked: &[u8],
) -> Vec<f64> {
    let outcomes = classes.max(2) as usize;
    let levels = reading.neighbours.levels();
    let around = matches!(reading.neighbours, Neighbours::Around(_));
    let sees = |window: &[u8], k: usize| -> Option<Vec<u8>> {
        let after = if around { k } else { 0 };
        let mut bases = window[FLANK - k..FLANK].to_vec();
        bases.extend(&window[FLANK + 1..FLANK + 1 + after]);
        bases.iter().all(|&base| base < 4).then_some(bases)
    };
    let mut both = Vec::new();
    for (window, label) in counted {
        both.push((window.clone(), *label));
        both.push((
            other_strand(window),
            mirror.map_or(*label, |top| top - label),
        ));
    }
    both.retain(|(window, _)| sees(window, levels).is_some());
    let of_strand = |asked: &[u8]| {
        let mut shares = vec![1.0 / outcomes as f64; outcomes];
        for k in 0..=levels {
            let Some(context) = sees(asked, k) else { break };
            let mut n = vec![0.0; outcomes];
            for (window, label) in &both {
                if sees(window, k).as_ref() == Some(&context) {
                    n[*label as usize] += 1.0;
                }
            }
            let bases = context.len();
            let g = if bases > 8 { reading.gamma } else { 1.0 };
            let all: f64 = n.iter().sum();
            for (share, n) in shares.iter_mut().zip(n) {
                *share = (n + g * *share) / (all + g);
            }
        }
        shares
    };
    let here = of_strand(asked);
    let there = of_strand(&other_strand(asked));
    let mean = |outcome: usize| {
        let other = mirror.map_or(outcome, |top| top as usize - outcome);
        (here[outcome] + there[other]) / 2.0
    };
    (0..outcomes).map(mean).collect()
}

fn counter(
    reading: Reading,
    (mirror, classes): (Option<i8>, i64),
    all: &[(Vec<u8>, i8)],
) -> Counter {
    let mut counter = Counter::new(reading, classes, mirror);
    for (window, label) in all {
        counter.count(window, *label);
    }
    let own = counter.take_own();
    counter.add(own);
    counter
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]
    /// A few letters make contexts come again; the fifth is a gap.
    #[test]
    fn probabilities_are_those_of_the_formula_with_and_without_the_window_itself(
        sequence in prop::collection::vec(prop_oneof![8 => 0u8..2, 4 => 2u8..4, 1 => Just(4u8)], 12..80),
        levels in 1usize..=FLANK, around in any::<bool>(), gamma in 0.5f64..50.0, kind in 0usize..3,
    ) {
        let neighbours = match around {
            true => Neighbours::Around(levels),
            false => Neighbours::Before(levels),
        };
        let reading = Reading { neighbours, gamma };
        let (label, mirror, classes) = KINDS[kind];
        let all: Vec<_> = windows(&sequence).into_iter().map(|(window, base)| (window, label(base))).collect();
        let counter = counter(reading, (mirror, classes), &all);
        for (left_out, (window, label)) in all.iter().enumerate() {
            let mut others = all.clone();
            others.remove(left_out);
            for (counted, label) in [(&all, None), (&others, Some(*label))] {
                let expected = oracle(reading, counted, (mirror, classes), window);
                let found = counter.probabilities(window, label).unwrap();
                for (found, expected) in found.iter().zip(&expected) {
                    prop_assert!((found - expected).abs() < 1e-12, "{found} {expected} {reading:?} {label:?}");
                }
            }
        }
    }
}

#[test]
fn a_window_that_was_not_counted_cannot_be_left_out() {
    let reading = Reading {
        neighbours: Neighbours::Around(1),
        gamma: 1.0,
    };
    let counter = Counter::new(reading, 4, Some(3));
    let error = counter.probabilities(&[0, 4, 0], Some(0)).unwrap_err();
    let said = error.to_string();
    assert!(
        said.contains("not counted") && said.contains("--data"),
        "{said}"
    );
    assert_eq!(counter.probabilities(&[0, 4, 0], None).unwrap(), [0.25; 4]);
}

#[test]
fn an_empty_table_takes_what_was_counted_without_a_copy() {
    let reading = Reading {
        neighbours: Neighbours::Around(1),
        gamma: 1.0,
    };
    let mut counter = Counter::new(reading, 4, Some(3));
    counter.count(&[0, 4, 0], 1);
    let own = counter.take_own();
    let place = own.keys().as_ptr();
    counter.add(own);
    assert_eq!(counter.total().keys().as_ptr(), place);
}

#[test]
fn what_is_counted_in_parts_adds_up() {
    let reading = Reading {
        neighbours: Neighbours::Before(3),
        gamma: 10.0,
    };
    let mut random = SplitMix::keyed(&[7]);
    let sequence: Vec<u8> = (0..500).map(|_| random.below(4) as u8).collect();
    let all: Vec<_> = windows(&sequence)
        .into_iter()
        .map(|(window, base)| (window, base as i8))
        .collect();
    let whole = counter(reading, (Some(3), 4), &all);
    let mut parts = Counter::new(reading, 4, Some(3));
    for part in all.chunks(77) {
        let own = counter(reading, (Some(3), 4), part).take_total();
        parts.add(own);
    }
    assert_eq!(whole.total(), parts.total());
    assert_eq!(whole.total().total(), 2 * all.len() as u64);
}

#[test]
fn free_shares_are_those_of_the_paper() {
    let numel = |neighbours, classes| {
        let reading = Reading {
            neighbours,
            gamma: 1.0,
        };
        Counter::new(reading, classes, None).num_parameters()
    };
    assert_eq!(numel(Neighbours::Around(5), 4), 3_145_728);
    assert_eq!(numel(Neighbours::Around(2), 1), 256);
    assert_eq!(numel(Neighbours::Before(14), 4), 805_306_368);
}
