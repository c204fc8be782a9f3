//! scaling.svg: samples/s, efficiency and phases against ranks; what was measured in full lines and dots with their
//! standard deviation, what is predicted dashed.

use super::{
    Mode,
    bars::{phases, time_to_target},
    measure::Spread,
    model::Forecast,
    points::{Point, Seen},
    table::Table,
};
use crate::report::svg::{BLUE, ORANGE, Panel, Svg, WIDTH, decades};

const GREY: &str = "#999";
/// Pixels on the right of every panel, for what colours mean.
pub const KEY: f64 = 185.0;

pub fn draw(table: &Table) -> String {
    let seen: Vec<&Point> = table
        .points
        .iter()
        .filter(|of| of.measured.is_some())
        .collect();
    let bars = seen.len() as f64 * 21.0 + 8.0;
    let targets = match table.targets.is_empty() {
        true => 0.0,
        false => table.targets.len() as f64 * 21.0 + 60.0,
    };
    let notes = 18.0 * table.model.notes.len() as f64;
    let mut svg = Svg::new(698.0 + bars + targets + notes);
    svg.keep_right(KEY);
    svg.text(
        15.0,
        24.0,
        "start",
        "black",
        &format!("Scaling of {}", table.title),
    );

    svg.text(15.0, 42.0, "start", "#777", &table.subtitle);

    let last_measured = seen.iter().map(|of| of.ranks).max().unwrap_or(1);
    let last = table.points.iter().map(|of| of.ranks).max().unwrap_or(1);
    let first = table.points.iter().map(|of| of.ranks).min().unwrap_or(1);
    let x = (0.85 * first as f64, 1.18 * last as f64);
    let x = (x.0.ln(), x.1.ln());
    let mut ticks: Vec<usize> = table.points.iter().map(|of| of.ranks).collect();
    ticks.sort_unstable();
    ticks.dedup();

    let speeds = || {
        table.points.iter().flat_map(|point| {
            let here = point.predicted_here.map(|of| of.samples_per_s);
            let own = point.measured.as_ref().map(|of| of.samples_per_s);
            let low = own
                .and_then(|of| Some(of.mean - of.sd?))
                .filter(|&low| low > 0.0);
            let predicted = Some(point.predicted.samples_per_s);
            [predicted, here, own.map(Spread::upper), low]
                .into_iter()
                .flatten()
        })
    };
    let (slowest, fastest) = (
        speeds().fold(f64::INFINITY, f64::min),
        speeds().fold(0.0, f64::max),
    );
    let speed = Panel {
        top: 80.0,
        height: 280.0,
        x,
        y: (0.8 * slowest, 1.5 * fastest),
        log: true,
    };
    axes(
        &mut svg,
        &speed,
        "samples/s",
        &ticks,
        last_measured,
        &decades(speed.y),
    );
    let key = WIDTH - KEY + 4.0;
    let mut row = speed.top + 12.0;
    for mode in modes(table) {
        let (colour, points) = (colour(mode), of_mode(table, mode));
        let start = points[0]
            .measured
            .as_ref()
            .map_or(0.0, |of| of.samples_per_s.mean);
        let ideal = |ranks: usize| (ln(ranks), start * ranks as f64 / points[0].ranks as f64);
        let reach = points
            .iter()
            .map(|of| ideal(of.ranks))
            .take_while(|of| of.1 <= speed.y.1);
        svg.dashes(&speed, reach, GREY, 1.0, "1 3");
        series(
            &mut svg,
            &speed,
            &points,
            |of| of.samples_per_s,
            |of| of.samples_per_s,
        );
        let what = match mode {
            Mode::Weak => format!("weak: {} windows a rank", points[0].windows),
            Mode::Strong => format!("strong: {} windows in all", points[0].global_batch),
        };
        svg.text(key, row, "start", colour, &what);
        row += 17.0;
    }
    row += 6.0;
    for (dash, dots, name) in [
        ("", true, "measured, ± sd"),
        ("6 4", false, "predicted"),
        ("2 3", false, "predicted, cores shared"),
        ("1 3", false, "ideal"),
    ] {
        let crowded = table.points.iter().any(|of| of.predicted_here.is_some());
        if dash == "2 3" && !crowded {
            continue;
        }
        svg.sample((key, row - 4.0), dash, dots, "#555");
        svg.text(key + 34.0, row, "start", "#555", name);
        row += 17.0;
    }

    let best = table
        .points
        .iter()
        .filter_map(|of| Some(of.measured.as_ref()?.efficiency.upper()))
        .fold(1.0, f64::max);
    let efficiency = Panel {
        top: 418.0,
        height: 190.0,
        x,
        y: (0.0, 1.08 * best),
        log: false,
    };
    let quarters: Vec<(f64, String)> = [0.0, 0.25, 0.5, 0.75, 1.0]
        .iter()
        .map(|&of| (of, format!("{of}")))
        .collect();
    axes(
        &mut svg,
        &efficiency,
        "efficiency of a rank",
        &ticks,
        last_measured,
        &quarters,
    );
    for mode in modes(table) {
        let points = of_mode(table, mode);
        series(
            &mut svg,
            &efficiency,
            &points,
            |of| of.efficiency,
            |of| of.efficiency,
        );
    }
    svg.text(
        svg_middle(),
        efficiency.top + efficiency.height + 32.0,
        "middle",
        "#555",
        "ranks",
    );

    let top = phases(&mut svg, &seen, 673.0);
    let mut bottom = match table.targets.is_empty() {
        true => top + 20.0,
        false => time_to_target(&mut svg, table, top + 45.0),
    };
    for note in &table.model.notes {
        svg.text(15.0, bottom, "start", "#777", note);
        bottom += 18.0;
    }
    svg.finish()
}

