//! `tfbind-mpi report RUN`: curves.svg, genome.svg and report.html, which holds both and needs no network.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::{
    genome::draw,
    lines::{LOG, logged, read_if_there},
    svg::{BLUE, GREEN, ORANGE, Panel, Svg, escaped},
    targets,
};
use crate::{
    checkpoint::{Checkpoint, write_atomically},
    cli::ReportArgs,
    data::Windows,
    evaluate::{BOTH_STRANDS, METRICS, name_of_data, name_of_split},
    loss::Loss,
    plan::{read_settings, word},
    predict::{file_name, step_of},
    resume::{PLAN, checkpoint_of},
};

/// The curves of the first three of these that there are.
const SCORES: [&str; 8] = [
    "median_auroc",
    "median_average_precision",
    "pr_auc",
    "auroc",
    "accuracy",
    "balanced_accuracy",
    "majority_accuracy",
    "dice_coef",
];

pub fn write(args: ReportArgs) -> Result<()> {
    let plan = read_settings(&args.run.join(PLAN))?;
    let data = args
        .data
        .clone()
        .or(plan.data)
        .context("--data is missing")?;
    // Imported weights were trained elsewhere.
    let elsewhere = plan.init.is_some() && !args.run.join(LOG).exists();
    let curves = match elsewhere {
        true => None,
        false => Some(curves(&args.run, plan.loss.unwrap_or_default())?),
    };
    let windows = Windows::open(&data, &args.split)?;
    let own = Checkpoint::read(&checkpoint_of(&args.run))?.header;
    let of_data = name_of_data(&own, &windows, &data);
    let predictions = args.run.join(file_name(&args.split, false, &of_data));
    let (genome, model) = draw(&windows, &data, &predictions)?.unzip();
    // A plain one, or where there is none that of both strands.
    let of_split = name_of_split(&args.split);
    let evaluations = [("", ""), (BOTH_STRANDS, ", both strands")];
    let evaluation = |of: &str, ending: &str| {
        let name = format!("{METRICS}{of_split}{of}{of_data}.{ending}");
        args.run.join(name)
    };
    let (of, words) = evaluations
        .into_iter()
        .find(|(of, _)| evaluation(of, "csv").exists())
        .unwrap_or_default();
    let metrics = read_if_there(&evaluation(of, "csv"))?;
    let evaluation = evaluated(&evaluation(of, "json"))?;
    let step = own.progress.step;
    let mut doubt = of_another_step(evaluation["step"].as_u64(), step, "evaluate");
    let recipe = evaluation["data_recipe"].as_str();
    if recipe.is_some_and(|recipe| recipe != windows.header.recipe_hash) {
        doubt += &format!(", of other data ({})", evaluation["data"]);
    }
    let words = format!("{words}{doubt}");
    let caption = format!("Metrics on {}{words}", args.split);
    let table = metrics.map(|csv| html_table(&caption, &csv));
    let table = table.unwrap_or_default();
    let targets = targets::section(&evaluation);
    let predicted = model.as_deref().and_then(step_of);
    let predicted = of_another_step(predicted, step, "predict");
    let picture = format!("Predictions on {}{predicted}", args.split);
    for (title, doubt) in [(&caption, &doubt), (&picture, &predicted)] {
        if !doubt.is_empty() {
            println!("note: {title}");
        }
    }
    let section = |title: &str, svg: &Option<String>| match svg {
        Some(svg) => format!("<h2>{}</h2>{svg}", escaped(title)),
        None => String::new(),
    };
    let page = format!(
        "<!doctype html><meta charset=\"utf-8\"><title>{0}</title><body style=\"font-family:sans-serif;max-width:920px;\
         margin:2em auto\"><h1>{0}</h1>{table}{1}{2}{3}</body>\n",
        escaped(&args.run.display().to_string()),
        section(&format!("Targets on {}{words}", args.split), &targets),
        section("Training", &curves),
        section(&picture, &genome),
    );
    let files = [
        ("curves.svg", curves.as_ref()),
        ("genome.svg", genome.as_ref()),
        ("report.html", Some(&page)),
    ];
    for (name, text) in files {
        let Some(text) = text else { continue };
        let path = args.run.join(name);
        write_atomically(&path, text.as_bytes())?;
    }
    println!("report {}", args.run.join("report.html").display());
    Ok(())
}

/// Null where there is none.
fn evaluated(path: &Path) -> Result<Value> {
    let text = read_if_there(path)?;
    let all = text.map_or(Ok(Value::Null), |text| serde_json::from_str(&text));
    all.with_context(|| format!("{}: not what evaluate writes", path.display()))
}

/// In the title of what was made before the run found a better checkpoint.
fn of_another_step(step: Option<u64>, own: u64, command: &str) -> String {
    match step {
        Some(step) if step != own => format!(
            ", of an older checkpoint (step {step}; the run's is now of step {own}): `tfbind-mpi {command}` renews this"
        ),
        _ => String::new(),
    }
}

