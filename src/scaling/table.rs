//! What comes out: a table to read, scaling.csv, scaling.json, scaling.svg.

use std::{collections::BTreeSet, env, path::Path, process::Command};

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::{
    Mode,
    measure::{Reach, Spread, Timed},
    model::Model,
    picture,
    points::{Point, Seen, Target, points, targets},
    study::{Job, Study},
};
use crate::{checkpoint::write_atomically, doctor::Measured};

pub struct Table {
    pub title: String,
    pub subtitle: String,
    pub points: Vec<Point>,
    pub targets: Vec<Target>,
    pub model: Model,
    rest: Value,
}

impl Table {
    pub fn new(
        study: &Study,
        machine: &[Measured],
        runs: &[(Job, Vec<Timed>)],
        targets: Vec<(usize, Vec<Reach>)>,
        model: Model,
    ) -> Result<Self> {
        let args = study.args;
        let whole = machine.last().context("the doctor measured nothing")?;
        let hosts: BTreeSet<&String> = whole.hosts.iter().collect();
        let title = format!(
            "{}, {} on {}",
            study.arch().name(),
            match &args.data {
                Some(data) => data.display().to_string(),
                None => format!("random windows of {} bases", study.io.length),
            },
            match hosts.len() {
                1 => whole.hosts[0].clone(),
                more => format!("{more} hosts"),
            }
        );
        let (program, commit) = (
            format!("tfbind-mpi {}", env!("CARGO_PKG_VERSION")),
            commit(),
        );
        let commit_or_none = commit
            .as_ref()
            .map_or(String::new(), |of| format!(", {of}"));
        let subtitle = format!(
            "{program}{commit_or_none}; {}; {} timed rounds of {} steps after {} of warm-up; the prediction starts from {}",
            cpu().unwrap_or_else(|| "unknown CPU".into()),
            args.repeats,
            args.steps,
            args.warmup,
            numbered(args.ranks[0]),
        );
        let rest = json!({
            "program": program, "commit": commit,
            "command": env::args().collect::<Vec<_>>(),
            "machine": {"hosts": hosts, "cpu": cpu(), "cores_of_a_host": whole.cores, "gpus": whole.gpus},
            "settings": study.described()?, "rounds": args.repeats,
            "su_rate": args.su_rate, "cpus_per_rank": args.cpus_per_rank, "doctor": machine,
        });
        Ok(Self {
            title,
            subtitle,
            points: points(study, runs, &model)?,
            targets: self::targets(study, targets),
            model,
            rest,
        })
    }

    pub fn write(&self, out: &Path) -> Result<()> {
        let mut json = self.rest.clone();
        json["model"] = serde_json::to_value(&self.model)?;
        json["points"] = serde_json::to_value(&self.points)?;
        json["targets"] = serde_json::to_value(&self.targets)?;
        print!("{}", self.text());
        let mut written = String::from("written");
        for (name, text) in [
            ("scaling.csv", self.csv()),
            ("scaling.json", serde_json::to_string_pretty(&json)? + "\n"),
            ("scaling.svg", picture::draw(self)),
        ] {
            let path = out.join(name);
            write_atomically(&path, text.as_bytes())?;
            written += &format!(" {}", path.display());
        }
        println!("{written}");
        Ok(())
    }

