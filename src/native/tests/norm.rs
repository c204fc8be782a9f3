//! Running statistics where there are none to take.

use super::*;

/// At the bottom of windows of 32 bases one number a window is left.
#[test]
fn one_number_alone_moves_no_running_statistics() {
    let first = cases().next().expect("there are cases");
    let case = Case { batch: 1, ..first };
    let [(_, _, ours), (_, _, theirs)] = [EngineChoice::Native, EngineChoice::Libtorch]
        .map(|engine| case.step(engine, Kind::Double));
    let pairs = ours.iter().zip(&theirs);
    let running: Vec<_> = pairs
        .filter(|((name, _), _)| name.contains("running"))
        .collect();
    assert!(!running.is_empty());
    for ((name, a), (_, b)) in running {
        let difference = difference(a, b);
        assert!(difference < 1e-9, "{name} {difference:e}");
    }
}
