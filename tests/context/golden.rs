//! Models of a base from its context against PyTorch (tests/golden/context.py).

use std::fs;

use serde_json::Value;
use tch::{Device, Kind, Tensor, no_grad};
use tfbind_mpi::{
    comm::Solo,
    data::{Draw, Rows},
    engine::{Build, EngineChoice},
    flat::Slot,
    model::{Arch, Io, Options},
    timeline::Timeline,
};

use crate::{
    golden::{golden, uniform},
    windows::{golden::digest, numbers},
};

/// context.py's number for an element of a parameter.
fn value(slot: &Slot, u: f64) -> f64 {
    let scale = match slot.name.ends_with("bias") {
        true => 0.1,
        false => (3.0 / slot.shape[1..].iter().product::<i64>() as f64).sqrt(),
    };
    f64::from(((2.0 * u - 1.0) * scale) as f32)
}

#[test]
fn models_of_context_equal_pytorch_in_logits_loss_and_every_gradient() {
    let all: Value = serde_json::from_slice(&fs::read(golden("context.json")).unwrap()).unwrap();
    for (name, case) in all.as_object().unwrap() {
        let arch = Arch::ALL.iter().find(|arch| arch.name() == name).unwrap();
        let build = Build {
            arch: *arch,
            options: Options {
                no_dropout: true,
                ..Options::default()
            },
            io: Io {
                length: case["length"].as_i64().unwrap(),
                ..arch.paper().io
            },
            device: Device::Cpu,
            engine: EngineChoice::Libtorch,
            kind: Kind::Double,
            seed: 0,
            prior: None,
        };
        let mut net = build.net().unwrap();
        for (t, (slot, mut tensor)) in net.flat.named().enumerate() {
            let of = |i| value(slot, uniform(t as u32, i));
            let values: Vec<f64> = (0..slot.numel() as u32).map(of).collect();
            no_grad(|| tensor.copy_(&Tensor::from_slice(&values).view(slot.shape.as_slice())));
        }
        let codes = |of: &Value| numbers(of).into_iter();
        let rows = Rows {
            draws: (0..3).map(Draw::from).collect(),
            seq: codes(&case["seq"]).map(|code| code as u8).collect(),
            label: codes(&case["label"]).map(|label| label as i8).collect(),
            repeat: vec![false; 3],
            ..Rows::default()
        };
        let logits = net.engine.logits(&rows).unwrap();
        let expected = numbers(&case["logits"]);
        assert_eq!(logits.len(), expected.len());
        for (own, expected) in logits.into_iter().zip(expected) {
            let off = (f64::from(own) - expected).abs();
            assert!(off < 1e-6, "{name}: logit {own}, {expected}");
        }
        let mut timeline = Timeline::new(&Solo, Device::Cpu, false);
        let (loss, valid) = net.engine.gradients(&rows, &mut timeline, &|_| {}).unwrap();
        let expected = case["loss"].as_f64().unwrap();
        assert!((loss - expected).abs() < 1e-9, "{name}: {loss} {expected}");
        assert_eq!(valid, 2.0);
        let gradients = case["gradients"].as_object().unwrap();
        assert_eq!(net.flat.parameter_slots.len(), gradients.len());
        for slot in &net.flat.parameter_slots {
            let own = digest(&slot.view(&net.flat.gradients), 2110..2114);
            let expected = numbers(&gradients[&slot.name]);
            assert_eq!(own.len(), expected.len(), "{name} {}", slot.name);
            for (own, of) in own.iter().zip(&expected) {
                let off = (own - of).abs();
                assert!(off < 1e-9 * expected[0], "{name} {}: {own} {of}", slot.name);
            }
        }
    }
}
