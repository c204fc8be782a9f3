//! sweep.svg: how the metric rose in each trial, and what each setting did to it.

use std::collections::BTreeMap;

use anyhow::Result;
use toml::Value;

use super::{
    space::shown,
    table::{Row, State, Table},
};
use crate::report::{
    LOG, logged,
    svg::{BLUE, ORANGE, Panel, Svg, decades, round},
};

const GREY: &str = "#999";
const PALE: &str = "#b9cde0";
const RED: &str = "#b03030";
const TOP: f64 = 75.0;
const CURVES: f64 = 210.0;
const FIELD: f64 = 130.0;
/// Below a panel, for its axis and the next one's title.
const GAP: f64 = 55.0;
/// So many values of a setting have a tick each, where there is room.
const FEW: usize = 8;
/// From so many times the lowest value on an axis is logarithmic.
const WIDE: f64 = 8.0;

pub fn draw(table: &Table) -> Result<String> {
    let fields: Vec<&str> = table
        .fields
        .iter()
        .copied()
        .filter(|name| levels(table, name).len() > 1)
        .collect();
    let height = TOP + CURVES + fields.len() as f64 * (FIELD + GAP) + GAP;
    let mut svg = Svg::new(height);
    let count = |state| table.rows.iter().filter(|row| row.state == state).count();
    let mut title = format!(
        "Sweep {}: {} trials",
        table.study.run.display(),
        table.rows.len()
    );
    for state in [State::Done, State::Left, State::Failed, State::Open] {
        if count(state) > 0 {
            title += &format!(", {} {}", count(state), state.name());
        }
    }
    svg.text(15.0, 24.0, "start", "black", &title);
    let Some(y) = scale(table.rows.iter().filter_map(Row::value)) else {
        svg.text(15.0, 44.0, "start", GREY, "nothing to compare yet");
        return Ok(svg.finish());
    };
    let best = &table.rows[0];
    let words = format!(
        "best: trial {}, {} {}",
        best.trial,
        table.study.metric.name(),
        number(best.value().unwrap_or(0.0))
    );
    svg.text(15.0, 44.0, "start", ORANGE, &words);
    curves(&mut svg, table)?;
    for (place, name) in fields.into_iter().enumerate() {
        let top = TOP + CURVES + GAP + place as f64 * (FIELD + GAP);
        field(&mut svg, table, name, y, top);
    }
    Ok(svg.finish())
}

/// The best value so far against epochs, of every trial.
fn curves(svg: &mut Svg, table: &Table) -> Result<()> {
    let mut lines = Vec::new();
    for (place, row) in table.rows.iter().enumerate() {
        let folder = table.study.folder(row.trial);
        // None where memory ran out before the first step, or where the folder was removed.
        if row.outcome.is_none() || !folder.join(LOG).exists() {
            continue;
        }
        let log = logged(&folder)?;
        let epoch = table.study.trials[row.trial].steps_an_epoch as f64;
        let points: Vec<(f64, f64)> = log
            .iter()
            .filter(|line| line["event"] == "evaluation")
            .filter_map(|line| Some((line["step"].as_f64()? / epoch, line["best"].as_f64()?)))
            .collect();
        lines.push((place, row.state, points));
    }
    let all = || lines.iter().flat_map(|(_, _, points)| points);
    let last = all().map(|point| point.0).fold(0.0, f64::max);
    let Some(y) = scale(all().map(|point| point.1)) else {
        return Ok(());
    };
    let panel = Panel {
        top: TOP,
        height: CURVES,
        x: (0.0, 1.02 * last),
        y,
        log: false,
    };
    axes(
        svg,
        &panel,
        &format!("{}, best so far", table.study.metric.name()),
    );
    svg.ticks(&panel, &even(panel.x));
    // The best lies on top.
    for &(place, state, ref points) in lines.iter().rev() {
        let (colour, width) = if place == 0 {
            (ORANGE, 2.0)
        } else {
            (PALE, 1.2)
        };
        svg.line(&panel, points.iter().copied(), colour, width);
        match points.last() {
            Some(&end) if state == State::Failed => svg.text_at(&panel, end, (-4.0, 4.0), RED, "×"),
            Some(&end) => svg.dot(&panel, end, if place == 0 { ORANGE } else { BLUE }),
            None => {}
        }
    }
    svg.x_name(&panel, "epochs");
    Ok(())
}

