//! Of several targets: medians by group, and how each group's metrics are distributed.

use serde_json::Value;

use super::svg::{BLUE, GREEN, ORANGE, Panel, Svg, escaped};
use crate::metrics::shown;

/// The first four of these that there are become columns, and the first is drawn.
const COLUMNS: [&str; 6] = [
    "auroc",
    "average_precision",
    "pr_auc",
    "accuracy",
    "balanced_accuracy",
    "loss",
];
const COLOURS: [&str; 3] = [BLUE, ORANGE, GREEN];
/// Of the groups beyond the third, which share the colours.
const DASHES: [&str; 3] = ["", "8 4", "2 4"];

/// Of the file that evaluate wrote. None where there is one target, or no evaluation.
pub fn section(evaluation: &Value) -> Option<String> {
    let targets = &evaluation["targets"];
    let (each, groups) = (list(&targets["each"]), list(&targets["groups"]));
    if each.len() < 2 {
        return None;
    }
    let there = |name: &&str| each[0].get(name).is_some();
    let columns: Vec<&str> = COLUMNS.into_iter().filter(there).take(4).collect();
    let undefined = list(&targets["undefined"]);
    let names: Vec<String> = undefined.iter().map(text_of).collect();
    let left_out = match names.len() {
        0 => String::new(),
        count => format!(
            "<p>{count} left out, as all known labels are the same: {}</p>",
            escaped(&names.join(", "))
        ),
    };
    Some(table(groups, &columns) + &picture(each, groups, undefined, columns[0]) + &left_out)
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn text_of(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_string()
}

fn table(groups: &[Value], columns: &[&str]) -> String {
    let row = |cell: &str, values: Vec<String>| {
        let style = "style=\"padding:.3em 1em;text-align:right\"";
        let cells = values
            .iter()
            .map(|value| format!("<{cell} {style}>{}</{cell}>", escaped(value)));
        format!("<tr>{}</tr>", cells.collect::<String>())
    };
    let head = ["medians of", "targets"].iter().chain(columns);
    let head = row("th", head.map(ToString::to_string).collect());
    let rows = groups.iter().map(|group| {
        let medians = columns
            .iter()
            .map(|name| shown(group["median"][name].as_f64()));
        let name = [text_of(&group["group"]), group["targets"].to_string()];
        row("td", name.into_iter().chain(medians).collect())
    });
    let rows: String = rows.collect();
    format!(
        "<table border=\"1\" style=\"border-collapse:collapse;margin-bottom:1em\">{head}{rows}</table>"
    )
}

/// A line a group: its defined targets from the worst to the best.
fn picture(each: &[Value], groups: &[Value], undefined: &[Value], column: &str) -> String {
    let several = groups.len() > 1;
    let drawn = groups
        .iter()
        .filter(|group| !several || group["group"] != "all");
    let sorted = |group: &Value| {
        let name = &group["group"];
        let of_group = |target: &&Value| !several || target["group"] == *name;
        let known = |target: &&Value| !undefined.contains(&target["name"]);
        let targets = each.iter().filter(of_group).filter(known);
        let mut values: Vec<f64> = targets
            .filter_map(|target| target[column].as_f64())
            .collect();
        values.sort_by(f64::total_cmp);
        (text_of(name), values)
    };
    let drawn: Vec<(String, Vec<f64>)> = drawn.map(sorted).collect();
    let values = drawn.iter().flat_map(|(_, values)| values);
    let least = values.fold(1.0f64, |least, &value| least.min(value));
    let bottom = ((least * 10.0).floor() / 10.0).min(0.9);
    let mut svg = Svg::new(300.0);
    let panel = Panel {
        top: 25.0,
        height: 240.0,
        x: (0.0, 1.0),
        y: (bottom, 1.0),
        log: false,
    };
    svg.frame(
        &panel,
        &format!("{column} of every target, from the worst to the best of its group"),
    );
    for (i, (name, values)) in drawn.iter().enumerate() {
        let colour = COLOURS[i % COLOURS.len()];
        let along = |place: usize| (place as f64 + 0.5) / values.len() as f64;
        let points = || {
            values
                .iter()
                .enumerate()
                .map(|(place, &value)| (along(place), value))
        };
        svg.dashes(
            &panel,
            points(),
            colour,
            2.0,
            DASHES[i / COLOURS.len() % DASHES.len()],
        );
        // Few targets are seen one by one.
        if values.len() <= 40 {
            points().for_each(|point| svg.dot(&panel, point, colour));
        }
        let words = format!("{name} ({})", values.len());
        svg.text(
            880.0,
            255.0 - 16.0 * (drawn.len() - 1 - i) as f64,
            "end",
            colour,
            &words,
        );
    }
    svg.x_axis(&panel, "share of the group's targets", ("0", "1"));
    svg.finish()
}
