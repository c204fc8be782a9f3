//! What came out: sweep.csv, the same to read, and sweep.svg, best trial first.

use std::collections::BTreeMap;

use anyhow::Result;

use super::{
    ledger::{Outcome, Task},
    picture, space,
    study::{Study, order},
};
use crate::{
    checkpoint::{Progress, write_atomically},
    metrics::{quoted, shown},
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
    /// Of the trials that differ in the seed alone.
    seeds: Option<Seeds>,
}

/// Trials that differ in the seed alone.
#[derive(Clone, Copy)]
struct Seeds {
    /// Of those that came to their end with a value; none where none did.
    spread: Option<Spread>,
    /// How many did, of how many.
    ended: usize,
    all: usize,
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
            let mean = |row: &Row| Some(row.seeds?.spread?.mean);
            // A mean of the seeds that did well is no better than one of all.
            let lacks = |row: &Row| row.seeds.is_some_and(|of| of.ended < of.all);
            let metric = study.metric;
            rank(a)
                .cmp(&rank(b))
                .then(lacks(a).cmp(&lacks(b)))
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
            write_atomically(&path, text.as_bytes())?;
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
        names.extend(if seeds { &["mean", "sd", "n"][..] } else { &[] });
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
                let spread = row.seeds.and_then(|of| of.spread);
                cells.push(or_dash(spread.map(|of| format!("{:.6}", of.mean))));
                cells.push(or_dash(
                    spread.and_then(|of| Some(format!("{:.6}", of.sd?))),
                ));
                cells.push(or_dash(row.seeds.map(|of| of.ended.to_string())));
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

    /// Trials that cannot go on.
    pub fn failed(&self) -> usize {
        let failed = self.rows.iter().filter(|row| row.state == State::Failed);
        failed.count()
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
        let (failed, all) = (self.failed(), self.rows.len());
        if failed > 0 {
            out += &format!("{failed} of {all} trials failed\n");
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
    let mut values: BTreeMap<String, (Vec<f64>, usize)> = BTreeMap::new();
    for row in rows.iter() {
        let (values, all) = values.entry(rest(row)).or_default();
        // What a trial had before it failed says nothing of where its setting leads.
        values.extend(row.value().filter(|_| row.state == State::Done));
        *all += 1;
    }
    for row in rows.iter_mut() {
        let (values, all) = &values[&rest(row)];
        row.seeds = Some(Seeds {
            spread: (!values.is_empty()).then(|| Spread::of(values)),
            ended: values.len(),
            all: *all,
        });
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::sweep::study::{
        Rung,
        tests::{outcome, study},
    };

    /// Two rates with two seeds each.
    fn four(run: &std::path::Path) -> Study {
        let rungs = vec![Rung {
            trials: 4,
            epochs: None,
        }];
        let mut study = study(run.into(), 4, rungs);
        for (number, trial) in study.trials.iter_mut().enumerate() {
            let (lr, seed) = (number / 2 + 1, number % 2 + 1);
            trial.tried = toml::from_str(&format!("lr = {lr}.0\nseed = {seed}")).unwrap();
        }
        study
    }

    fn outcomes(all: [Option<Outcome>; 4]) -> BTreeMap<Task, Outcome> {
        let all = all.into_iter().enumerate();
        all.filter_map(|(trial, of)| Some((Task { rung: 0, trial }, of?)))
            .collect()
    }

    fn failed(best: Option<f64>) -> Option<Outcome> {
        Some(Outcome {
            failed: Some("out of memory".into()),
            ..outcome(best)
        })
    }

    #[test]
    fn a_trial_without_a_log_leaves_table_and_picture_whole() {
        let folder = tempfile::tempdir().unwrap();
        let study = four(folder.path());
        let line = r#"{"event": "evaluation", "step": 4, "best": 0.5}"#;
        fs::create_dir(study.folder(0)).unwrap();
        fs::write(study.folder(0).join("metrics.jsonl"), format!("{line}\n")).unwrap();
        // One whose memory ran out while its model was built, and one whose folder was removed.
        let all = outcomes([
            Some(outcome(Some(0.5))),
            failed(None),
            Some(outcome(Some(0.4))),
            None,
        ]);
        Table::new(&study, &all).write().unwrap();
        let csv = fs::read_to_string(folder.path().join("sweep.csv")).unwrap();
        assert!(
            csv.contains("failed") && csv.contains("out of memory"),
            "{csv}"
        );
        let picture = fs::read_to_string(folder.path().join("sweep.svg")).unwrap();
        // The one curve, and two points in each of the two panels below.
        assert_eq!(picture.matches("<circle").count(), 5, "{picture}");
    }

    #[test]
    fn a_failed_trial_is_crossed_out_and_counted_and_in_no_mean() {
        let folder = tempfile::tempdir().unwrap();
        let study = four(folder.path());
        let line = r#"{"event": "evaluation", "step": 4, "best": 0.9}"#;
        fs::create_dir(study.folder(1)).unwrap();
        fs::write(study.folder(1).join("metrics.jsonl"), format!("{line}\n")).unwrap();
        let done = || Some(outcome(Some(0.5)));
        let all = outcomes([done(), failed(Some(0.9)), done(), done()]);
        let table = Table::new(&study, &all);
        let text = table.text();
        assert!(text.contains("\n1 of 4 trials failed\n"), "{text}");
        let picture = picture::draw(&table).unwrap();
        // At the end of its curve, and in each of the two panels.
        assert_eq!(picture.matches('×').count(), 3, "{picture}");
        let means = picture
            .lines()
            .filter(|line| line.contains("stroke=\"#999\""));
        let means: Vec<&str> = means.map(|line| line.split('"').nth(1).unwrap()).collect();
        assert_eq!(means.len(), 2, "{picture}");
        for path in means {
            let points = path.split(['M', 'L']);
            let heights: Vec<&str> = points.filter_map(|of| of.split(' ').nth(1)).collect();
            assert_eq!(heights[0], heights[1], "{path}");
        }
    }

    #[test]
    fn a_setting_whose_seeds_did_not_all_end_comes_last() {
        let folder = tempfile::tempdir().unwrap();
        let study = four(folder.path());
        let done = |best| Some(outcome(Some(best)));
        for other in [failed(Some(0.95)), None] {
            let all = outcomes([done(0.9), other, done(0.5), done(0.7)]);
            let table = Table::new(&study, &all);
            let trials: Vec<usize> = table.rows.iter().map(|row| row.trial).collect();
            assert_eq!(trials, [3, 2, 0, 1]);
            let (names, cells) = table.cells();
            let column = |name: &str| {
                let at = names.iter().position(|of| of == name).unwrap();
                cells.iter().map(|row| row[at].clone()).collect::<Vec<_>>()
            };
            assert_eq!(column("n"), ["2", "2", "1", "1"]);
            // What the failed one had before does not count.
            assert_eq!(
                column("mean"),
                ["0.600000", "0.600000", "0.900000", "0.900000"]
            );
        }
    }
}
