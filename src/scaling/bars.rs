//! The lower part of scaling.svg: level bars of phases, and of seconds to a target.

use super::{
    measure::Spread,
    picture::{KEY, colour},
    points::Point,
    table::{Table, numbered},
};
use crate::report::svg::{GREEN, Panel, Svg, WIDTH};

/// Of the phases in their order: what computes in blue and green, what waits in red and orange.
const PHASE_COLOURS: [&str; 8] = [
    "#8d6cab", "#c3b1d6", "#2b5c8a", "#6fa0cc", "#c0392b", "#e59866", "#3a8f5c", "#bbbbbb",
];
/// Bars of the shares of each phase; returns where they end.
pub fn phases(svg: &mut Svg, seen: &[&Point], top: f64) -> f64 {
    let panel = Panel {
        top,
        height: seen.len() as f64 * 21.0 + 4.0,
        x: (0.0, 1.0),
        y: (0.0, 1.0),
        log: false,
    };
    svg.outline(&panel, "share of each phase in the time of all ranks");
    for (row, point) in seen.iter().enumerate() {
        let Some(measured) = &point.measured else {
            continue;
        };
        let y = top + 4.0 + 21.0 * row as f64;
        let mut from = 0.0;
        for ((_, share), colour) in measured.phases.iter().zip(PHASE_COLOURS) {
            svg.bar(&panel, (from, from + share), (y, 17.0), colour);
            from += share;
        }
        let name = format!("{} {}", point.mode.name(), point.ranks);
        svg.text(64.0, y + 13.0, "end", colour(point.mode), &name);
    }
    let (key, names) = (
        WIDTH - KEY + 4.0,
        seen.first().and_then(|of| of.measured.as_ref()),
    );
    for (row, ((name, _), colour)) in names
        .iter()
        .flat_map(|of| &of.phases)
        .zip(PHASE_COLOURS)
        .enumerate()
    {
        let (column, line) = ((row / 4) as f64, (row % 4) as f64);
        svg.square((key + 88.0 * column, top + 4.0 + 17.0 * line), colour);
        svg.text(
            key + 16.0 + 88.0 * column,
            top + 14.0 + 17.0 * line,
            "start",
            "#555",
            name,
        );
    }
    top + panel.height
}

/// Bars of seconds with their spread; returns where they end.
pub fn time_to_target(svg: &mut Svg, table: &Table, top: f64) -> f64 {
    let longest = table
        .targets
        .iter()
        .filter_map(|of| of.seconds)
        .map(Spread::upper)
        .fold(0.0, f64::max);
    let panel = Panel {
        top,
        height: table.targets.len() as f64 * 21.0 + 4.0,
        x: (0.0, 1.15 * longest.max(f64::MIN_POSITIVE)),
        y: (0.0, 1.0),
        log: false,
    };
    svg.outline(
        &panel,
        "seconds to the target, mean of the seeds that reached it ± sd",
    );
    for (row, target) in table.targets.iter().enumerate() {
        let y = top + 4.0 + 21.0 * row as f64;
        svg.text(64.0, y + 13.0, "end", "black", &numbered(target.ranks));
        let said = match target.seconds {
            None => "not reached".to_string(),
            Some(of) => {
                svg.bar(&panel, (0.0, of.mean), (y, 17.0), GREEN);
                if let Some(sd) = of.sd {
                    svg.bar(
                        &panel,
                        ((of.mean - sd).max(0.0), of.mean + sd),
                        (y + 8.0, 1.5),
                        "black",
                    );
                }
                let su = target
                    .su
                    .map_or(String::new(), |su| format!(", {su:.2} SU"));
                format!("{:.1} s{su}", of.mean)
            }
        };
        svg.text(WIDTH - KEY + 4.0, y + 13.0, "start", "#555", &said);
    }
    top + panel.height + 20.0
}
