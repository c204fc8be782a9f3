//! Against PyTorch, scikit-learn and Keras: the files in tests/golden and the scripts that made them.

use std::{fs, path::PathBuf};

use safetensors::{Dtype, SafeTensors};
use tch::{Device, Kind, Tensor, no_grad};
use tfbind_mpi::{
    comm::Solo,
    data::{Draw, Rows},
    engine::{Build, EngineChoice},
    flat::Slot,
    metrics::{Shape, Tally},
    model::{Activation, Arch, Io, Options},
    optim::{Optimizer, Rule},
    timeline::Timeline,
};

pub fn golden(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden")
        .join(name)
}

/// hashing.py's number in [0, 1) for element `i` of stream `t`.
pub fn uniform(t: u32, i: u32) -> f64 {
    let mut x = t
        .wrapping_mul(0x9E37_79B1)
        .wrapping_add(i.wrapping_mul(0x85EB_CA77))
        .wrapping_add(0xC2B2_AE3D);
    x ^= x >> 15;
    x = x.wrapping_mul(0x2C1B_3C6D);
    x ^= x >> 12;
    x = x.wrapping_mul(0x297A_2D39);
    x ^= x >> 15;
    f64::from(x) / 2f64.powi(32)
}

/// models.py's number of values that are kept of a large gradient.
const SAMPLE: usize = 256;

/// The value that models.py gives an element of a parameter.
fn fill(slot: &Slot, u: f64) -> f64 {
    let (layer, part) = slot.name.rsplit_once('.').unwrap();
    match (layer.contains("normalization"), part) {
        (true, "weight" | "running_var") => 0.5 + u,
        (true, "bias") => (2.0 * u - 1.0) * 0.3,
        (true, _) => (2.0 * u - 1.0) * 0.2,
        (false, "bias") => (2.0 * u - 1.0) * 0.1,
        (false, _) => {
            let outputs = slot.shape[usize::from(layer.starts_with("conv1d_transpose"))];
            (2.0 * u - 1.0) * (3.0 / (slot.numel() / outputs) as f64).sqrt()
        }
    }
}

/// A file of models.py and the model that it is of.
struct Golden {
    file: &'static str,
    arch: Arch,
    up_activation: Option<Activation>,
    length: i64,
    kind: Kind,
    tolerance: f64,
}

impl Golden {
    fn new(
        file: &'static str,
        arch: Arch,
        up_activation: Option<Activation>,
        tolerance: f64,
    ) -> Self {
        Self {
            file,
            arch,
            up_activation,
            length: 96,
            kind: Kind::Float,
            tolerance,
        }
    }

    /// One whose large gradients are sampled; in double precision, as the file is written from.
    fn double(file: &'static str, arch: Arch) -> Self {
        Self {
            length: 256,
            kind: Kind::Double,
            ..Self::new(file, arch, None, 1e-6)
        }
    }
}

/// libtorch, and of a convolutional model the native engine with the best instructions that this CPU has.
fn compare(golden: &Golden) {
    for engine in [EngineChoice::Libtorch, EngineChoice::Auto] {
        compare_engine(engine, golden);
    }
}

