//! Models of a base from its context, counted over ranks to the last one; golden.rs holds them beside PyTorch.

mod golden;

use std::fs;

use serde_json::Value;
use tfbind_mpi::{
    checkpoint::Checkpoint,
    counts::{Counter, Neighbours, Reading, Seen},
    sampler::SplitMix,
};
use tfbind_prep::schema::{Central, ContextWriter, Contig, Header, PredictionFile, Stretch, Task};

use crate::common::Run;

const FLANK: usize = 6;

/// A sequence whose next base mostly follows from the one before, so that there is something to count.
fn sequence(seed: u64, bases: usize) -> Vec<u8> {
    let mut random = SplitMix::keyed(&[seed]);
    let mut last = 0;
    let mut next = || {
        last = match random.below(3) {
            0 => random.below(4) as u8,
            _ => (last + 1) % 4,
        };
        last
    };
    (0..bases).map(|_| next()).collect()
}

/// Windows around every base of three sequences; returns that which trains.
fn write(run: &Run, name: &str, seed: u64, central: Central) -> Vec<u8> {
    let task = Task::Central(central);
    let splits = [("train", 700), ("valid", 90), ("test", 150)];
    let header = Header {
        task,
        length: 2 * FLANK + 1,
        margin: 0,
        genome: "made".into(),
        contigs: vec![Contig {
            name: "c".into(),
            size: 10_000,
        }],
        tracks: Vec::new(),
        targets: vec![task.to_string()],
        groups: vec![String::new()],
        normalise: "none".into(),
        missing: "none".into(),
        recipe: format!("seed = {seed}\n"),
        recipe_hash: format!("{seed:08}"),
    };
    let mut writer = ContextWriter::create(run.path(name), &header).unwrap();
    let mut train = Vec::new();
    for (number, (split, bases)) in splits.into_iter().enumerate() {
        let stretch = Stretch {
            contig: 0,
            start: 1000 * number as u64,
            bases: bases as u64,
        };
        writer.add_split(split, vec![stretch], None).unwrap();
        let codes = sequence(seed + number as u64, bases);
        writer.append(split, &codes).unwrap();
        if split == "train" {
            train = codes;
        }
    }
    writer.finish().unwrap();
    train
}

/// What a pass over all windows of a sequence counts.
fn counted(neighbours: Neighbours, codes: &[u8]) -> Seen {
    let reading = Reading {
        neighbours,
        gamma: 10.0,
    };
    let mut counter = Counter::new(reading, 4, Some(3));
    for window in codes.windows(2 * FLANK + 1) {
        let mut window = window.to_vec();
        let base = std::mem::replace(&mut window[FLANK], 4);
        counter.count(&window, base as i8);
    }
    counter.take_own()
}

fn table(run: &Run, name: &str) -> Seen {
    let checkpoint = Checkpoint::read(&run.path(name).join("last.safetensors")).unwrap();
    checkpoint.counted().unwrap().clone()
}

#[test]
fn ranks_in_any_number_count_the_same_also_cut_and_gone_on_with() {
    let mut run = Run::new();
    let codes = write(&run, "data.h5", 1, Central::Base);
    for (arch, option, bases, neighbours) in [
        ("kmer", "--kmer", "3", Neighbours::Around(3)),
        ("markov", "--markov-order", "5", Neighbours::Before(5)),
    ] {
        let expected = counted(neighbours, &codes);
        assert_eq!(expected.total(), 2 * (700 - 2 * FLANK as u64));
        let plan = ["--arch", arch, option, bases, "--global-batch", "64"];
        let mut reports = Vec::new();
        for ranks in [1, 2] {
            let name = format!("{arch}{ranks}");
            let out = run.ranks(ranks).train(&name, &plan);
            assert!(
                out.contains("counts  "),
                "the plan says what is counted: {out}"
            );
            assert_eq!(table(&run, &name), expected, "{name}");
            let text = fs::read_to_string(run.path(&name).join("metrics.jsonl")).unwrap();
            let evaluation = text
                .lines()
                .map(|line| serde_json::from_str::<Value>(line).unwrap());
            let mut evaluation = evaluation.filter(|line| line["event"] == "evaluation");
            reports.push(evaluation.next().unwrap()["valid"].clone());
        }
        assert_eq!(reports[0]["accuracy"], reports[1]["accuracy"]);
        assert!(
            reports[0]["accuracy"].as_f64().unwrap() > 0.5,
            "{reports:?}"
        );

        let cut = format!("{arch}-cut");
        run.ranks(2)
            .train(&cut, &[&plan[..], &["--stop-at", "4"]].concat());
        assert!(table(&run, &cut).total() < expected.total());
        let refused = run.ranks(1).fails(&["evaluate", &cut, "--split", "train"]);
        assert!(
            refused.contains("a part of the training windows"),
            "{refused}"
        );
        run.ranks(1).train(&cut, &["--resume"]);
        assert_eq!(table(&run, &cut), expected, "{cut}");
    }
}

