//! Models of one label a window: against Keras and PyTorch (tests/golden), over ranks, and from their weights.

use std::{fs, path::PathBuf};

use half::f16;
use serde_json::Value;
use tch::{Device, Kind, Tensor, no_grad};
use tfbind_mpi::{
    comm::Solo,
    data::{Draw, Rows},
    engine::{Build, EngineChoice, Net},
    flat::Slot,
    model::{Activation, Arch, Io, Options},
    scaling::{random_header, random_window},
    timeline::Timeline,
    weights::Weights,
};
use tfbind_prep::schema::{DataWriter, Header, Task};

use crate::{
    common::Run,
    golden::{golden, uniform},
};

/// Shortest that all models read, and some more.
const LENGTH: usize = 200;

fn read(name: &str) -> Value {
    serde_json::from_slice(&fs::read(golden(name)).unwrap()).unwrap()
}

fn numbers(value: &Value) -> Vec<f64> {
    let all = value.as_array().unwrap().iter();
    all.map(|one| one.as_f64().unwrap()).collect()
}

fn arch(name: &str) -> Arch {
    let mut all = Arch::ALL.iter();
    *all.find(|arch| arch.name() == name).unwrap()
}

fn net(arch: Arch, io: Io, options: Options, kind: Kind) -> Net {
    let build = Build {
        arch,
        options,
        io,
        device: Device::Cpu,
        engine: EngineChoice::Libtorch,
        kind,
        seed: 0,
        prior: None,
    };
    build.net().unwrap()
}

fn rows(case: &Value, windows: usize, label: Vec<i8>) -> Rows {
    let signal = case.get("signal").map(numbers).unwrap_or_default();
    Rows {
        draws: (0..windows as u32).map(Draw::from).collect(),
        seq: numbers(&case["seq"]).into_iter().map(|n| n as u8).collect(),
        signal: signal.into_iter().map(f16::from_f64).collect(),
        label,
        repeat: vec![false; windows],
        resident: None,
    }
}

/// windows.py's number for an element of a parameter.
fn value(slot: &Slot, u: f64) -> f64 {
    let (layer, part) = slot.name.split_once('.').unwrap();
    let drawn = 2.0 * u - 1.0;
    match (layer.starts_with("batch"), part) {
        (true, "weight" | "running_var") => 0.5 + u,
        (true, "bias") => drawn * 0.3,
        (true, _) => drawn * 0.2,
        (false, part) if part.starts_with("bias") => drawn * 0.1,
        (false, _) => drawn * (3.0 / slot.shape[1..].iter().product::<i64>() as f64).sqrt(),
    }
}

/// Norm, and products with four streams of numbers.
fn digest(tensor: &Tensor) -> Vec<f64> {
    let flat = Vec::<f64>::try_from(tensor.flatten(0, -1)).unwrap();
    let norm = flat.iter().map(|x| x * x).sum::<f64>().sqrt();
    let product = |stream: u32| {
        let all = flat.iter().enumerate();
        all.map(|(i, x)| x * (2.0 * uniform(stream, i as u32) - 1.0))
            .sum()
    };
    [norm]
        .into_iter()
        .chain((2010..2014).map(product))
        .collect()
}