/// Dots, their spread and the line through them; dashed lines of what is predicted.
fn series(
    svg: &mut Svg,
    panel: &Panel,
    points: &[&Point],
    measured: impl Fn(&Seen) -> Spread,
    predicted: impl Fn(&Forecast) -> f64,
) {
    let colour = colour(points[0].mode);
    let all = points
        .iter()
        .map(|of| (ln(of.ranks), predicted(&of.predicted)));
    svg.dashes(panel, all, colour, 1.5, "6 4");
    // From the last number of ranks with a core each.
    let turn = points.iter().position(|of| of.predicted_here.is_some());
    let turns = turn.map_or(&points[..0], |at| &points[at.saturating_sub(1)..]);
    let here = turns.iter().enumerate().map_while(|(place, of)| {
        let forecast = if place == 0 {
            Some(of.predicted)
        } else {
            of.predicted_here
        };
        Some((ln(of.ranks), predicted(&forecast?)))
    });
    svg.dashes(panel, here, colour, 1.5, "2 3");
    let dots: Vec<(f64, Spread)> = points
        .iter()
        .filter_map(|of| Some((ln(of.ranks), measured(of.measured.as_ref()?))))
        .collect();
    svg.line(panel, dots.iter().map(|&(x, of)| (x, of.mean)), colour, 2.0);
    for (x, of) in dots {
        if let Some(sd) = of.sd {
            svg.whisker(panel, x, (of.mean - sd, of.mean + sd), colour);
        }
        svg.dot(panel, (x, of.mean), colour);
    }
}

/// Frame and grid; what lies beyond the measured numbers of ranks is shaded.
fn axes(
    svg: &mut Svg,
    panel: &Panel,
    title: &str,
    ranks: &[usize],
    last: usize,
    levels: &[(f64, String)],
) {
    let beyond = ranks.iter().find(|&&of| of > last);
    if let Some(&next) = beyond {
        let edge = (ln(last) + ln(next)) / 2.0;
        svg.span(panel, edge, panel.x.1, "#f5f5f5");
        svg.text_at(
            panel,
            (edge, panel.y.1),
            (0.0, -5.0),
            "#999",
            "predicted only",
        );
    }
    for (level, name) in levels {
        svg.level(panel, *level, name);
    }
    for &of in ranks {
        svg.tick(panel, ln(of), &of.to_string());
    }
    svg.outline(panel, title);
}

fn modes(table: &Table) -> Vec<Mode> {
    let mut modes: Vec<Mode> = table.points.iter().map(|of| of.mode).collect();
    modes.dedup();
    modes
}

fn of_mode(table: &Table, mode: Mode) -> Vec<&Point> {
    table.points.iter().filter(|of| of.mode == mode).collect()
}

pub fn colour(mode: Mode) -> &'static str {
    match mode {
        Mode::Weak => BLUE,
        Mode::Strong => ORANGE,
    }
}

fn ln(ranks: usize) -> f64 {
    (ranks as f64).ln()
}

fn svg_middle() -> f64 {
    (70.0 + WIDTH - KEY) / 2.0
}
