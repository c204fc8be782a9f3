//! `tfbind-mpi report RUN`: curves.svg, genome.svg and report.html, which holds both and needs no network.

use std::{fs, path::Path};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tfbind_prep::schema::PredictionFile;

use super::{
    logged,
    svg::{BLUE, GREEN, ORANGE, Panel, Svg},
    targets,
};
use crate::{
    checkpoint::write_atomically,
    cli::ReportArgs,
    data::{Draw, Windows},
    evaluate::{BOTH_STRANDS, name_of_split},
    loss::Loss,
    plan::{read_settings, word},
};

/// Neighbouring windows drawn in the genome view cover about so many bases.
const VIEW: usize = 20_000;
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
    let plan = read_settings(&args.run.join("plan.toml"))?;
    let data = args
        .data
        .clone()
        .or(plan.data)
        .context("--data is missing")?;
    // Imported weights were trained elsewhere.
    let elsewhere = plan.init.is_some() && !args.run.join("metrics.jsonl").exists();
    let curves = match elsewhere {
        true => None,
        false => Some(curves(&args.run, plan.loss.unwrap_or_default())?),
    };
    let genome = genome(&args, &data)?;
    // A plain one, or where there is none that of both strands.
    let of_split = name_of_split(&args.split);
    let evaluations = [("", ""), (BOTH_STRANDS, ", both strands")];
    let evaluation = |of: &str, ending: &str| {
        let name = format!("evaluation_metrics{of_split}{of}.{ending}");
        args.run.join(name)
    };
    let (of, words) = evaluations
        .into_iter()
        .find(|(of, _)| evaluation(of, "csv").exists())
        .unwrap_or_default();
    let metrics = fs::read_to_string(evaluation(of, "csv")).ok();
    let caption = format!("Metrics on {}{words}", args.split);
    let table = metrics.map(|csv| html_table(&caption, &csv));
    let table = table.unwrap_or_default();
    let targets = targets::section(&evaluation(of, "json"))?;
    let section = |title: &str, svg: &Option<String>| match svg {
        Some(svg) => format!("<h2>{title}</h2>{svg}"),
        None => String::new(),
    };
    let page = format!(
        "<!doctype html><meta charset=\"utf-8\"><title>{0}</title><body style=\"font-family:sans-serif;max-width:920px;\
         margin:2em auto\"><h1>{0}</h1>{table}{1}{2}{3}</body>\n",
        args.run.display(),
        section(&format!("Targets on {}{words}", args.split), &targets),
        section("Training", &curves),
        section(&format!("Predictions on {}", args.split), &genome),
    );
    let files = [
        ("curves.svg", curves.as_ref()),
        ("genome.svg", genome.as_ref()),
        ("report.html", Some(&page)),
    ];
    for (name, text) in files {
        let Some(text) = text else { continue };
        let path = args.run.join(name);
        write_atomically(&path, text.as_bytes())
            .with_context(|| format!("writing {}", path.display()))?;
    }
    println!("report {}", args.run.join("report.html").display());
    Ok(())
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
    ensure!(!train.is_empty(), "{}: no step is logged", run.display());

    let x = (0.0, train.last().expect("not empty").0);
    let losses = || {
        train
            .iter()
            .chain(&valid)
            .map(|point| point.1)
            .filter(|&loss| loss > 0.0)
    };
    let y = (
        losses().fold(f64::INFINITY, f64::min),
        losses().fold(0.0, f64::max),
    );
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
    svg.line(&loss, valid.iter().copied(), ORANGE, 2.0);
    let training = format!("training ({}, smoothed)", word(minimised));
    svg.text(880.0, 42.0, "end", BLUE, &training);
    svg.text(880.0, 58.0, "end", ORANGE, "validation (cross-entropy)");
    let scores = Panel {
        top: 220.0,
        height: 175.0,
        x,
        y: (0.0, 1.0),
        log: false,
    };
    svg.frame(&scores, "validation scores");
    let drawn = SCORES.iter().map(|name| (name, score(name)));
    let drawn = drawn.filter(|(_, points)| !points.is_empty());
    for (row, ((name, points), colour)) in drawn.zip([BLUE, ORANGE, GREEN]).enumerate() {
        svg.line(&scores, points, colour, 2.0);
        svg.text(880.0, 345.0 + 16.0 * row as f64, "end", colour, name);
    }
    svg.x_axis(&scores, "step", ("0", &format!("{}", x.1)));
    Ok(svg.finish())
}

/// Exponential mean over about 20 steps.
fn smooth(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let mut mean = points[0].1;
    points
        .iter()
        .map(|&(x, y)| {
            mean += (y - mean) / 20.0;
            (x, mean)
        })
        .collect()
}