#[test]
fn models_of_windows_equal_keras_and_pytorch_in_logits_loss_and_every_gradient() {
    let all = read("windows.json");
    for (name, case) in all.as_object().unwrap() {
        let io = Io {
            channels: 4,
            length: case["length"].as_i64().unwrap(),
            targets: 3,
            per_base: false,
            classes: 1,
        };
        let options = Options {
            no_dropout: true,
            ..Options::default()
        };
        let mut net = net(arch(name), io, options, Kind::Double);
        let mut names: Vec<String> = net
            .flat
            .named()
            .map(|(slot, _)| slot.name.clone())
            .collect();
        names.sort();
        for (slot, mut tensor) in net.flat.named() {
            let t = names.iter().position(|name| *name == slot.name).unwrap() as u32;
            // Drawn in double precision, kept in single.
            let of = |i| f64::from(value(slot, uniform(t, i)) as f32);
            let values: Vec<f64> = (0..slot.numel() as u32).map(of).collect();
            no_grad(|| tensor.copy_(&Tensor::from_slice(&values).view(slot.shape.as_slice())));
        }
        let label = numbers(&case["label"])
            .into_iter()
            .map(|n| n as i8)
            .collect();
        let rows = rows(case, 3, label);
        for (own, expected) in net
            .engine
            .logits(&rows)
            .unwrap()
            .iter()
            .zip(numbers(&case["logits"]))
        {
            assert!(
                (f64::from(*own) - expected).abs() < 1e-6 * expected.abs().max(1.0),
                "{name}: {own} {expected}"
            );
        }
        let mut timeline = Timeline::new(&Solo, Device::Cpu, false);
        let (loss, valid) = net.engine.gradients(&rows, &mut timeline, &|_| {}).unwrap();
        let expected = case["loss"].as_f64().unwrap();
        assert!(
            (loss - expected).abs() < 1e-9 * expected,
            "{name}: loss {loss}, {expected}"
        );
        assert_eq!(
            valid,
            rows.label.iter().filter(|label| **label >= 0).count() as f64
        );
        // The gradient of a bias before a batch norm is zero but for rounding.
        let close = |slot: &Slot, own: &Tensor, expected: &Value| {
            let (own, expected) = (digest(&slot.view(own)), numbers(expected));
            for (own, of) in own.iter().zip(&expected) {
                let off = (own - of).abs();
                assert!(
                    off < 1e-7 * expected[0].max(1e-3),
                    "{name} {}: {own} {of}",
                    slot.name
                );
            }
        };
        let (gradients, after) = (&case["gradients"], &case["after"]);
        assert_eq!(
            net.flat.parameter_slots.len(),
            gradients.as_object().unwrap().len()
        );
        for slot in &net.flat.parameter_slots {
            close(slot, &net.flat.gradients, &gradients[&slot.name]);
        }
        // Keras' variance is the biased one.
        for slot in &net.flat.buffer_slots {
            if let Some(expected) = after.get(&slot.name) {
                close(slot, &net.flat.buffers, expected);
            }
        }
    }
}

/// The case's weights in a model of this program.
fn imported(name: &str, case: &Value) -> (Net, Io) {
    let io = Io {
        channels: case["channels"].as_i64().unwrap(),
        length: case["length"].as_i64().unwrap(),
        targets: case["targets"].as_i64().unwrap(),
        per_base: case["arch"] == "unet",
        classes: 1,
    };
    let options = Options {
        width: case["width"].as_f64(),
        first_width: io.per_base.then_some(3),
        up_activation: io.per_base.then_some(Activation::None),
        ..Options::default()
    };
    let net = net(
        arch(case["arch"].as_str().unwrap()),
        io,
        options,
        Kind::Float,
    );
    let file = golden(&format!("imported_{name}.safetensors"));
    Weights::read(&file).unwrap().fill_model(&net.flat).unwrap();
    (net, io)
}

#[test]
fn converted_weights_of_keras_and_pytorch_give_their_outputs() {
    let all = read("imported.json");
    for (name, case) in all.as_object().unwrap() {
        let (mut net, io) = imported(name, case);
        let places = if io.per_base { io.length } else { 1 };
        let label = vec![0; (3 * io.targets * places) as usize];
        let own = net.engine.logits(&rows(case, 3, label)).unwrap();
        let expected = numbers(&case["logits"]);
        assert_eq!(own.len(), expected.len());
        for (own, expected) in own.iter().zip(expected) {
            assert!(
                (f64::from(*own) - expected).abs() < 1e-5,
                "{name}: {own} {expected}"
            );
        }
    }
}

