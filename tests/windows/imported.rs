//! Weights of Keras and PyTorch, as tools/convert_weights.py made them.

use serde_json::Value;
use tch::Kind;
use tfbind_mpi::{
    engine::Net,
    model::{Activation, Io, Options},
    weights::Weights,
};

use super::{arch, net, numbers, read, rows, write_windows};
use crate::{common::Run, golden::golden};

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
    let train = ["train", "--data", "data.h5", "--run", "danq"];
    assert!(run.fails(&train).contains("holds an imported model"));

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
    run.ok(&["predict", "danq", "--device", "cpu", "--both-strands"]);
    assert!(run.path("danq/predictions_test_both_strands.h5").exists());
    assert!(!run.path("danq/predictions_test.h5").exists());
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
    assert!(
        resumed.contains("--init is for the start of a run"),
        "{resumed}"
    );
}
