//! What is lost when the flanks of a window are destroyed: the metrics as a function of the bases that are left as they
//! are around the middle.

use std::fmt::Write;

use anyhow::{Result, ensure};

use super::{Method, Task};
use crate::{
    checkpoint::write_atomically,
    comm::Comm,
    data::Rows,
    evaluate::batches_of_rank,
    metrics::{Metrics, Shape, Tally, shown},
    plan::word,
    report::svg::{BLUE, Panel, Svg},
    sampler::SplitMix,
};

/// Bases kept unless others are typed.
const KEEP: [usize; 9] = [0, 1, 2, 3, 5, 10, 20, 50, 100];

/// Destroys the bases of each row that are farther than `keep` from the middle; a function of seed and row, so that the
/// ranks that share the rows do not matter. N stays N.
fn destroy(rows: &mut Rows, length: usize, keep: usize, method: Method, seed: u64) {
    for (draw, bases) in rows.draws.iter().zip(rows.seq.chunks_exact_mut(length)) {
        let mut random = SplitMix::keyed(&[seed, u64::from(draw.row), keep as u64, 3]);
        let far = |at: &usize| at.abs_diff(length / 2) > keep;
        let places: Vec<usize> = (0..length)
            .filter(far)
            .filter(|&at| bases[at] < 4)
            .collect();
        for (i, &at) in places.iter().enumerate() {
            match method {
                Method::FlankRandom => bases[at] = random.below(4) as u8,
                // Fisher & Yates, over both flanks together.
                _ => bases.swap(
                    at,
                    places[i + random.below((places.len() - i) as u64) as usize],
                ),
            }
        }
    }
}

pub fn write(
    comm: &dyn Comm,
    mut task: Task,
    method: Method,
    typed: Option<&[usize]>,
    seed: u64,
) -> Result<()> {
    let io = task.applied.windows.io();
    ensure!(
        !io.per_base,
        "--method {}: a model of every base has no flanks; integrated-gradients tells how far it sees",
        word(method)
    );
    let length = io.length as usize;
    let side = length / 2;
    let beyond = typed.and_then(|typed| typed.iter().find(|&&keep| keep > side));
    ensure!(
        beyond.is_none(),
        "--keep {}: a window of {length} bases has {side} on each side of the middle",
        beyond.unwrap_or(&0)
    );
    let mut keep = typed.unwrap_or(&KEEP).to_vec();
    keep.retain(|&keep| keep < side);
    keep.push(side);
    keep.sort_unstable();
    keep.dedup();
    let mut found = Vec::new();
    for &keep in &keep {
        comm.note("the metrics without flanks", keep as u64);
        let mut tally = Tally::new(Shape::of(io, None));
        for rows in batches_of_rank(comm, &task.applied.windows, &task.draws, task.batch)? {
            let mut rows = rows?;
            destroy(&mut rows, length, keep, method, seed);
            tally.add(&task.applied.net.engine.logits(&rows)?, &rows.label);
        }
        tally.sum_over(comm);
        found.push((keep, tally.by_target().swap_remove(task.target)));
    }
    if comm.rank() != 0 {
        return Ok(());
    }
    let (table, picture) = (task.path(".tsv"), task.path(".svg"));
    let text = text(&found);
    write_atomically(&table, text.as_bytes())?;
    let target = &task.applied.windows.header.targets[task.target];
    let svg = draw(&found, &format!("{target}, {}", word(method)));
    write_atomically(&picture, svg.as_bytes())?;
    print!("{text}");
    println!("table {}\npicture {}", table.display(), picture.display());
    Ok(())
}

fn text(found: &[(usize, Metrics)]) -> String {
    let names: Vec<&str> = found[0].1.named().iter().map(|(name, _)| *name).collect();
    let mut text = format!("kept\t{}\n", names.join("\t"));
    for (keep, metrics) in found {
        let values: Vec<String> = metrics
            .named()
            .iter()
            .map(|(_, value)| shown(*value))
            .collect();
        let _ = writeln!(text, "{keep}\t{}", values.join("\t"));
    }
    text
}

/// What the picture shows of the table, where it is defined.
const DRAWN: [&str; 4] = ["loss", "accuracy", "auroc", "average_precision"];

/// Less is no change: the table has six decimals.
const ALIKE: f64 = 1e-6;