fn compare_engine(engine: EngineChoice, of: &Golden) {
    let (file, tolerance) = (of.file, of.tolerance);
    let bytes = fs::read(golden(file)).unwrap();
    let stored = SafeTensors::deserialize(&bytes).unwrap();
    let floats = |name: &str| -> Vec<f32> {
        let view = stored
            .tensor(name)
            .unwrap_or_else(|_| panic!("{name} is not in {file}"));
        assert_eq!(view.dtype(), Dtype::F32);
        view.data()
            .as_chunks::<4>()
            .0
            .iter()
            .map(|word| f32::from_le_bytes(*word))
            .collect()
    };
    let io = Io {
        channels: 5,
        length: of.length,
        targets: 1,
        per_base: true,
        classes: 1,
    };
    let options = Options {
        up_activation: of.up_activation,
        no_dropout: true,
        ..Options::default()
    };
    let build = Build {
        arch: of.arch,
        options,
        io,
        device: Device::Cpu,
        engine,
        kind: of.kind,
        seed: 0,
        prior: None,
    };
    let mut net = build.net().unwrap();
    let native = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
    let native = native && engine == EngineChoice::Auto && of.arch.paper().convolutional;
    let expected = if native { "native" } else { "libtorch" };
    assert!(net.name.starts_with(expected), "{file}: {}", net.name);
    let mut names: Vec<String> = net
        .flat
        .named()
        .map(|(slot, _)| slot.name.clone())
        .collect();
    names.sort();
    for (slot, mut tensor) in net.flat.named() {
        let t = names.iter().position(|name| *name == slot.name).unwrap() as u32;
        let values: Vec<f32> = (0..slot.numel() as u32)
            .map(|i| fill(slot, uniform(t, i)) as f32)
            .collect();
        no_grad(|| tensor.copy_(&Tensor::from_slice(&values).view(slot.shape.as_slice())));
    }
    let rows = Rows {
        draws: vec![Draw::from(0), Draw::from(1)],
        seq: stored.tensor("seq").unwrap().data().to_vec(),
        signal: floats("signal")
            .into_iter()
            .map(half::f16::from_f32)
            .collect(),
        label: stored
            .tensor("label")
            .unwrap()
            .data()
            .iter()
            .map(|&byte| byte as i8)
            .collect(),
        ..Rows::default()
    };
    let signal_kept = floats("signal")
        .iter()
        .zip(&rows.signal)
        .all(|(a, b)| *a == b.to_f32());
    assert!(
        signal_kept,
        "the stored signal must be exact in half precision"
    );

    let close = |name: &str, own: &[f32], expected: &[f32]| {
        assert_eq!(own.len(), expected.len(), "{name}");
        let largest = expected.iter().fold(0f32, |max, v| max.max(v.abs()));
        let worst = own
            .iter()
            .zip(expected)
            .fold(0f32, |max, (a, b)| max.max((a - b).abs()));
        assert!(
            worst as f64 <= tolerance * f64::from(largest),
            "{file} {name}: off by {worst} of {largest}"
        );
    };
    close(
        "logits_eval",
        &net.engine.logits(&rows).unwrap(),
        &floats("logits_eval"),
    );
    let mut timeline = Timeline::new(&Solo, Device::Cpu, false);
    let (loss, valid) = net.engine.gradients(&rows, &mut timeline, &|_| {}).unwrap();
    close("loss_sum", &[loss as f32], &floats("loss_sum"));
    assert_eq!(valid as f32, floats("valid")[0]);
    let single = |tensor: &Tensor| -> Vec<f32> {
        Vec::try_from(tensor.to_kind(Kind::Float).flatten(0, -1)).unwrap()
    };
    let mut compared = 0;
    for slot in &net.flat.parameter_slots {
        let gradient = slot.view(&net.flat.gradients);
        let (own, expected) = (single(&gradient), floats(&format!("grad.{}", slot.name)));
        let norm = format!("norm.grad.{}", slot.name);
        if stored.tensor(&norm).is_ok() {
            close(&norm, &single(&gradient.norm()), &floats(&norm));
            let step = own.len().div_ceil(SAMPLE) | 1;
            let own: Vec<f32> = own.iter().copied().step_by(step).collect();
            close(&slot.name, &own, &expected);
        } else {
            close(&slot.name, &own, &expected);
        }
        compared += 1;
    }
    assert_eq!(
        compared,
        stored
            .names()
            .iter()
            .filter(|name| name.starts_with("grad."))
            .count()
    );
    for slot in &net.flat.buffer_slots {
        let own = single(&slot.view(&net.flat.buffers));
        close(&slot.name, &own, &floats(&format!("after.{}", slot.name)));
    }
}

#[test]
fn the_unet_equals_pytorch_in_logits_loss_and_every_gradient() {
    let unet = |file, up_activation| compare(&Golden::new(file, Arch::Unet, up_activation, 3e-4));
    unet("unet_relu.safetensors", None);
    unet("unet_relu.safetensors", Some(Activation::Relu));
    unet("unet_none.safetensors", Some(Activation::None));
}

#[test]
fn the_baseline_equals_pytorch_in_logits_loss_and_every_gradient() {
    compare(&Golden::new("cnn.safetensors", Arch::Cnn, None, 1e-5));
}