/// A file of windows with `targets` labels each, of the windows as they are or of their reverse complements.
fn write_windows(run: &Run, name: &str, length: usize, targets: usize, turned: bool) -> PathBuf {
    let header = Header {
        task: Task::PerWindow,
        tracks: Vec::new(),
        targets: (0..targets).map(|target| format!("t{target}")).collect(),
        groups: vec![String::new(); targets],
        ..random_header(length)
    };
    let path = run.path(name);
    let mut writer = DataWriter::create(&path, &header, true).unwrap();
    for (split, windows) in [("train", 26), ("valid", 8), ("test", 9)] {
        for row in 0..windows {
            let mut window = random_window((1000 * split.len() + row) as i64, length);
            window.signal.clear();
            window.label = (0..targets)
                .map(|target| i8::from((row + target) % 3 == 0))
                .collect();
            if row == 4 {
                window.label[0] = -1;
            }
            if turned {
                window.seq.reverse();
                window
                    .seq
                    .iter_mut()
                    .filter(|base| **base < 4)
                    .for_each(|base| *base = 3 - *base);
            }
            writer.push(split, &window).unwrap();
        }
    }
    writer.finish().unwrap();
    path
}

/// Narrow where it can be, as published in all else.
fn arguments(arch: Arch) -> Vec<&'static str> {
    let narrow = ["deepsea", "danq", "danq-jaspar", "basset"].contains(&arch.name());
    let width = if narrow {
        &["--width", "0.03"][..]
    } else {
        &[]
    };
    [&["--arch", arch.name()], width].concat()
}

fn models_of_windows() -> impl Iterator<Item = Arch> {
    let names = [
        "deepsea",
        "danq",
        "danq-jaspar",
        "basset",
        "tal1",
        "tal1-one",
        "tal1-norm",
        "tal1-three",
    ];
    names.into_iter().map(arch)
}

const MOTIFS: &str = ">m1 ONE\nA [ 9 0 0 1 ]\nC [ 0 9 0 1 ]\nG [ 0 0 9 1 ]\nT [ 0 0 0 6 ]\n>m2 TWO\n0 5 9\n9 0 0\n0 5 0\n0 0 0\n";

/// Optimizers, penalties and limits of the published recipes included; DanQ-JASPAR from motifs.
#[test]
fn two_ranks_equal_one_process_for_every_model_of_windows() {
    let mut run = Run::new();
    run.ranks(2);
    write_windows(&run, "data.h5", LENGTH, 2, false);
    fs::write(run.path("motifs.pfm"), MOTIFS).unwrap();
    for arch in models_of_windows() {
        let own = match arch {
            Arch::DanqJaspar => &["--start-motifs", "motifs.pfm"][..],
            _ => &[],
        };
        let fixed = [
            "verify",
            "--data",
            "data.h5",
            "--device",
            "cpu",
            "--steps",
            "3",
            "--global-batch",
            "6",
        ];
        let said = run.ok(&[&fixed[..], &arguments(arch), own].concat());
        let last = said.lines().last().unwrap();
        let largest = last.strip_prefix("max relative difference ").unwrap();
        assert!(largest.parse::<f64>().unwrap() < 1e-9, "{arch}: {said}");
    }
}

#[test]
fn a_published_recipe_goes_on_bit_for_bit() {
    for (arch, ranks) in
        [("deepsea", 2), ("basset", 1), ("danq", 2)].map(|(name, ranks)| (arch(name), ranks))
    {
        let mut run = Run::new();
        run.ranks(ranks);
        write_windows(&run, "data.h5", LENGTH, 2, false);
        let plan = [
            &arguments(arch)[..],
            &["--global-batch", "6", "--epochs", "2", "--seed", "3"],
        ]
        .concat();
        run.train("whole", &[&plan[..], &["--stop-at", "8"]].concat());
        let said = run.train("parts", &[&plan[..], &["--stop-at", "4"]].concat());
        if arch == Arch::Deepsea {
            let recipe = "squares of weights x 0.0000005, absolute hidden outputs x 0.00000001, norms of an output's weights at most 0.9";
            assert!(
                said.contains(recipe) && said.contains("decay inverse"),
                "{said}"
            );
        }
        run.ok(&["train", "--run", "parts", "--resume", "--stop-at", "8"]);
        assert_eq!(run.losses("whole"), run.losses("parts"), "{arch}");
        assert!(run.losses("whole").iter().all(|loss| loss.is_finite()));
        let tensors = |name: &str| run.last(name).sorted_tensors();
        assert!(tensors("whole") == tensors("parts"), "{arch}");
    }
}