/// One panel a metric, over the bases kept, evenly spaced.
fn draw(found: &[(usize, Metrics)], title: &str) -> String {
    const TOP: f64 = 28.0;
    const HEIGHT: f64 = 100.0;
    const GAP: f64 = 55.0;
    let defined = |name: &str| {
        let values = found.iter().enumerate();
        let values = values.filter_map(|(i, (_, of))| Some((i as f64, of.value(name)?)));
        values.collect::<Vec<(f64, f64)>>()
    };
    let curves: Vec<_> = DRAWN.map(|name| (name, defined(name))).into();
    let curves: Vec<_> = curves
        .into_iter()
        .filter(|(_, curve)| curve.len() > 1)
        .collect();
    let mut svg = Svg::new(TOP + curves.len() as f64 * (HEIGHT + GAP));
    for (i, (name, curve)) in curves.iter().enumerate() {
        let (low, high) = range(curve);
        let panel = Panel {
            top: TOP + i as f64 * (HEIGHT + GAP),
            height: HEIGHT,
            x: (0.0, (found.len() - 1) as f64),
            y: (low, high),
            log: false,
        };
        for (end, name) in [low, high].into_iter().zip(ends((low, high))) {
            svg.level(&panel, end, &name);
        }
        svg.outline(&panel, &format!("{name}: {title}"));
        svg.line(&panel, curve.iter().copied(), BLUE, 1.5);
        for (place, (keep, _)) in found.iter().enumerate() {
            svg.tick(&panel, place as f64, &keep.to_string());
        }
        for &point in curve {
            svg.dot(&panel, point, BLUE);
        }
        svg.x_name(&panel, "bases kept on each side");
    }
    svg.finish()
}

/// With room around a metric that never changes.
fn range(curve: &[(f64, f64)]) -> (f64, f64) {
    let values = || curve.iter().map(|point| point.1);
    let (low, high) = (
        values().fold(f64::MAX, f64::min),
        values().fold(f64::MIN, f64::max),
    );
    let room = match (high - low, high.abs()) {
        (change, _) if change >= ALIKE => 0.0,
        (_, size) if size < ALIKE => 0.05,
        (_, size) => 0.05 * size,
    };
    (low - room, high + room)
}

/// The ends of an axis, with two digits at least of what lies between.
fn ends((low, high): (f64, f64)) -> [String; 2] {
    let decimals = (1.0 - (high - low).log10().floor()).max(2.0) as usize;
    [low, high].map(|end| format!("{end:.decimals$}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::Draw;

    fn rows() -> Rows {
        let window = [0, 1, 2, 3, 4, 0, 1, 2, 3, 0, 0];
        Rows {
            draws: vec![Draw::from(3), Draw::from(4)],
            seq: [window, window].concat(),
            ..Rows::default()
        }
    }

    #[test]
    fn the_ends_of_an_axis_differ() {
        for (values, said) in [
            ([0.5, 0.5], ["0.475", "0.525"]),
            ([0.0, 0.0], ["-0.05", "0.05"]),
            ([0.7087, 0.7012], ["0.7012", "0.7087"]),
            ([0.25, 2.5], ["0.25", "2.50"]),
        ] {
            let curve = values.map(|value| (0.0, value));
            assert_eq!(ends(range(&curve)), said, "{values:?}");
        }
    }

    #[test]
    fn the_middle_stays_and_shuffled_flanks_keep_their_bases() {
        for method in [Method::FlankShuffle, Method::FlankRandom] {
            let (before, mut after) = (rows(), rows());
            destroy(&mut after, 11, 2, method, 1);
            assert_ne!(after.seq, before.seq);
            for (old, new) in before.seq.chunks(11).zip(after.seq.chunks(11)) {
                assert_eq!(old[3..8], new[3..8], "the middle and two on each side");
                assert_eq!(new[4], 4, "N stays");
                if method == Method::FlankShuffle {
                    let sorted = |row: &[u8]| {
                        let mut row = row.to_vec();
                        row.sort_unstable();
                        row
                    };
                    assert_eq!(sorted(old), sorted(new));
                }
            }
            let mut again = rows();
            destroy(&mut again, 11, 2, method, 1);
            assert_eq!(again.seq, after.seq, "a function of seed and row");
        }
    }
}