#[test]
fn other_models_of_a_base_equal_pytorch_in_logits_loss_and_every_gradient() {
    for (file, arch) in [
        ("unet_wide.safetensors", Arch::UnetWide),
        ("unet_attention.safetensors", Arch::UnetAttention),
        ("transunet.safetensors", Arch::Transunet),
        ("transformer.safetensors", Arch::Transformer),
    ] {
        compare(&Golden::double(file, arch));
    }
}

#[test]
fn optimizers_equal_pytorch_step_by_step() {
    let golden: serde_json::Value =
        serde_json::from_slice(&fs::read(golden("optim.json")).unwrap()).unwrap();
    let floats = |value: &serde_json::Value| -> Vec<f32> {
        value
            .as_array()
            .unwrap()
            .iter()
            .map(|v| v.as_f64().unwrap() as f32)
            .collect()
    };
    for (name, rule) in [
        ("adam", Rule::Adam),
        ("sgd", Rule::Sgd),
        ("nesterov", Rule::Nesterov),
        ("rmsprop", Rule::RmsProp),
    ] {
        let parameters = Tensor::from_slice(&floats(&golden["start"]));
        let momentum = golden[name]["momentum"].as_f64().unwrap_or(0.9);
        let mut optimizer = Optimizer::new(rule, momentum, &parameters);
        let rate = golden[name]["lr"].as_f64().unwrap();
        for (i, gradients) in golden["gradients"].as_array().unwrap().iter().enumerate() {
            optimizer.step(
                &parameters,
                &Tensor::from_slice(&floats(gradients)),
                rate,
                i as u64 + 1,
            );
            let expected = floats(&golden[name]["after"][i]);
            let off = (&parameters - Tensor::from_slice(&expected))
                .abs()
                .max()
                .double_value(&[]);
            assert!(off < 1e-5, "{name} step {}: off by {off}", i + 1);
        }
    }
}

#[test]
fn metrics_equal_scikit_learn_and_keras() {
    let golden: serde_json::Value =
        serde_json::from_slice(&fs::read(golden("metrics.json")).unwrap()).unwrap();
    let batch = golden["batch"].as_u64().unwrap() as usize;
    for set in golden["sets"].as_array().unwrap() {
        let number = |name: &str| set[name].as_f64().unwrap();
        let (n, stream) = (number("n") as u32, number("stream") as u32);
        let (mut logits, mut labels) = (Vec::new(), Vec::new());
        for i in 0..n {
            let truth = uniform(stream, i) < number("positive_rate");
            let masked = uniform(stream + 1, i) < number("mask_rate");
            let mut z = number("bias") + number("spread") * (2.0 * uniform(stream + 2, i) - 1.0);
            z += number("gain") * f64::from(u8::from(truth));
            if let Some(levels) = set["levels"].as_f64() {
                z = (z * levels + 0.5).floor() / levels;
            }
            labels.push(if masked { -1 } else { i8::from(truth) });
            logits.push(z as f32);
        }
        let mut tally = Tally::new(Shape {
            targets: 1,
            places: number("window") as usize,
            classes: 1,
        });
        let positions = batch * number("window") as usize;
        logits
            .chunks(positions)
            .zip(labels.chunks(positions))
            .for_each(|(z, y)| tally.add(z, y));
        let own = tally.metrics();
        let expected = &set["expected"];
        assert_eq!(own.labels[1], expected["positive"].as_u64().unwrap());
        assert_eq!(
            own.labels.iter().sum::<u64>(),
            expected["valid"].as_u64().unwrap()
        );
        // From a histogram of 16,384 bins, ranks of near-equal scores are ties.
        let tolerances = [
            ("average_precision", 1e-3),
            ("auroc", 1e-4),
            ("pr_auc", 1e-6),
        ];
        for &(name, value) in own.named() {
            let reference = if name == "auroc" { "roc_auc" } else { name };
            let expected = expected[reference].as_f64();
            let tolerance = tolerances
                .iter()
                .find(|(of, _)| *of == name)
                .map_or(1e-6, |(_, tolerance)| *tolerance);
            match (value, expected) {
                (Some(value), Some(expected)) => {
                    assert!(
                        (value - expected).abs() < tolerance,
                        "{} {name}: {value}, expected {expected}",
                        set["name"]
                    );
                }
                (value, expected) => assert_eq!(value, expected, "{} {name}", set["name"]),
            }
        }
    }
}