#[test]
fn windows_that_were_counted_are_scored_without_themselves() {
    let mut run = Run::new();
    write(&run, "data.h5", 4, Central::Base);
    run.train("kmer", &["--arch", "kmer", "--kmer", "5"]);
    let accuracy = |run: &Run, split: &str| -> f64 {
        let out = run.ok(&["evaluate", "kmer", "--split", split]);
        let line = out.lines().find_map(|line| line.strip_prefix("accuracy "));
        line.unwrap().parse().unwrap()
    };
    let own = accuracy(&run, "train");
    // 5 bases on a side are seen once each in 700: by heart they would all be right.
    assert!(own < 0.95 && own > 0.4, "{own}");
    assert_eq!(accuracy(run.ranks(2), "train"), own);
    run.ranks(1);
    write(&run, "other.h5", 5, Central::Base);
    let others = ["evaluate", "kmer", "--split", "train", "--data", "other.h5"];
    let own = fs::read(run.path("kmer/evaluation_metrics_train.json")).unwrap();
    let said = run.ok(&others);
    assert!(
        said.contains("note: other.h5 was prepared otherwise"),
        "{said}"
    );
    assert!(
        run.path("kmer/evaluation_metrics_train_other.json")
            .exists()
    );
    let kept = fs::read(run.path("kmer/evaluation_metrics_train.json")).unwrap();
    assert!(kept == own, "other data do not overwrite the run's own");
    assert!(!run.ok(&others[..2]).contains("prepared otherwise"));
}

#[test]
fn counts_are_read_only_when_all_is_counted() {
    let run = Run::new();
    write(&run, "data.h5", 8, Central::Base);
    let kmer = ["--arch", "kmer", "--kmer", "2", "--global-batch", "64"];
    for (name, value) in [("eval-every", "2"), ("patience", "1"), ("target", "0.1")] {
        let typed = format!("--{name}");
        let error = run.fails(
            &[
                &["train", "--data", "data.h5", "--run", "run"],
                &kmer[..],
                &[&typed, value],
            ]
            .concat(),
        );
        assert!(error.contains(&typed), "{error}");
    }
    run.train("cut", &[&kmer[..], &["--stop-at", "4"]].concat());
    let mlp = ["--arch", "context-mlp", "--epochs", "1"];
    let beside = |name: &str| [&mlp[..], &["--kmer-input", name]].concat().join(" ");
    let error = run.fails(
        &format!("train --data data.h5 --run mlp {}", beside("cut"))
            .split(' ')
            .collect::<Vec<_>>(),
    );
    assert!(
        error.contains("only a part of its windows is counted; train --run")
            && error.contains("--resume first"),
        "{error}"
    );
    run.train("cut", &["--resume"]);
    run.train("mlp", &beside("cut").split(' ').collect::<Vec<_>>());
}

/// A plan names the run whose counts it reads, and what that counted.
#[test]
fn a_plan_takes_another_table_only_if_it_is_named() {
    let run = Run::new();
    write(&run, "data.h5", 8, Central::Base);
    run.train("kmer", &["--arch", "kmer", "--kmer", "2"]);
    run.train("markov", &["--arch", "markov", "--markov-order", "3"]);
    let mlp = ["--arch", "context-mlp", "--epochs", "1", "--kmer-input"];
    run.train("mlp", &[&mlp[..], &["kmer"]].concat());
    let again = ["--from", "mlp/plan.toml"];
    run.train("other", &[&again[..], &["--kmer-input", "markov"]].concat());
    assert_eq!(table(&run, "other"), table(&run, "markov"));
    run.train("same", &again);
    assert_eq!(table(&run, "same"), table(&run, "kmer"));

    fs::remove_dir_all(run.path("kmer")).unwrap();
    run.train("kmer", &["--arch", "kmer", "--kmer", "1"]);
    let typed = ["train", "--data", "data.h5", "--run", "late"];
    let error = run.fails(&[&typed[..], &again].concat());
    assert!(
        error.contains("counts --kmer 1, --kmer-gamma")
            && error.contains("the plan reads --kmer 2"),
        "{error}"
    );
    run.train("late", &[&again[..], &["--kmer-input", "kmer"]].concat());
    assert_eq!(table(&run, "late"), table(&run, "kmer"));

    // As a user writes it.
    let plan = "arch = \"context-mlp\"\nepochs = 1\nkmer_input = \"markov\"\n";
    fs::write(run.path("plan.toml"), plan).unwrap();
    run.train("written", &["--from", "plan.toml"]);
    assert_eq!(table(&run, "written"), table(&run, "markov"));
}

#[test]
fn labels_of_two_kinds_are_counted_on_both_strands() {
    let run = Run::new();
    for (name, central) in [("pair", Central::BasePair), ("purine", Central::Purine)] {
        write(&run, "data.h5", 6, central);
        run.train(name, &["--arch", "kmer", "--kmer", "2"]);
        let total = table(&run, name).total();
        assert_eq!(total, 2 * (700 - 2 * FLANK as u64), "{name}");
        run.ok(&["evaluate", name]);
    }
}