/// The best value of every trial against one setting; grey, the mean of the trials that share its value and did not fail.
fn field(svg: &mut Svg, table: &Table, name: &str, y: (f64, f64), top: f64) {
    let levels = levels(table, name);
    let axis = Axis::of(&levels);
    let panel = Panel {
        top,
        height: FIELD,
        x: axis.range,
        y,
        log: false,
    };
    axes(svg, &panel, name);
    if axis.levels.is_some() {
        // Words cannot be guessed from those beside them.
        for (x, name) in &axis.ticks {
            svg.tick(&panel, *x, name);
        }
    } else {
        svg.ticks(&panel, &axis.ticks);
    }
    let of = |row: &Row| axis.place(&table.study.trials[row.trial].tried[name]);
    let mut means: BTreeMap<usize, Vec<f64>> = BTreeMap::new();
    for row in table.rows.iter().filter(|row| row.state != State::Failed) {
        let level = levels
            .iter()
            .position(|level| *level == table.study.trials[row.trial].tried[name]);
        means
            .entry(level.unwrap_or(0))
            .or_default()
            .extend(row.value());
    }
    if levels.len() <= FEW && levels.len() < table.rows.len() {
        let mean = means
            .iter()
            .filter(|(_, values)| !values.is_empty())
            .map(|(&level, values)| {
                let mean = values.iter().sum::<f64>() / values.len() as f64;
                (axis.place(&levels[level]), mean)
            });
        svg.line(&panel, mean, GREY, 1.5);
    }
    for row in table.rows.iter().rev() {
        let colour = if row.trial == table.rows[0].trial {
            ORANGE
        } else {
            BLUE
        };
        match row.value() {
            _ if row.state == State::Failed => {
                svg.text_at(&panel, (of(row), panel.y.0), (-4.0, -4.0), RED, "×")
            }
            Some(value) => svg.dot(&panel, (of(row), value), colour),
            None => {}
        }
    }
}

fn axes(svg: &mut Svg, panel: &Panel, title: &str) {
    let (low, high) = panel.y;
    for part in [0.0, 0.5, 1.0] {
        let level = low + part * (high - low);
        svg.level(panel, level, &number(level));
    }
    svg.outline(panel, title);
}

/// With a little room around.
fn scale(values: impl Iterator<Item = f64>) -> Option<(f64, f64)> {
    let ends = |ends: Option<(f64, f64)>, value: f64| {
        let (low, high) = ends.unwrap_or((value, value));
        Some((low.min(value), high.max(value)))
    };
    let (low, high) = values.fold(None, ends)?;
    let room = (0.06 * (high - low)).max(1e-6 * high.abs()).max(1e-12);
    Some((low - room, high + room))
}

fn number(value: f64) -> String {
    match value.abs() {
        0.0 => "0".into(),
        small if small < 0.01 => format!("{value:.1e}"),
        _ => format!("{value:.3}"),
    }
}

/// The values that were tried, in order.
fn levels(table: &Table, name: &str) -> Vec<Value> {
    let mut levels: Vec<Value> = Vec::new();
    for trial in &table.study.trials {
        let value = &trial.tried[name];
        if !levels.contains(value) {
            levels.push(value.clone());
        }
    }
    match levels.iter().all(|level| numeric(level).is_some()) {
        true => levels.sort_by(|a, b| {
            numeric(a)
                .partial_cmp(&numeric(b))
                .expect("numbers of a file")
        }),
        false => levels.sort_by_key(shown),
    }
    levels
}

