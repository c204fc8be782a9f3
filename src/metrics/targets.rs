//! Metrics of several targets: each by itself, and their means and medians by group.

use std::fmt::Write;

use serde::Serialize;
use serde_json::{Value, json};

use super::{Metrics, shown};

/// Means and medians over targets of these are metrics of the data, named as here.
const OVER_TARGETS: [(&str, [&str; 2]); 5] = [
    ("pr_auc", ["mean_pr_auc", "median_pr_auc"]),
    (
        "average_precision",
        ["mean_average_precision", "median_average_precision"],
    ),
    ("auroc", ["mean_auroc", "median_auroc"]),
    ("accuracy", ["mean_accuracy", "median_accuracy"]),
    (
        "balanced_accuracy",
        ["mean_balanced_accuracy", "median_balanced_accuracy"],
    ),
];
/// Columns of the printed table.
const PRINTED: [&str; 4] = ["loss", "pr_auc", "average_precision", "auroc"];
const PRINTED_OF_CLASSES: [&str; 3] = ["loss", "accuracy", "balanced_accuracy"];
/// Names of undefined targets that are printed; the table has them all.
const NAMED: usize = 12;

/// Every target with its name, what it is one of, and its metrics.
pub struct Targets {
    rows: Vec<Target>,
}

#[derive(Serialize)]
struct Target {
    name: String,
    group: String,
    #[serde(flatten)]
    metrics: Metrics,
}

/// Adds mean and median over the targets whose labels can be told apart.
pub fn add_over_targets(metrics: &mut Metrics, by_target: &[Metrics]) {
    let defined = || by_target.iter().filter(|target| target.is_defined());
    for (of, [mean_name, median_name]) in OVER_TARGETS {
        if by_target[0].named().iter().any(|(name, _)| *name == of) {
            let values: Vec<f64> = defined().filter_map(|target| target.value(of)).collect();
            metrics.push(mean_name, mean(&values));
            metrics.push(median_name, median(values));
        }
    }
}

fn mean(values: &[f64]) -> Option<f64> {
    let sum: f64 = values.iter().sum();
    (!values.is_empty()).then(|| sum / values.len() as f64)
}

/// Of an even number of values the mean of the two in the middle.
fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() % 2 {
        0 => mean(&values[middle.saturating_sub(1)..(middle + 1).min(values.len())]),
        _ => Some(values[middle]),
    }
}

impl Targets {
    pub fn new(names: &[String], groups: &[String], metrics: Vec<Metrics>) -> Self {
        assert_eq!((names.len(), groups.len()), (metrics.len(), metrics.len()));
        let grouped = groups.iter().any(|group| !group.is_empty());
        let rows = names.iter().zip(groups).zip(metrics);
        let rows = rows.map(|((name, group), metrics)| Target {
            name: name.clone(),
            group: match group.as_str() {
                "" if grouped => "other".to_string(),
                group => group.to_string(),
            },
            metrics,
        });
        Self {
            rows: rows.collect(),
        }
    }

    /// In the order in which they first come.
    fn groups(&self) -> Vec<&str> {
        let mut groups: Vec<&str> = Vec::new();
        for row in &self.rows {
            if !groups.contains(&row.group.as_str()) {
                groups.push(&row.group);
            }
        }
        groups
    }

    /// Names of the targets whose labels are all the same, or all unknown.
    fn undefined(&self) -> Vec<&str> {
        let rows = self.rows.iter();
        let undefined = rows.filter(|row| !row.metrics.is_defined());
        undefined.map(|row| row.name.as_str()).collect()
    }

    fn columns(&self) -> Vec<&'static str> {
        let named = self.rows[0].metrics.named();
        named.iter().map(|(name, _)| *name).collect()
    }

    /// Of a group, or of all: how many targets are defined, and a summary of each metric over them.
    fn summary(
        &self,
        group: Option<&str>,
        summary: impl Fn(Vec<f64>) -> Option<f64>,
    ) -> (usize, Vec<(&'static str, Option<f64>)>) {
        let rows = self.rows.iter();
        let of_group = rows.filter(|row| group.is_none_or(|group| row.group == group));
        let defined: Vec<&Metrics> = of_group
            .map(|row| &row.metrics)
            .filter(|metrics| metrics.is_defined())
            .collect();
        let value = |name| defined.iter().filter_map(|of| of.value(name)).collect();
        let columns = self.columns().into_iter();
        let summaries = columns.map(|name| (name, summary(value(name))));
        (defined.len(), summaries.collect())
    }

    /// The groups, where there are several, then all.
    fn parts(&self) -> Vec<(&str, Option<&str>)> {
        let groups = self.groups();
        let several = groups.len() > 1;
        let parts = groups.into_iter().filter(|_| several);
        let parts = parts.map(|group| (group, Some(group)));
        parts.chain([("all", None)]).collect()
    }

    pub fn csv(&self) -> String {
        let classes = self.rows[0].metrics.labels.len();
        let mut out = "target,group,".to_string();
        match classes {
            2 => out += "positives,negatives",
            _ => {
                out += &(0..classes)
                    .map(|class| format!("labels_{class}"))
                    .collect::<Vec<_>>()
                    .join(",")
            }
        }
        for name in self.columns() {
            let _ = write!(out, ",{name}");
        }
        out.push('\n');
        for Target {
            name,
            group,
            metrics,
        } in &self.rows
        {
            let _ = write!(out, "{},{}", quoted(name), quoted(group));
            let mut labels = metrics.labels.clone();
            if classes == 2 {
                labels.reverse();
            }
            for count in labels {
                let _ = write!(out, ",{count}");
            }
            for (_, value) in metrics.named() {
                let _ = write!(out, ",{}", shown(*value));
            }
            out.push('\n');
        }
        out
    }

    pub fn json(&self) -> Value {
        let map = |values: Vec<(&'static str, Option<f64>)>| {
            let values = values
                .into_iter()
                .map(|(name, value)| (name.to_string(), json!(value)));
            Value::Object(values.collect())
        };
        let parts = self.parts().into_iter().map(|(name, group)| {
            let (targets, medians) = self.summary(group, median);
            let (_, means) = self.summary(group, |values| mean(&values));
            json!({"group": name, "targets": targets, "median": map(medians), "mean": map(means)})
        });
        json!({
            "groups": parts.collect::<Vec<_>>(), "undefined": self.undefined(), "each": self.rows,
        })
    }

    /// Medians by group, and the names of what is left out.
    pub fn table(&self) -> String {
        let printed: &[&str] = match self.rows[0].metrics.labels.len() {
            2 => &PRINTED,
            _ => &PRINTED_OF_CLASSES,
        };
        let mut out = format!("{:>16}  {:>7}", "medians of", "targets");
        for name in printed {
            let _ = write!(out, "  {name:>9}");
        }
        out.push('\n');
        for (name, group) in self.parts() {
            let (targets, medians) = self.summary(group, median);
            let _ = write!(out, "{name:>16}  {targets:>7}");
            for column in printed {
                let value = medians.iter().find(|(name, _)| name == column);
                let value = shown(value.and_then(|(_, value)| *value));
                let _ = write!(out, "  {value:>0$}", column.len().max(9));
            }
            out.push('\n');
        }
        let undefined = self.undefined();
        if !undefined.is_empty() {
            let named = &undefined[..undefined.len().min(NAMED)];
            let more = match undefined.len() - named.len() {
                0 => String::new(),
                more => format!(" and {more} more"),
            };
            let (count, names) = (undefined.len(), named.join(", "));
            let _ = writeln!(
                out,
                "{count} left out, as all known labels are the same: {names}{more}"
            );
        }
        out
    }
}

