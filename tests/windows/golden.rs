//! Against Keras and PyTorch, at published widths.

use std::ops::Range;

use serde_json::Value;
use tch::{Device, Kind, Tensor, no_grad};
use tfbind_mpi::{
    comm::Solo,
    flat::Slot,
    model::{Io, Options},
    timeline::Timeline,
};

use super::{arch, net, numbers, read, rows};
use crate::golden::uniform;

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

/// Norm, and products with streams of numbers.
pub fn digest(tensor: &Tensor, streams: Range<u32>) -> Vec<f64> {
    let flat = Vec::<f64>::try_from(tensor.flatten(0, -1)).unwrap();
    let norm = flat.iter().map(|x| x * x).sum::<f64>().sqrt();
    let product = |stream: u32| {
        let all = flat.iter().enumerate();
        all.map(|(i, x)| x * (2.0 * uniform(stream, i as u32) - 1.0))
            .sum()
    };
    [norm].into_iter().chain(streams.map(product)).collect()
}

const STREAMS: Range<u32> = 2010..2014;

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
        let (logits, expected) = (net.engine.logits(&rows).unwrap(), numbers(&case["logits"]));
        assert_eq!(logits.len(), expected.len(), "{name}");
        for (own, expected) in logits.iter().zip(expected) {
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
            let (own, expected) = (digest(&slot.view(own), STREAMS), numbers(expected));
            assert_eq!(own.len(), expected.len(), "{name} {}", slot.name);
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