/// The native engine computes the gradients, the limit comes after the step.
#[test]
fn norms_are_limited_whatever_computes() {
    let run = Run::new();
    run.write_data(24, |_, _| {});
    let plan = [
        "--arch",
        "cnn",
        "--max-norm",
        "0.5",
        "--l2",
        "0.001",
        "--global-batch",
        "8",
        "--stop-at",
        "4",
        "--batch-norm",
        "rank",
    ];
    run.train("native", &[&plan[..], &["--engine", "native"]].concat());
    run.train("libtorch", &[&plan[..], &["--engine", "libtorch"]].concat());
    for (a, b) in run.losses("native").iter().zip(run.losses("libtorch")) {
        assert!((a - b).abs() < 1e-4 * a, "{a} {b}");
    }
    let largest = |name: &str| {
        let tensors = run.last(name).sorted_tensors();
        let (_, weight) = tensors
            .iter()
            .find(|(name, _)| name == "conv1d_1.weight")
            .unwrap();
        let rows = weight.chunks(32 * 11);
        let norms = rows.map(|row| row.iter().map(|x| x * x).sum::<f32>().sqrt());
        norms.fold(0f32, f32::max)
    };
    assert!(largest("native") < 0.50001 && largest("libtorch") < 0.50001);
    assert!(largest("native") > 0.4, "from 0.8");
}

#[test]
fn options_that_do_not_apply_are_refused() {
    let run = Run::new();
    run.write_data(8, |_, _| {});
    write_windows(&run, "windows.h5", LENGTH, 1, false);
    let base = [
        "train", "--data", "data.h5", "--run", "run", "--device", "cpu",
    ];
    let windows = [
        "train",
        "--data",
        "windows.h5",
        "--run",
        "run",
        "--device",
        "cpu",
    ];
    fs::write(run.path("motifs.pfm"), MOTIFS).unwrap();
    for (data, typed, expected) in [
        (
            &base,
            &["--rho", "0.8"][..],
            "--rho belongs to rmsprop, not to adam",
        ),
        (
            &base,
            &["--optimizer", "rmsprop", "--momentum", "0.5"],
            "--momentum belongs to sgd and nesterov, not to rmsprop",
        ),
        (
            &base,
            &["--decay-rate", "1e-5"],
            "--decay-rate belongs to --schedule inverse",
        ),
        (
            &base,
            &["--schedule", "inverse", "--decay-rate", "0"],
            "needs a positive --decay-rate",
        ),
        (&base, &["--l1", "1e-8"], "unet has none"),
        (&base, &["--l2=-1"], "--l2 must be positive, or 0 for none"),
        (&base, &["--width", "0.5"], "unet has one width"),
        (
            &base,
            &[
                "--batch",
                "4",
                "--optimizer",
                "adam-invariant",
                "--l2",
                "1e-6",
            ],
            "--l2 0",
        ),
        (
            &base,
            &["--max-norm", "0.9", "--look-every", "4"],
            "not with --max-norm",
        ),
        (&base, &["--start-motifs", "none.pfm"], "none.pfm"),
        (&base, &["--init", "data.h5"], "not a safetensors file"),
        (
            &windows,
            &["--arch", "deepsea", "--width", "2"],
            "--width must be more than 0 and at most 1",
        ),
        (
            &windows,
            &["--arch", "danq", "--batch-norm", "frozen"],
            "danq has no batch norm",
        ),
        (
            &windows,
            &["--arch", "tal1-one", "--start-motifs", "motifs.pfm"],
            "2 motifs, and the first convolution has 1",
        ),
        (
            &windows,
            &["--arch", "basset", "--up-activation", "relu"],
            "belongs to the unet",
        ),
        (&windows, &["--arch", "tal1", "--l1", "1"], "tal1 has none"),
    ] {
        let error = run.fails(&[&data[..], typed].concat());
        assert!(error.contains(expected), "{typed:?}: {error}");
    }
}