/// A field of a CSV file (RFC 4180).
pub(crate) fn quoted(text: &str) -> String {
    match text.contains([',', '"', '\n', '\r']) {
        true => format!("\"{}\"", text.replace('"', "\"\"")),
        false => text.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Shape, Tally};
    use super::*;

    /// Five targets, one of which has no positive label and one no negative; the AUROC of the others is 1, 0.5, 0.
    fn targets() -> (Targets, Metrics) {
        let shape = Shape {
            targets: 5,
            places: 1,
            classes: 1,
        };
        let mut tally = Tally::new(shape);
        let windows = [
            ([2.0, 1.0, -1.0, 0.0, 0.0], [1, 1, 1, 0, 1]),
            ([-2.0, 1.0, 1.0, 1.0, 1.0], [0, 0, 0, 0, 1]),
            ([0.0, 0.0, 0.0, 0.0, 0.0], [-1, -1, -1, 0, -1]),
        ];
        for (logits, labels) in windows {
            tally.add(&logits, &labels);
        }
        let words = |words: [&str; 5]| words.map(str::to_string);
        let names = words(["a", "b,\"b\"", "c", "none", "only"]);
        let groups = words(["TF", "DNase", "TF", "TF", ""]);
        let mut metrics = tally.metrics();
        add_over_targets(&mut metrics, &tally.by_target());
        (Targets::new(&names, &groups, tally.by_target()), metrics)
    }

    #[test]
    fn undefined_targets_are_named_and_not_averaged() {
        let (targets, pooled) = targets();
        assert_eq!(targets.undefined(), ["none", "only"]);
        let json = targets.json();
        assert_eq!(json["undefined"], json!(["none", "only"]));
        let auroc = |group: usize, of: &str| json["groups"][group][of]["auroc"].as_f64();
        assert_eq!(auroc(0, "median"), Some(0.5), "TF: 1 and 0");
        assert_eq!(auroc(1, "median"), Some(0.5), "DNase");
        assert_eq!(auroc(2, "median"), None, "a group of undefined targets");
        assert_eq!(
            (json["groups"][3]["targets"].as_u64(), auroc(3, "mean")),
            (Some(3), Some(0.5))
        );
        assert_eq!(pooled.value("median_auroc"), Some(0.5));
        assert_eq!(pooled.value("mean_auroc"), Some(0.5));
        let table = targets.table();
        assert!(
            table.ends_with("2 left out, as all known labels are the same: none, only\n"),
            "{table}"
        );
        assert!(table.contains("             all        3"), "{table}");
    }

    #[test]
    fn the_csv_has_a_line_for_each_target() {
        let (targets, _) = targets();
        let csv = targets.csv();
        let lines: Vec<&str> = csv.lines().collect();
        let head = "target,group,positives,negatives,loss,pr_auc,average_precision,auroc,binary_io_u,pr_auc_trapezoid,\
                    accuracy,balanced_accuracy,majority_accuracy,recall_at_fdr_5,recall_at_fdr_10,recall_at_fdr_20";
        assert_eq!(lines[0], head);
        assert!(lines[1].starts_with("a,TF,1,1,0."), "{csv}");
        assert!(lines[2].starts_with("\"b,\"\"b\"\"\",DNase,1,1,"), "{csv}");
        assert!(
            lines[4].starts_with("none,TF,0,3,") && lines[4].contains("undefined"),
            "{csv}"
        );
        assert_eq!(lines.len(), 6);
    }

    #[test]
    fn medians_of_even_and_odd_numbers() {
        assert_eq!(median(vec![]), None);
        assert_eq!(median(vec![3.0]), Some(3.0));
        assert_eq!(median(vec![3.0, 1.0]), Some(2.0));
        assert_eq!(median(vec![3.0, 9.0, 1.0]), Some(3.0));
    }
}
