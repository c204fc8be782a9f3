//! Every form beside double precision on the CPU, and forms that must not change a step beside the one they replace.

use anyhow::{Result, ensure};
use tch::{Device, Kind, Tensor, no_grad};
use tfbind_mpi::{
    comm::Solo,
    data::{Draw, Rows},
    engine::Net,
    model::{Arch, BatchNorm, Options},
    timeline::Timeline,
};

use crate::{Bench, form::Form, time::Run};

/// Form, and the relative difference of the whole gradient that its rounding explains; of logits and loss a third.
const FORMS: [(&str, f64); 6] = [
    ("f32", 1e-3),
    ("f32+last", 1e-3),
    ("tf32", 5e-2),
    ("tf32+last", 5e-2),
    ("bf16", 0.3),
    ("bf16+last", 0.3),
];

pub fn check(bench: &Bench) -> Result<()> {
    let windows = bench.windows()?;
    let draws: Vec<Draw> = (0..if bench.tiny { 2 } else { 8 })
        .map(Draw::from)
        .collect();
    let rows = windows.read(&draws)?;
    let net = |kind, device| {
        let options = Options {
            batch_norm: BatchNorm::Rank,
            ..Options::default()
        };
        Net::of_kind(
            kind,
            Arch::Unet,
            options,
            windows.io(),
            device,
            1,
            Some(0.01),
        )
    };
    let mut exact = net(Kind::Double, Device::Cpu)?;
    let expected = Numbers::of(&mut exact, &rows)?;
    println!(
        "{:<12}{:>12}{:>12}{:>12}{:>12}   relative to double precision on the CPU",
        "form", "logits", "loss", "gradient", "running"
    );
    let mut worst = Vec::new();
    for (name, tolerance) in FORMS {
        if name.starts_with("tf32") && bench.device == Device::Cpu {
            continue;
        }
        let form: Form = name.parse().map_err(anyhow::Error::msg)?;
        let mut own = net(Kind::Float, bench.device)?;
        // The same first weights, whatever generator the device has.
        no_grad(|| own.flat.parameters.copy_(&exact.flat.parameters));
        own.compute_as(&form.compute)?;
        let own = Numbers::of(&mut own, &rows)?;
        let [logits, loss, gradient, running] = own.beside(&expected);
        println!("{name:<12}{logits:>12.1e}{loss:>12.1e}{gradient:>12.1e}{running:>12.1e}");
        let most = logits.max(loss).max(running) * 3.0;
        if most.max(gradient).is_nan() || most.max(gradient) > tolerance {
            worst.push(name);
        }
    }
    for (other, plain) in same(bench.device) {
        let weights = |name: &str| -> Result<Tensor> {
            let form: Form = name.parse().map_err(anyhow::Error::msg)?;
            let mut run = Run::start(bench, &form, 4)?;
            run.steps(if bench.tiny { 6 } else { 24 })?;
            Ok(run.trainer.net.flat.parameters.to_device(Device::Cpu))
        };
        let off = relative(&weights(other)?, &weights(plain)?);
        println!("{other} beside {plain}: weights after the same steps differ by {off:.1e}");
        // Sums in another order, and Adam's first steps, which turn rounding of small gradients into whole steps.
        if off.is_nan() || off > 2e-2 {
            worst.push(other);
        }
    }
    ensure!(worst.is_empty(), "beyond tolerance: {}", worst.join(", "));
    println!("all forms within tolerance");
    Ok(())
}

/// Forms that compute the same.
fn same(device: Device) -> Vec<(&'static str, &'static str)> {
    let mut pairs = vec![("f32", "f32+looking"), ("f32+last", "f32")];
    if device != Device::Cpu {
        pairs.extend([
            ("f32+replay", "f32"),
            ("bf16+last+replay", "bf16+last"),
            ("f32+resident+replay", "f32+file"),
        ]);
    }
    pairs.push(("f32+resident", "f32+file"));
    pairs
}

/// What a batch comes to.
struct Numbers {
    logits: Tensor,
    loss: f64,
    gradient: Tensor,
    running: Tensor,
}

impl Numbers {
    fn of(net: &mut Net, rows: &Rows) -> Result<Self> {
        let mut timeline = Timeline::new(&Solo, Device::Cpu, false);
        let (loss, labels) = net.engine.gradients(rows, &mut timeline, &|_| {})?;
        ensure!(labels > 0.0, "no labels");
        let on_cpu = |of: &Tensor| of.to_device(Device::Cpu).to_kind(Kind::Double);
        Ok(Self {
            logits: on_cpu(&Tensor::from_slice(&net.engine.logits(rows)?)),
            loss,
            gradient: on_cpu(&net.flat.gradients),
            running: on_cpu(&net.flat.buffers),
        })
    }

    fn beside(&self, expected: &Self) -> [f64; 4] {
        [
            relative(&self.logits, &expected.logits),
            (self.loss - expected.loss).abs() / expected.loss.abs(),
            relative(&self.gradient, &expected.gradient),
            relative(&self.running, &expected.running),
        ]
    }
}

fn relative(own: &Tensor, expected: &Tensor) -> f64 {
    ((own - expected).norm() / expected.norm()).double_value(&[])
}
