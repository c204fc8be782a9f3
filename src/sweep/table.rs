//! What came out: sweep.csv, the same to read, and sweep.svg, best trial first.

use std::collections::BTreeMap;

use anyhow::{Context, Result};

use super::{
    ledger::{Outcome, Task},
    picture, space,
    study::{Study, order},
};
use crate::{
    checkpoint::{Progress, write_atomically},
    metrics::shown,
    scaling::Spread,
};

/// What a trial is repeated over.
const SEED: &str = "seed";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    Done,
    /// Left behind by halving.
    Left,
    Failed,
    /// Not trained yet, or not to its end.
    Open,
}

pub struct Row<'a> {
    pub trial: usize,
    pub state: State,
    /// Of the furthest rung.
    pub rung: usize,
    pub outcome: Option<&'a Outcome>,
    /// Over the trials that differ in the seed alone.
    pub seeds: Option<Spread>,
}

impl Row<'_> {
    pub fn value(&self) -> Option<f64> {
        self.outcome?.progress.best
    }
}

pub struct Table<'a> {
    pub study: &'a Study,
    pub rows: Vec<Row<'a>>,
    /// Settings that were searched.
    pub fields: Vec<&'a str>,
}

impl<'a> Table<'a> {
    pub fn new(study: &'a Study, outcomes: &'a BTreeMap<Task, Outcome>) -> Self {
        let all = 0..study.trials.len();
        let mut rows: Vec<Row> = all.map(|trial| row(study, outcomes, trial)).collect();
        let fields: Vec<&str> = study.trials[0].tried.keys().map(String::as_str).collect();
        if fields.contains(&SEED) && study.last_rung() == 0 {
            spread_over_seeds(study, &mut rows);
        }
        rows.sort_by(|a, b| {
            let rank = |row: &Row| match row.state {
                State::Failed => 1,
                State::Open if row.outcome.is_none() => 2,
                _ => 0,
            };
            let mean = |row: &Row| row.seeds.map(|of| of.mean);
            let metric = study.metric;
            rank(a)
                .cmp(&rank(b))
                .then(b.rung.cmp(&a.rung))
                .then(order(metric, mean(a), mean(b)))
                .then(order(metric, a.value(), b.value()))
        });
        Self {
            study,
            rows,
            fields,
        }
    }

    pub fn write(&self) -> Result<()> {
        for (name, text) in [
            ("sweep.csv", self.csv()),
            ("sweep.svg", picture::draw(self)?),
        ] {
            let path = self.study.run.join(name);
            write_atomically(&path, text.as_bytes())
                .with_context(|| format!("writing {}", path.display()))?;
        }
        Ok(())
    }

    /// Names of the columns, and the cells of each row.
    fn cells(&self) -> (Vec<String>, Vec<Vec<String>>) {
        let (halving, seeds) = (
            self.study.last_rung() > 0,
            self.rows.iter().any(|row| row.seeds.is_some()),
        );
        let mut names = vec!["trial", "state"];
        names.extend(halving.then_some("rung"));
        let metric = self.study.metric.name();
        names.push(&metric);
        names.extend(if seeds { &["mean", "sd"][..] } else { &[] });
        names.extend(["best_step", "step", "epochs", "seconds", "samples_per_s"]);
        names.extend(&self.fields);
        let cells = |row: &Row| {
            let progress = row.outcome.map(|of| &of.progress);
            let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".into());
            let of =
                |number: fn(&Progress) -> u64| or_dash(progress.map(|of| number(of).to_string()));
            let mut cells = vec![row.trial.to_string(), row.state.name().to_string()];
            cells.extend(halving.then(|| row.rung.to_string()));
            cells.push(or_dash(progress.map(|of| shown(of.best))));
            if seeds {
                let spread = row.seeds;
                cells.push(or_dash(spread.map(|of| format!("{:.6}", of.mean))));
                cells.push(or_dash(
                    spread.and_then(|of| Some(format!("{:.6}", of.sd?))),
                ));
            }
            cells.extend([of(|of| of.best_step), of(|of| of.step), of(|of| of.epoch)]);
            cells.push(or_dash(
                progress.map(|of| format!("{:.1}", of.training_seconds)),
            ));
            let speed = progress.filter(|of| of.training_seconds > 0.0);
            let speed = speed.map(|of| format!("{:.1}", of.samples as f64 / of.training_seconds));
            cells.push(or_dash(speed));
            let tried = &self.study.trials[row.trial].tried;
            cells.extend(self.fields.iter().map(|name| space::shown(&tried[*name])));
            cells
        };
        let names = names.into_iter().map(String::from).collect();
        (names, self.rows.iter().map(cells).collect())
    }

