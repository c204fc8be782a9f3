//! Several targets and labels that are classes: metrics of each, the same on any number of ranks.

mod explain;
mod report;

use std::{fs, path::Path};

use serde_json::Value;
use tfbind_mpi::{sampler::SplitMix, scaling::random_header};
use tfbind_prep::schema::{
    Central, ContextWriter, DataWriter, Header, Locus, PredictionFile, Stretch, Task, Window,
};

use crate::common::{LENGTH, Run};

const TARGETS: [Target; 5] = [
    ("a", "TF", &[1, 0, 1, 2, 3, 2]),
    ("b,1", "TF", &[0, 0, 0, 2, 2, 2]),
    ("c", "DNase", &[3, 3, 1, 1, 0, 0]),
    ("d", "DNase", &[2, 1, 2, 1, 2, 1]),
    ("never", "histone", &[]),
];

/// Name, group, word.
type Target = (&'static str, &'static str, &'static [u8]);

/// One label a window and target: whether its word stands in the window; now and then masked.
fn write_targets(path: &Path) {
    write_these(path, &TARGETS);
}

fn write_these(path: &Path, targets: &[Target]) {
    let words = |of: fn(&Target) -> String| targets.iter().map(of).collect();
    let header = Header {
        task: Task::PerWindow,
        tracks: Vec::new(),
        targets: words(|target| target.0.to_string()),
        groups: words(|target| target.1.to_string()),
        ..random_header(LENGTH)
    };
    let mut writer = DataWriter::create(path, &header, true).unwrap();
    let splits = [("train", 96), ("valid", 30), ("test", 37)];
    let all = splits
        .iter()
        .flat_map(|&(split, count)| vec![split; count])
        .enumerate();
    for (row, split) in all {
        let mut random = SplitMix::keyed(&[row as u64, 3]);
        let mut seq: Vec<u8> = (0..LENGTH).map(|_| random.below(4) as u8).collect();
        let mut label = vec![0; targets.len()];
        for (target, (_, _, word)) in targets.iter().enumerate() {
            if !word.is_empty() && random.below(2) == 1 {
                let at = 15 * target + random.below(9) as usize;
                seq[at..at + word.len()].copy_from_slice(word);
                label[target] = 1;
            }
            if random.below(12) == 0 {
                label[target] = -1;
            }
        }
        let locus = Locus {
            contig: 0,
            start: (row * LENGTH) as i64,
            strand: 1,
        };
        let signal = Vec::new();
        let window = Window {
            seq,
            signal,
            label,
            locus,
        };
        writer.push(split, &window).unwrap();
    }
    writer.finish().unwrap();
}

/// Windows around every base but the first and last 32 of three stretches, in which an A follows a C and in the lower
/// case, a repeat, everything repeats.
fn write_bases(path: &Path) {
    let header = Header {
        task: Task::Central(Central::Base),
        length: 2 * 32 + 1,
        tracks: Vec::new(),
        targets: vec!["base".into()],
        groups: vec![String::new()],
        ..random_header(LENGTH)
    };
    let mut writer = ContextWriter::create(path, &header).unwrap();
    for (number, (split, bases)) in [("train", 400u64), ("valid", 120), ("test", 133)]
        .into_iter()
        .enumerate()
    {
        let start = 1000 * number as u64;
        let stretch = Stretch {
            contig: 0,
            start,
            bases,
        };
        writer.add_split(split, vec![stretch], None).unwrap();
        let mut random = SplitMix::keyed(&[number as u64]);
        let mut codes: Vec<u8> = Vec::new();
        for at in 0..bases {
            let code = match (at > bases / 2, codes.last()) {
                (true, _) => 0x80 | (at % 4) as u8,
                (false, Some(1)) => 0,
                (false, _) => random.below(4) as u8,
            };
            codes.push(code);
        }
        writer.append(split, &codes).unwrap();
    }
    writer.finish().unwrap();
}

/// What was printed and written by evaluate on 1, 2 and 4 ranks, which must be the same.
fn evaluated(run: &mut Run, name: &str) -> (String, String, Value) {
    let mut all = Vec::new();
    for ranks in [1, 2, 4] {
        let said = run
            .ranks(ranks)
            .ok(&["evaluate", name, "--eval-batch", "5", "--device", "cpu"]);
        // What comes before says where ranks run.
        let (_, said) = said.split_once("\n\n").unwrap();
        let read = |file: &str| fs::read_to_string(run.path(name).join(file)).unwrap();
        let json: Value = serde_json::from_str(&read("evaluation_metrics.json")).unwrap();
        all.push((said.to_string(), read("evaluation_targets.csv"), json));
    }
    let [one, two, four] = all.try_into().unwrap();
    for other in [two, four] {
        assert_eq!(one.0, other.0);
        assert_eq!(one.1, other.1);
        let (own, of) = (&one.2["metrics"], &other.2["metrics"]);
        for (metric, value) in own.as_object().unwrap() {
            let near = |a: f64, b: f64| (a - b).abs() < 1e-9;
            match (value.as_f64(), of[metric].as_f64()) {
                (Some(a), Some(b)) => assert!(near(a, b), "{metric}: {a} and {b}"),
                (a, b) => assert_eq!(a, b, "{metric}"),
            }
        }
    }
    one
}

#[test]
fn every_target_has_its_metrics_and_those_without_positives_are_left_out() {
    let mut run = Run::new();
    write_targets(&run.path("data.h5"));
    let plan = [
        "--arch",
        "tal1",
        "--epochs",
        "12",
        "--lr",
        "0.03",
        "--global-batch",
        "8",
        "--metric",
        "median_auroc",
    ];
    let said = run.ranks(2).train("run", &plan);
    assert!(said.contains("best by  median_auroc"), "{said}");
    let (said, csv, json) = evaluated(&mut run, "run");

    let lines: Vec<&str> = csv.lines().collect();
    assert_eq!(lines.len(), 1 + TARGETS.len(), "{csv}");
    assert!(
        lines[0].starts_with("target,group,positives,negatives,loss,pr_auc,"),
        "{csv}"
    );
    assert!(lines[2].starts_with("\"b,1\",TF,"), "{csv}");
    assert!(lines[5].starts_with("never,histone,0,"), "{csv}");
    assert_eq!(
        json["targets"]["undefined"],
        serde_json::json!(["never"]),
        "{json}"
    );
    assert!(
        said.contains("1 left out, as all known labels are the same: never"),
        "{said}"
    );

    // The medians are those of the four that are defined: the mean of the middle two.
    let each = json["targets"]["each"].as_array().unwrap();
    let mut aurocs: Vec<f64> = each.iter().filter_map(|of| of["auroc"].as_f64()).collect();
    assert_eq!(aurocs.len(), 4);
    aurocs.sort_by(f64::total_cmp);
    let metric = |name: &str| json["metrics"][name].as_f64().unwrap();
    assert!((metric("median_auroc") - (aurocs[1] + aurocs[2]) / 2.0).abs() < 1e-12);
    assert!(metric("median_auroc") > 0.6, "it learned: {aurocs:?}");
    let sum = |name: &str| {
        each.iter()
            .map(|of| of[name].as_u64().unwrap())
            .sum::<u64>()
    };
    assert_eq!(
        Some(sum("positives")),
        json["metrics"]["positives"].as_u64()
    );
    assert_eq!(
        Some(sum("negatives")),
        json["metrics"]["negatives"].as_u64()
    );
    let log = fs::read_to_string(run.path("run/metrics.jsonl")).unwrap();
    assert!(log.contains("\"median_auroc\":0."), "{log}");

    let motif = ">a\nA 0 9 0 0 0 0\nC 9 0 9 0 0 0\nG 0 0 0 9 0 9\nT 0 0 0 0 9 0\n";
    fs::write(run.path("a.pfm"), motif).unwrap();
    let baseline = run.ok(&["evaluate", "run", "--motif", "a.pfm", "--device", "cpu"]);
    assert!(baseline.contains("a motif alone"), "{baseline}");
    run.ok(&["predict", "run", "--device", "cpu"]);
    run.ranks(1).ok(&["report", "run"]);
    let page = fs::read_to_string(run.path("run/report.html")).unwrap();
    for text in [
        "auroc of every target",
        "TF (2)",
        "DNase (2)",
        "histone (0)",
        "never",
    ] {
        assert!(page.contains(text), "{text}");
    }
}

#[test]
fn hidden_bases_are_scored_as_classes_inside_and_outside_of_repeats() {
    let mut run = Run::new();
    write_bases(&run.path("data.h5"));
    let plan = ["--arch", "tal1", "--epochs", "4", "--lr", "0.01"];
    let said = run.ranks(2).train("run", &plan);
    assert!(said.contains("best by  accuracy"), "{said}");
    let (said, csv, json) = evaluated(&mut run, "run");

    let windows = 133 - 64;
    let metric = |name: &str| json["metrics"][name].as_f64().unwrap();
    let confusion = json["confusion"].as_array().unwrap();
    let of = |label: usize, called: usize| confusion[label][called].as_u64().unwrap();
    let all: u64 = (0..16).map(|i| of(i / 4, i % 4)).sum();
    let right: u64 = (0..4).map(|i| of(i, i)).sum();
    assert_eq!(all, windows);
    assert!((metric("accuracy") - right as f64 / all as f64).abs() < 1e-12);
    // Of the test windows those whose centre lies beyond the middle of 133 bases: 67..101 of 32..101.
    assert!((metric("repeat_share") - 34.0 / 69.0).abs() < 1e-12);
    let (outside, inside) = (metric("accuracy_non_repeat"), metric("accuracy_repeat"));
    let together = (35.0 * outside + 34.0 * inside) / 69.0;
    assert!((together - metric("accuracy")).abs() < 1e-12);
    assert!(
        said.contains("majority_accuracy ") && said.contains("label \\ called"),
        "{said}"
    );
    assert!(
        csv.starts_with("target,group,labels_0,labels_1,labels_2,labels_3,loss,"),
        "{csv}"
    );

    for ranks in [1, 2] {
        let out = format!("p{ranks}.h5");
        run.ranks(ranks)
            .ok(&["predict", "run", "--out", &out, "--device", "cpu"]);
    }
    let read = |name: &str| {
        let file = PredictionFile::open(run.path(name)).unwrap();
        assert_eq!(
            file.header().targets,
            ["base A", "base C", "base G", "base T"]
        );
        file.read_rows(0..file.len()).unwrap()
    };
    let probabilities = read("p1.h5");
    assert!(probabilities == read("p2.h5"));
    assert_eq!(probabilities.len(), 4 * windows as usize);
    for row in probabilities.chunks(4) {
        assert!((row.iter().sum::<f32>() - 1.0).abs() < 1e-5, "{row:?}");
    }
    run.ranks(1).ok(&["report", "run"]);
    let page = fs::read_to_string(run.path("run/report.html")).unwrap();
    assert!(page.contains("majority_accuracy") && !page.contains("Predictions on"));
}

/// A small model of several targets, trained a little.
fn trained() -> Run {
    let run = Run::new();
    write_targets(&run.path("data.h5"));
    let plan = ["--arch", "tal1", "--epochs", "1", "--metric", "loss"];
    run.train("run", &plan);
    run
}

#[test]
fn targets_in_another_order_are_refused_and_others_altogether_said() {
    let run = trained();
    let mut swapped = TARGETS;
    swapped.swap(0, 2);
    write_these(&run.path("swapped.h5"), &swapped);
    for command in ["evaluate", "predict", "explain"] {
        let error = run.fails(&[command, "run", "--data", "swapped.h5", "--device", "cpu"]);
        assert!(
            error.contains("swapped.h5: its targets are") && error.contains("in the order"),
            "{error}"
        );
    }
    let mut others = TARGETS;
    others[0].0 = "z";
    write_these(&run.path("others.h5"), &others);
    let said = run.ok(&["evaluate", "run", "--data", "others.h5", "--device", "cpu"]);
    assert!(said.contains("note: trained on a, b,1"), "{said}");
}

#[test]
fn evaluations_that_differ_in_an_option_lie_side_by_side() {
    let run = Run::new();
    run.write_data(8, |_, _| {});
    run.train("run", &["--arch", "cnn", "--epochs", "1"]);
    for (options, name) in [
        (&[][..], ""),
        (&["--bin", "16"], "_bin16"),
        (&["--bin", "16", "--bin-score", "mean"], "_bin16_mean"),
        (
            &["--bin", "16", "--bin-label", "half", "--both-strands"],
            "_bin16_half_both_strands",
        ),
        (
            &["--split", "valid", "--both-strands"],
            "_valid_both_strands",
        ),
    ] {
        let name = format!("run/evaluation_metrics{name}.json");
        assert!(!run.path(&name).exists(), "{name}");
        run.ok(&[&["evaluate", "run", "--device", "cpu"], options].concat());
        let text = fs::read_to_string(run.path(&name)).unwrap();
        let json: Value = serde_json::from_str(&text).unwrap();
        let typed = |option: &str, usual: &str| {
            let at = options.iter().position(|of| *of == option);
            let bins = options.contains(&"--bin");
            bins.then(|| at.map_or(usual, |at| options[at + 1]).to_string())
        };
        assert_eq!(
            json["bin_score"].as_str(),
            typed("--bin-score", "max").as_deref()
        );
        assert_eq!(
            json["bin_label"].as_str(),
            typed("--bin-label", "any").as_deref()
        );
        assert_eq!(json["both_strands"], options.contains(&"--both-strands"));
    }
}

#[test]
fn a_metric_that_the_labels_do_not_have_is_refused() {
    let mut run = Run::new();
    run.write_data(8, |_, _| {});
    write_targets(&run.path("targets.h5"));
    write_bases(&run.path("bases.h5"));
    for (data, arch, metric, says) in [
        ("data.h5", "cnn", "accuracy", "for labels of windows"),
        (
            "data.h5",
            "cnn",
            "median_auroc",
            "over targets, but there is one",
        ),
        ("bases.h5", "tal1", "auroc", "these are classes"),
    ] {
        let error = run.fails(&[
            "train", "--data", data, "--run", "no", "--arch", arch, "--metric", metric,
        ]);
        assert!(error.contains(says), "{error}");
    }
    for metric in ["balanced_accuracy", "median_average_precision"] {
        run.ranks(2).ok(&[
            "train",
            "--data",
            "targets.h5",
            "--run",
            metric,
            "--arch",
            "tal1",
            "--metric",
            metric,
            "--epochs",
            "1",
            "--device",
            "cpu",
        ]);
    }
}