fn curves(run: &Path, minimised: Loss) -> Result<String> {
    let lines = logged(run)?;
    let of = |event: &'static str| lines.iter().filter(move |line| line["event"] == event);
    let point = |line: &Value, value: &Value| Some((line["step"].as_f64()?, value.as_f64()?));
    let train: Vec<_> = of("step")
        .filter_map(|line| point(line, &line["loss"]))
        .collect();
    let valid: Vec<_> = of("evaluation")
        .filter_map(|line| point(line, &line["valid"]["loss"]))
        .collect();
    let score = |name: &str| -> Vec<(f64, f64)> {
        of("evaluation")
            .filter_map(|line| point(line, &line["valid"][name]))
            .collect()
    };
    // What counts has no training loss.
    let steps = lines.iter().filter_map(|line| line["step"].as_f64());
    let x = (0.0, steps.fold(0.0, f64::max));
    ensure!(x.1 > 0.0, "{}: no step is logged", run.display());
    let losses = || {
        train
            .iter()
            .chain(&valid)
            .map(|point| point.1)
            .filter(|&loss| loss > 0.0)
    };
    let mut y = (
        losses().fold(f64::INFINITY, f64::min),
        losses().fold(0.0, f64::max),
    );
    if y.0 >= y.1 {
        // One value, or none, in the middle.
        let middle = if y.1 > 0.0 { y.1 } else { 1.0 };
        y = (middle / 2.0, middle * 2.0);
    }
    let mut svg = Svg::new(430.0);
    let loss = Panel {
        top: 25.0,
        height: 160.0,
        x,
        y,
        log: true,
    };
    svg.frame(&loss, "loss a label (log scale)");
    svg.line(&loss, train.iter().copied(), "#b9cde0", 1.0);
    svg.line(&loss, smooth(&train), BLUE, 1.5);
    curve(&mut svg, &loss, &valid, ORANGE);
    let training = format!("training ({}, smoothed)", word(minimised));
    let named = [
        ("validation (cross-entropy)", ORANGE, &valid),
        (&training, BLUE, &train),
    ];
    let named = named.iter().filter(|(_, _, points)| !points.is_empty());
    legend(
        &mut svg,
        &loss,
        named.map(|&(name, colour, _)| (name, colour)),
    );
    let scores = Panel {
        top: 220.0,
        height: 175.0,
        x,
        y: (0.0, 1.0),
        log: false,
    };
    svg.frame(&scores, "validation scores");
    let drawn = SCORES.iter().map(|name| (*name, score(name)));
    let drawn = drawn.filter(|(_, points)| !points.is_empty());
    let drawn: Vec<_> = drawn.zip([BLUE, ORANGE, GREEN]).collect();
    for ((_, points), colour) in &drawn {
        curve(&mut svg, &scores, points, colour);
    }
    let named = drawn.iter();
    legend(
        &mut svg,
        &scores,
        named.map(|((name, _), colour)| (*name, *colour)),
    );
    svg.x_axis(&scores, "step", ("0", &format!("{}", x.1)));
    Ok(svg.finish())
}

/// A line, or the only point there is.
fn curve(svg: &mut Svg, panel: &Panel, points: &[(f64, f64)], colour: &str) {
    match points {
        [only] => svg.dot(panel, *only, colour),
        _ => svg.line(panel, points.iter().copied(), colour, 2.0),
    }
}

/// Names of curves above the right end of a panel.
fn legend<'a>(svg: &mut Svg, panel: &Panel, curves: impl Iterator<Item = (&'a str, &'a str)>) {
    // Of a letter at the picture's size, and between names.
    let (letter, gap) = (6.2, 20.0);
    let mut end = 885.0;
    for (name, colour) in curves {
        svg.text(end, panel.top - 5.0, "end", colour, name);
        end -= letter * name.len() as f64 + gap;
    }
}

/// Exponential mean over about 20 steps.
fn smooth(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let mut mean = points.first().map_or(0.0, |first| first.1);
    points
        .iter()
        .map(|&(x, y)| {
            mean += (y - mean) / 20.0;
            (x, mean)
        })
        .collect()
}

fn html_table(caption: &str, csv: &str) -> String {
    let row = |line: &str, cell: &str| -> String {
        line.split(',')
            .map(|value| {
                let value = escaped(value);
                format!("<{cell} style=\"padding:.3em 1em;text-align:right\">{value}</{cell}>")
            })
            .collect()
    };
    let rows: String = csv
        .lines()
        .enumerate()
        .map(|(i, line)| format!("<tr>{}</tr>", row(line, if i == 0 { "th" } else { "td" })))
        .collect();
    format!(
        "<table border=\"1\" style=\"border-collapse:collapse\"><caption>{}</caption>{rows}</table>",
        escaped(caption)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_file_says_is_text() {
        let table = html_table("on a<b", "loss,x&y\n");
        assert!(table.contains("<caption>on a&lt;b</caption>"), "{table}");
        assert!(table.contains(">x&amp;y</th>"), "{table}");
    }
}
