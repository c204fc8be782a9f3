//! The class's small models: equal to Keras', and shown by `demo`.

use std::fs;

use half::f16;
use safetensors::SafeTensors;
use tch::{Device, Kind, Tensor, no_grad};
use tfbind_mpi::{
    comm::Solo,
    data::{Draw, Rows},
    engine::{Build, EngineChoice},
    model::{Arch, Options},
    timeline::Timeline,
};

use crate::common::Run;

/// Of the largest value. tests/golden/toys.py computed in double precision; single precision rounds along 100 steps.
const PRECISIONS: [(Kind, f64); 2] = [(Kind::Double, 1e-6), (Kind::Float, 1e-4)];

#[test]
fn small_models_compute_what_keras_computes() {
    for (kind, tolerance) in PRECISIONS {
        compare(kind, tolerance);
    }
}

fn compare(kind: Kind, tolerance: f64) {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/toys.safetensors");
    let bytes = fs::read(path).unwrap();
    let stored = SafeTensors::deserialize(&bytes).unwrap();
    for arch in Arch::ALL
        .iter()
        .filter(|arch| arch.name().starts_with("toy-"))
    {
        let floats = |name: &str| -> Vec<f32> {
            let view = stored.tensor(&format!("{arch}/{name}")).unwrap();
            let words = view.data().as_chunks::<4>().0.iter();
            words.map(|word| f32::from_le_bytes(*word)).collect()
        };
        let near = |what: &str, ours: &[f32], theirs: &[f32]| {
            assert_eq!(ours.len(), theirs.len(), "{arch} {what}");
            let largest = theirs.iter().fold(0f32, |a, b| a.max(b.abs()));
            for (a, b) in ours.iter().zip(theirs) {
                let off = f64::from((a - b).abs() / largest);
                assert!(off < tolerance, "{arch} {what}: {a}, Keras has {b}");
            }
        };
        let paper = arch.paper();
        let options = Options {
            no_dropout: true,
            loss: paper.recipe.loss,
            ..Options::default()
        };
        let build = Build {
            arch: *arch,
            options,
            io: paper.io,
            device: Device::Cpu,
            engine: EngineChoice::Auto,
            kind,
            seed: 0,
            prior: None,
        };
        let mut net = build.net().unwrap();
        let mut named = 0;
        for (slot, mut tensor) in net.flat.named() {
            let values = floats(&format!("value.{}", slot.name));
            no_grad(|| tensor.copy_(&Tensor::from_slice(&values).view(slot.shape.as_slice())));
            named += values.len();
        }
        assert_eq!(named as i64, paper.parameters, "{arch}");
        let (bits, label) = (floats("bits"), floats("label"));
        let rows = Rows {
            draws: (0..label.len() as u32).map(Draw::from).collect(),
            // N: nothing but the track is to be read.
            seq: vec![4; bits.len()],
            signal: bits.iter().map(|&bit| f16::from_f32(bit)).collect(),
            label: label.iter().map(|&label| label as i8).collect(),
            ..Rows::default()
        };
        near(
            "logits",
            &net.engine.logits(&rows).unwrap(),
            &floats("logits"),
        );
        let mut timeline = Timeline::new(&Solo, Device::Cpu, false);
        let (loss, valid) = net.engine.gradients(&rows, &mut timeline, &|_| {}).unwrap();
        assert_eq!(valid, label.len() as f64);
        near("loss", &[loss as f32], &floats("loss"));
        for slot in &net.flat.parameter_slots {
            let ours = slot.view(&net.flat.gradients).flatten(0, -1);
            let ours = ours.to_kind(Kind::Float);
            let theirs = floats(&format!("grad.{}", slot.name));
            near(&slot.name, &Vec::try_from(ours).unwrap(), &theirs);
        }
    }
}

#[test]
fn a_demo_prints_its_table_and_leaves_data_runs_and_pictures() {
    let mut run = Run::new();
    let list = run.ok(&["demo"]);
    for name in [
        "motif-detection-rnn",
        "motif-discovery",
        "vanishing-gradient",
        "valley",
    ] {
        assert!(list.lines().any(|line| line.starts_with(name)), "{list}");
    }

    run.ranks(2);
    let short = ["--epochs", "2", "--seeds", "2", "--out", "found"];
    let out = run.ok(&[&["demo", "motif-discovery"][..], &short].concat());
    let rows: Vec<Vec<&str>> = out
        .lines()
        .map(|line| line.split_whitespace().collect())
        .collect();
    for seed in ["1", "2"] {
        let row = rows.iter().find(|row| row.starts_with(&["seed", seed]));
        let row = row.unwrap_or_else(|| panic!("seed {seed}: {out}"));
        let consensus = row[7];
        assert!(
            consensus.len() == 7 && consensus.chars().all(|c| "01N".contains(c)),
            "{out}"
        );
    }
    assert!(
        out.starts_with("motif-discovery: "),
        "training says nothing: {out}"
    );
    for file in [
        "data.h5",
        "table.txt",
        "logo.svg",
        "seed2/metrics.jsonl",
        "seed2/plan.toml",
    ] {
        assert!(run.path("found").join(file).is_file(), "{file}");
    }
    let table = fs::read_to_string(run.path("found/table.txt")).unwrap();
    assert!(out.starts_with(&table), "{table}\n{out}");

    run.ranks(1);
    let out = run.ok(&[
        "demo",
        "motif-detection-conv",
        "--epochs",
        "1",
        "--seeds",
        "1",
        "--out",
        "found",
    ]);
    assert!(out.contains("(f + 1) n = 8        8"), "{out}");
    assert!(
        !run.path("found/logo.svg").exists(),
        "a demo begins in an empty folder"
    );
    run.ok(&["demo", "valley"]);
    let picture = fs::read_to_string(run.path("runs/demos/valley/valley.svg")).unwrap();
    assert!(picture.contains("nesterov 0.01, momentum 0.9"));
}

#[test]
fn a_demo_does_not_empty_the_folder_of_anything_else() {
    let run = Run::new();
    fs::create_dir(run.path("mine")).unwrap();
    fs::write(run.path("mine/thesis.txt"), "words").unwrap();
    let error = run.fails(&["demo", "valley", "--out", "mine"]);
    assert!(
        error.contains("mine holds something else than a demo"),
        "{error}"
    );
    assert!(run.path("mine/thesis.txt").is_file());
    // Nor one that has a table of its own.
    fs::write(run.path("mine/table.txt"), "1 2 3").unwrap();
    let error = run.fails(&["demo", "valley", "--out", "mine"]);
    assert!(error.contains("holds something else"), "{error}");
    assert!(run.path("mine/thesis.txt").is_file());
    fs::create_dir(run.path("empty")).unwrap();
    for _ in 0..2 {
        run.ok(&["demo", "valley", "--out", "empty"]);
    }
    assert!(
        run.fails(&["demo", "valley", "--epochs", "3"])
            .contains("no --epochs")
    );
}