    fn text(&self) -> String {
        let mut out = String::from(
            "\n| mode   |  ranks | windows |    samples/s (sd) | predicted | efficiency (sd) | predicted | wait % | sums % | SU/million |\n\
             |--------|-------:|--------:|------------------:|----------:|----------------:|----------:|-------:|-------:|-----------:|\n",
        );
        let spread = |of: Spread, digits| match of.sd {
            Some(sd) => format!("{:.digits$} ({sd:.digits$})", of.mean),
            None => format!("{:.digits$}", of.mean),
        };
        let dash = || String::from("-");
        for point in &self.points {
            let seen = point.measured.as_ref();
            let predicted = point.predicted_here.unwrap_or(point.predicted);
            let share = |name: &str| {
                let phases = &seen?.phases;
                let share = phases.iter().find(|of| of.0 == name)?.1;
                Some(format!("{:.1}", 100.0 * share))
            };
            let su = match seen {
                Some(seen) => seen.su_per_million,
                None => point.predicted_su_per_million,
            };
            out += &format!(
                "| {:<6} | {:>6} | {:>7} | {:>17} | {:>9.1} | {:>15} | {:>9.3} | {:>6} | {:>6} | {:>10} |\n",
                point.mode.name(),
                format!(
                    "{}{}",
                    point.ranks,
                    if point.predicted_here.is_some() {
                        "*"
                    } else {
                        ""
                    }
                ),
                point.windows,
                seen.map_or_else(dash, |of| spread(of.samples_per_s, 1)),
                predicted.samples_per_s,
                seen.map_or_else(dash, |of| spread(of.efficiency, 3)),
                predicted.efficiency,
                share("wait").unwrap_or_else(dash),
                share("transfer").unwrap_or_else(dash),
                su.map_or_else(dash, |su| format!("{su:.2}")),
            );
        }
        if self
            .points
            .iter()
            .any(|point| point.predicted_here.is_some())
        {
            out +=
                "* more ranks than cores: predicted as taking turns, which costs nothing there\n";
        }
        for target in &self.targets {
            let (all, reached) = (
                target.seeds.len(),
                target
                    .seeds
                    .iter()
                    .filter(|of| of.seconds.is_some())
                    .count(),
            );
            let seconds = target.seconds.map_or_else(dash, |of| spread(of, 1) + " s");
            let su = target
                .su
                .map_or(String::new(), |su| format!(", {su:.2} SU"));
            out += &format!(
                "target on {}: {seconds}{su}, reached by {reached} of {all} seeds\n",
                numbered(target.ranks)
            );
        }
        for note in &self.model.notes {
            out += &format!("note: {note}\n");
        }
        out
    }

    fn csv(&self) -> String {
        let phases = self
            .points
            .iter()
            .find_map(|point| Some(&point.measured.as_ref()?.phases));
        let names: Vec<String> = phases
            .into_iter()
            .flatten()
            .map(|(name, _)| format!("share_{name}"))
            .collect();
        let mut out = format!(
            "mode,ranks,windows_per_rank,global_batch,samples_per_s,samples_per_s_sd,step_s,step_s_sd,efficiency,efficiency_sd,\
             predicted_hosts,predicted_samples_per_s,predicted_efficiency,predicted_here_samples_per_s,\
             predicted_here_efficiency,{},su_per_million_samples,predicted_su_per_million_samples,seconds_to_target,\
             seconds_to_target_sd,su_to_target\n",
            names.join(",")
        );
        let number =
            |value: Option<f64>| value.map_or(String::new(), |value| format!("{value:.6}"));
        for point in &self.points {
            let (seen, here) = (point.measured.as_ref(), point.predicted_here);
            let mut cells = vec![
                point.mode.name().to_string(),
                point.ranks.to_string(),
                point.windows.to_string(),
                point.global_batch.to_string(),
            ];
            for of in [
                |seen: &Seen| seen.samples_per_s,
                |seen: &Seen| seen.step_s,
                |seen: &Seen| seen.efficiency,
            ] {
                cells.push(number(seen.map(|seen| of(seen).mean)));
                cells.push(number(seen.and_then(|seen| of(seen).sd)));
            }
            cells.push(point.predicted.hosts.to_string());
            cells.push(number(Some(point.predicted.samples_per_s)));
            cells.push(number(Some(point.predicted.efficiency)));
            cells.push(number(here.map(|of| of.samples_per_s)));
            cells.push(number(here.map(|of| of.efficiency)));
            cells.extend((0..names.len()).map(|at| number(seen.map(|seen| seen.phases[at].1))));
            cells.push(number(seen.and_then(|seen| seen.su_per_million)));
            cells.push(number(point.predicted_su_per_million));
            // A run until a target holds the global batch, as strong does.
            let target = self
                .targets
                .iter()
                .find(|of| of.ranks == point.ranks && point.mode == Mode::Strong);
            let seconds = target.and_then(|of| of.seconds);
            cells.push(number(seconds.map(|of| of.mean)));
            cells.push(number(seconds.and_then(|of| of.sd)));
            cells.push(number(target.and_then(|of| of.su)));
            out += &(cells.join(",") + "\n");
        }
        out
    }
}

pub fn numbered(ranks: usize) -> String {
    match ranks {
        1 => "1 rank".into(),
        _ => format!("{ranks} ranks"),
    }
}

/// Of the checkout that this program lies in, if it does.
fn commit() -> Option<String> {
    let program = env::current_exe().ok()?;
    let folder = program.parent()?;
    let done = Command::new("git")
        .arg("-C")
        .arg(folder)
        .args(["describe", "--always", "--dirty"])
        .output()
        .ok()?;
    let name = String::from_utf8(done.stdout).ok()?;
    done.status.success().then(|| name.trim().to_string())
}

fn cpu() -> Option<String> {
    let text = std::fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = text.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim().to_string())
}