/// Signal, labels and predictions along the stretch of the split that holds most positives; none where labels are
/// classes.
fn genome(args: &ReportArgs, data: &Path) -> Result<Option<String>> {
    let windows = Windows::open(data, &args.split)?;
    if windows.io().classes > 1 {
        return Ok(None);
    }
    let path = args.run.join(format!("predictions_{}.h5", args.split));
    let predictions = PredictionFile::open(&path)
        .context("drawing needs predictions: run `tfbind-mpi predict` first")?;
    let (header, loci) = (&windows.header, windows.loci()?);
    let length = header.length;
    let rows: Vec<Draw> = (0..windows.num_rows() as u32).map(Draw::from).collect();
    let positives: Vec<usize> = rows
        .iter()
        .map(|row| {
            Ok(windows
                .read(&[*row])?
                .label
                .iter()
                .filter(|&&label| label > 0)
                .count())
        })
        .collect::<Result<_>>()?;
    let span = VIEW.div_ceil(length).min(rows.len());
    let touching = |first: usize| {
        (first..first + span - 1).all(|row| {
            loci[row].contig == loci[row + 1].contig
                && loci[row].start + length as i64 == loci[row + 1].start
        })
    };
    // Few positives leave room to see what else the model reacts to; many show more sites. Take the richest stretch.
    let first = (0..=rows.len() - span)
        .filter(|&first| touching(first))
        .max_by_key(|&first| positives[first..first + span].iter().sum::<usize>())
        .unwrap_or(0);
    let span = if touching(first) { span } else { 1 };
    let shown = windows.read(&rows[first..first + span])?;
    let (contig, start) = (
        &header.contigs[loci[first].contig as usize],
        loci[first].start as f64,
    );

    let tracks = header.tracks.len();
    let targets = header.targets.len().min(4);
    // Bases that a label speaks for.
    let scale = length as f64 / header.label_len() as f64;
    let mut svg = Svg::new(25.0 + (85 * tracks + 150 * targets) as f64);
    let x = (start, start + (span * length) as f64);
    let mut top = 25.0;
    let mut next = |y: (f64, f64), height: f64| {
        let panel = Panel {
            top,
            height,
            x,
            y,
            log: false,
        };
        top += height + 25.0;
        panel
    };
    for (track, name) in header.tracks.iter().enumerate() {
        let values =
            (0..span).flat_map(|w| &shown.signal[(w * tracks + track) * length..][..length]);
        let points: Vec<_> = values
            .enumerate()
            .map(|(i, value)| (start + i as f64, f64::from(value.to_f32())))
            .collect();
        let panel = next(
            (0.0, points.iter().map(|point| point.1).fold(1e-3, f64::max)),
            60.0,
        );
        svg.frame(
            &panel,
            &format!("{name} (normalised: {})", header.normalise),
        );
        svg.area(&panel, &points, GREEN);
    }
    let predicted = predictions.loci()?;
    for (target, name) in header.targets.iter().take(targets).enumerate() {
        let panel = next((0.0, 1.0), 25.0);
        svg.frame(&panel, &format!("{name}: bound (label)"));
        for (w, locus) in (0..span).map(|w| (w, &loci[first + w])) {
            let label = &shown.label[(w * header.targets.len() + target) * header.label_len()..]
                [..header.label_len()];
            for run in runs(label) {
                let at = |i: usize| locus.start as f64 + i as f64 * scale;
                svg.span(&panel, at(run.0), at(run.1), ORANGE);
            }
        }
        let panel = next((0.0, 1.0), 75.0);
        svg.frame(&panel, &format!("{name}: predicted probability"));
        for locus in &loci[first..first + span] {
            let row = predicted.iter().position(|of| of == locus);
            let row = row.with_context(|| format!("{}: made from other data", path.display()))?;
            let values = predictions.read_rows(row..row + 1)?;
            let values = &values[target * header.label_len()..][..header.label_len()];
            let points: Vec<_> = values
                .iter()
                .enumerate()
                .flat_map(|(i, &p)| {
                    let edges = [i, i + 1].map(|edge| locus.start as f64 + edge as f64 * scale);
                    edges.map(|edge| (edge, f64::from(p)))
                })
                .collect();
            svg.area(&panel, &points, BLUE);
        }
        let ends = (format!("{}", x.0), format!("{}", x.1));
        svg.x_axis(&panel, &contig.name, (&ends.0, &ends.1));
    }
    Ok(Some(svg.finish()))
}

/// Runs of positives as half-open ranges.
fn runs(label: &[i8]) -> Vec<(usize, usize)> {
    let mut runs: Vec<(usize, usize)> = Vec::new();
    for i in (0..label.len()).filter(|&i| label[i] > 0) {
        match runs.last_mut() {
            Some(run) if run.1 == i => run.1 = i + 1,
            _ => runs.push((i, i + 1)),
        }
    }
    runs
}

fn html_table(caption: &str, csv: &str) -> String {
    let row = |line: &str, cell: &str| -> String {
        line.split(',')
            .map(|value| {
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
        "<table border=\"1\" style=\"border-collapse:collapse\"><caption>{caption}</caption>{rows}</table>"
    )
}