fn numeric(value: &Value) -> Option<f64> {
    value
        .as_float()
        .or(value.as_integer().map(|whole| whole as f64))
}

/// Numbers by size, words side by side.
struct Axis {
    levels: Option<Vec<Value>>,
    log: bool,
    range: (f64, f64),
    ticks: Vec<(f64, String)>,
}

impl Axis {
    fn of(levels: &[Value]) -> Self {
        let numbers: Option<Vec<f64>> = levels.iter().map(numeric).collect();
        let Some(numbers) = numbers else {
            let ticks = levels.iter().enumerate();
            return Self {
                levels: Some(levels.to_vec()),
                log: false,
                range: (-0.5, levels.len() as f64 - 0.5),
                ticks: ticks
                    .map(|(place, level)| (place as f64, shown(level)))
                    .collect(),
            };
        };
        let (low, high) = (numbers[0], numbers[numbers.len() - 1]);
        let log = low > 0.0 && high >= WIDE * low;
        let at = |value: f64| if log { value.ln() } else { value };
        let room = 0.04 * (at(high) - at(low));
        let ticks = match levels.len() <= FEW {
            true => levels
                .iter()
                .zip(&numbers)
                .map(|(level, &number)| (number, shown(level)))
                .collect(),
            false if log => decades((low, high)),
            false => even((low, high)),
        };
        Self {
            levels: None,
            log,
            range: (at(low) - room, at(high) + room),
            ticks: ticks
                .into_iter()
                .map(|(value, name)| (at(value), name))
                .collect(),
        }
    }

    fn place(&self, value: &Value) -> f64 {
        match &self.levels {
            Some(levels) => levels.iter().position(|level| level == value).unwrap_or(0) as f64,
            None => {
                let number = numeric(value).expect("all are numbers");
                if self.log { number.ln() } else { number }
            }
        }
    }
}

/// Four to nine round numbers.
fn even((low, high): (f64, f64)) -> Vec<(f64, String)> {
    let rough = (high - low) / 8.0;
    let power = rough.log10().floor() as i32;
    let size = |times: i64| times as f64 * 10f64.powi(power);
    let times = [1, 2, 5].into_iter().find(|&times| size(times) >= rough);
    let times = times.unwrap_or(10);
    let step = size(times);
    let all = (low / step).ceil() as i64..=(high / step).floor() as i64;
    all.map(|count| round(count * times, power)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_a_tick_where_there_is_room() {
        let ticks = |levels: &[f64]| {
            let levels: Vec<Value> = levels.iter().copied().map(Value::Float).collect();
            let axis = Axis::of(&levels);
            let panel = Panel {
                top: 0.0,
                height: 100.0,
                x: axis.range,
                y: (0.0, 1.0),
                log: false,
            };
            let mut svg = Svg::new(120.0);
            svg.ticks(&panel, &axis.ticks);
            svg.finish()
        };
        let near = ticks(&[0.001, 0.002154, 0.002323, 0.01]);
        for name in [">0.001<", ">0.002154<", ">0.01<"] {
            assert!(near.contains(name), "{near}");
        }
        assert!(!near.contains("0.002323"), "{near}");
        let far = ticks(&[0.01, 0.02, 1e30]);
        assert!(far.contains(">1e30<") && !far.contains("0.02"), "{far}");
    }

    #[test]
    fn round_numbers_are_told_apart() {
        let names = |ticks: Vec<(f64, String)>| -> Vec<String> {
            ticks.into_iter().map(|(_, name)| name).collect()
        };
        assert_eq!(names(even((0.0, 4.1))), ["0", "1", "2", "3", "4"]);
        assert_eq!(
            names(even((0.10013, 0.10023))),
            ["0.10014", "0.10016", "0.10018", "0.1002", "0.10022"]
        );
        let powers = names(decades((0.01, 1e30)));
        assert_eq!((powers[0].as_str(), powers[32].as_str()), ("0.01", "1e30"));
    }
}