    /// With two columns more: the trial's folder, and why it failed.
    fn csv(&self) -> String {
        let (mut names, mut rows) = self.cells();
        names.extend(["run", "reason"].map(String::from));
        for (cells, row) in rows.iter_mut().zip(&self.rows) {
            cells.push(self.study.folder(row.trial).display().to_string());
            cells.push(row.reason().unwrap_or_default().into());
        }
        let line = |cells: &Vec<String>| {
            let quoted: Vec<String> = cells.iter().map(|cell| quoted(cell)).collect();
            quoted.join(",") + "\n"
        };
        std::iter::once(&names).chain(&rows).map(line).collect()
    }

    pub fn text(&self) -> String {
        let (names, rows) = self.cells();
        let lines = || std::iter::once(&names).chain(&rows);
        let widths: Vec<usize> = (0..names.len())
            .map(|at| lines().map(|cells| cells[at].len()).max().unwrap_or(0))
            .collect();
        let mut out = String::from("\n");
        for cells in lines() {
            let cells = cells.iter().zip(&widths);
            let padded: Vec<String> = cells
                .map(|(cell, &width)| format!("{cell:>width$}"))
                .collect();
            out += &(padded.join("  ") + "\n");
        }
        for row in &self.rows {
            if let Some(why) = row.reason() {
                out += &format!("trial {} failed: {why}\n", row.trial);
            }
        }
        let run = &self.study.run;
        out += &format!(
            "written {} {}\n",
            run.join("sweep.csv").display(),
            run.join("sweep.svg").display()
        );
        if let Some(best) = self.rows.first().filter(|row| row.value().is_some()) {
            let folder = self.study.folder(best.trial);
            out += &format!("best {}: tfbind-mpi evaluate {0}\n", folder.display());
        }
        out
    }
}

impl Row<'_> {
    fn reason(&self) -> Option<&str> {
        self.outcome?.failed.as_deref()
    }
}

impl State {
    pub fn name(self) -> &'static str {
        match self {
            State::Done => "done",
            State::Left => "left",
            State::Failed => "failed",
            State::Open => "open",
        }
    }
}

/// The trial as far as it came.
fn row<'a>(study: &Study, outcomes: &'a BTreeMap<Task, Outcome>, trial: usize) -> Row<'a> {
    let of = |rung: usize| outcomes.get(&Task { rung, trial });
    let furthest = (0..study.rungs.len())
        .rev()
        .find_map(|rung| Some((rung, of(rung)?)));
    let ended = |rung: usize| {
        let mut entrants = study.entrants(rung, outcomes).into_iter();
        entrants.all(|trial| outcomes.contains_key(&Task { rung, trial }))
    };
    let state = |rung: usize, outcome: &Outcome| match () {
        () if outcome.failed.is_some() => State::Failed,
        () if rung == study.last_rung() => State::Done,
        () if ended(rung) && !study.entrants(rung + 1, outcomes).contains(&trial) => State::Left,
        () => State::Open,
    };
    Row {
        trial,
        state: furthest.map_or(State::Open, |(rung, outcome)| state(rung, outcome)),
        rung: furthest.map_or(0, |(rung, _)| rung),
        outcome: furthest.map(|(_, outcome)| outcome),
        seeds: None,
    }
}

fn spread_over_seeds(study: &Study, rows: &mut [Row]) {
    let rest = |row: &Row| {
        let mut tried = study.trials[row.trial].tried.clone();
        tried.remove(SEED);
        tried.to_string()
    };
    let mut values: BTreeMap<String, Vec<f64>> = BTreeMap::new();
    for row in rows.iter() {
        values.entry(rest(row)).or_default().extend(row.value());
    }
    for row in rows.iter_mut() {
        let values = &values[&rest(row)];
        row.seeds = (!values.is_empty()).then(|| Spread::of(values));
    }
}

fn quoted(cell: &str) -> String {
    match cell.contains([',', '"', '\n']) {
        true => format!("\"{}\"", cell.replace('"', "\"\"")),
        false => cell.to_string(),
    }
}