#[test]
fn what_has_no_meaning_for_counts_is_refused() {
    let run = Run::new();
    write(&run, "data.h5", 8, Central::Base);
    let base = ["train", "--data", "data.h5", "--run", "run", "--arch"];
    for (arguments, said) in [
        (&["kmer", "--epochs", "2"][..], "counts every window once"),
        (&["kmer", "--lr", "0.1"], "--lr has no meaning"),
        (&["kmer", "--l1", "0.1"], "--l1 has no meaning"),
        (&["kmer", "--l2", "0.1"], "--l2 has no meaning"),
        (&["markov", "--max-norm", "1"], "--max-norm has no meaning"),
        (&["kmer", "--rho", "0.9"], "--rho has no meaning"),
        (
            &["kmer", "--decay-rate", "1"],
            "--decay-rate has no meaning",
        ),
        (&["kmer", "--loss", "mse"], "--loss has no meaning"),
        (
            &["markov", "--init", "no.safetensors"],
            "--init has no meaning",
        ),
        (
            &["kmer", "--start-motifs", "no.pfm"],
            "--start-motifs has no meaning",
        ),
        (
            &["kmer", "--reverse-complement"],
            "both strands are counted",
        ),
        (&["kmer", "--kmer", "8"], "1 to 7"),
        (&["kmer", "--kmer", "7"], "wider windows"),
        (&["kmer", "--markov-order", "3"], "belongs to markov"),
        (&["kmer", "--engine", "libtorch"], "is counted"),
        (
            &["context-mlp", "--kmer", "3"],
            "belong to models that count",
        ),
    ] {
        let error = run.fails(&[&base[..], arguments].concat());
        assert!(error.contains(said), "{arguments:?}: {error}");
    }
    run.train("run", &["--arch", "kmer", "--kmer", "2"]);
    run.ok(&["train", "--run", "run", "--resume"]);
    let error = run.fails(&["train", "--run", "run", "--resume", "--kmer", "3"]);
    assert!(error.contains("a run goes on only as it began"), "{error}");
}

#[test]
fn counts_rest_on_the_bases_they_are_of_and_no_others() {
    let mut run = Run::new();
    write(&run, "data.h5", 9, Central::Base);
    run.train("kmer", &["--arch", "kmer", "--kmer", "2"]);
    let said = run.ok(&["explain", "kmer", "--windows", "5"]);
    assert!(
        said.contains("method occlusion: a table of counts"),
        "{said}"
    );
    let refused = run.fails(&["explain", "kmer", "--method", "gradient-input"]);
    assert!(
        refused.contains("a table of counts has no gradient"),
        "{refused}"
    );
    let refused = run.fails(&["explain", "kmer", "--steps", "4"]);
    assert!(refused.contains("not to occlusion"), "{refused}");
    let page = run.ranks(1).ok(&["report", "kmer"]);
    assert!(page.contains("report.html"), "{page}");
    let occlusion = [
        "explain",
        "kmer",
        "--method",
        "occlusion",
        "--windows",
        "20",
    ];
    run.ranks(2).ok(&occlusion);
    let file = PredictionFile::open(run.path("kmer/occlusion_test.h5")).unwrap();
    let lost = file.read_rows(0..20).unwrap();
    for at in 0..2 * FLANK + 1 {
        let largest = lost.iter().skip(at).step_by(2 * FLANK + 1);
        let largest = largest.fold(0.0, |largest: f32, lost| largest.max(lost.abs()));
        let counted = (1..=2).contains(&at.abs_diff(FLANK));
        assert_eq!(largest > 0.1, counted, "{at}: {largest}");
        assert!(counted || largest == 0.0, "{at}: {largest}");
    }
}

#[test]
fn a_network_learns_beside_what_another_run_counted() {
    let mut run = Run::new();
    write(&run, "counted.h5", 20, Central::Base);
    write(&run, "data.h5", 30, Central::Base);
    let counted = ["--data", "counted.h5", "--arch", "kmer", "--kmer", "2"];
    run.ok(&[&["train", "--run", "kmer"], &counted[..]].concat());
    let plan = [
        "--arch",
        "context-mlp",
        "--kmer-input",
        "kmer",
        "--global-batch",
        "64",
        "--epochs",
        "2",
    ];
    run.ranks(2).train("mlp", &plan);
    assert_eq!(table(&run, "mlp"), table(&run, "kmer"));
    run.ranks(1).train("one", &plan);
    let (one, two) = (run.losses("one"), run.losses("mlp"));
    // 688 windows, 64 a step.
    assert_eq!((one.len(), two.len()), (2 * 11, 2 * 11));
    for (one, two) in one.into_iter().zip(two) {
        assert!((one - two).abs() < 1e-3 * one, "{one} {two}");
    }
    // The table travels with the weights.
    fs::remove_dir_all(run.path("kmer")).unwrap();
    run.ok(&["evaluate", "mlp"]);
    let refused = run.fails(&[
        "train",
        "--data",
        "data.h5",
        "--run",
        "again",
        "--arch",
        "context-cnn",
        "--kmer-input",
        "mlp",
    ]);
    assert!(
        refused.contains("--kmer-input names one of kmer or markov"),
        "{refused}"
    );
}