/// Weights in, then everything that a trained model is for.
#[test]
fn imported_weights_are_evaluated_predicted_and_trained_on() {
    let all = read("imported.json");
    let case = &all["danq"];
    let run = Run::new();
    let length = case["length"].as_u64().unwrap() as usize;
    write_windows(&run, "data.h5", length, 2, false);
    write_windows(&run, "turned.h5", length, 2, true);
    let weights = golden("imported_danq.safetensors");
    let weights = weights.to_str().unwrap();
    let import = [
        "import",
        "--arch",
        "danq",
        "--weights",
        weights,
        "--data",
        "data.h5",
        "--run",
        "danq",
    ];
    assert!(
        run.fails(&import).contains("the model needs"),
        "another width"
    );
    let import = [&import[..], &["--width", "0.025"]].concat();
    assert!(run.ok(&import).contains("2735 numbers"));
    assert!(run.fails(&import).contains("holds a run already"));

    let predictions = |out: &str, arguments: &[&str]| -> Vec<f32> {
        let fixed = ["predict", "danq", "--device", "cpu", "--out", out];
        run.ok(&[&fixed[..], arguments].concat());
        let file = tfbind_prep::schema::PredictionFile::open(run.path(out)).unwrap();
        file.read_rows(0..file.len()).unwrap()
    };
    let plain = predictions("plain.h5", &[]);
    let turned = predictions("turned-alone.h5", &["--data", "turned.h5"]);
    let both = predictions("both.h5", &["--both-strands"]);
    let turned_both = predictions("turned-both.h5", &["--both-strands", "--data", "turned.h5"]);
    assert!(
        plain.iter().zip(&turned).any(|(a, b)| (a - b).abs() > 1e-3),
        "strands differ"
    );
    for (i, mean) in both.iter().enumerate() {
        assert!((mean - (plain[i] + turned[i]) / 2.0).abs() < 1e-6);
        assert!((mean - turned_both[i]).abs() < 1e-6);
    }
    let said = run.ok(&["evaluate", "danq", "--device", "cpu", "--both-strands"]);
    assert!(said.contains("auroc "), "{said}");
    run.ok(&["predict", "danq", "--device", "cpu"]);
    assert!(run.ok(&["report", "danq"]).contains("report.html"));

    // A rate that moves nothing: what is saved is what was read.
    let still = [
        "--arch",
        "danq",
        "--width",
        "0.025",
        "--lr",
        "1e-30",
        "--stop-at",
        "1",
        "--epochs",
        "1",
    ];
    for (from, name) in [
        (weights, "from-file"),
        ("danq/best.safetensors", "from-run"),
    ] {
        run.train(name, &[&still[..], &["--init", from]].concat());
        let read = Weights::read(&golden("imported_danq.safetensors"))
            .unwrap()
            .sorted();
        let saved = run.last(name).sorted_tensors();
        let model = saved
            .iter()
            .filter(|(name, _)| !name.starts_with("optimizer."));
        assert_eq!(model.clone().count(), read.len());
        for ((name, own), (_, of)) in model.zip(&read) {
            let moved = own.iter().zip(of).any(|(own, of)| (own - of).abs() > 1e-20);
            assert!(!moved, "{name}");
        }
    }
    let resumed = run.fails(&["train", "--run", "from-run", "--resume", "--init", weights]);
    assert!(resumed.contains("not for --resume"), "{resumed}");
}

/// A dense layer's batch norm of the last window of an epoch, which is alone, on one rank and on two.
#[test]
fn a_window_alone_leaves_running_statistics_finite() {
    let mut run = Run::new();
    write_windows(&run, "data.h5", LENGTH, 1, false);
    for ranks in [1, 2] {
        let name = format!("of{ranks}");
        run.ranks(ranks);
        let arguments = arguments(Arch::Basset);
        run.train(
            &name,
            &[&arguments[..], &["--global-batch", "5", "--epochs", "1"]].concat(),
        );
        let tensors = run.last(&name).sorted_tensors();
        assert!(
            tensors
                .iter()
                .all(|(_, values)| values.iter().all(|value| value.is_finite()))
        );
    }
}
