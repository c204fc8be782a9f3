//! Every form beside double precision on the CPU, and forms that must not change a step beside the one they replace.

use anyhow::{Result, ensure};
use tch::{Device, Kind, Tensor, no_grad};
use tfbind_mpi::{
    comm::Solo,
    data::{Draw, Rows},
    engine::{Build, EngineChoice, Net},
    model::{Arch, BatchNorm, Options},
    timeline::Timeline,
};

use crate::{Bench, form::Form, time::Run};

/// Form, and the relative differences that its rounding explains: of logits, loss and running statistics, and of the
/// gradient, in which a ReLU that rounding turns weighs more (PyTorch's autocast to bf16 leaves 0.6 on random labels).
const FORMS: [(&str, f64, f64); 6] = [
    ("f32", 1e-4, 2e-2),
    ("f32+last", 1e-4, 2e-2),
    ("tf32", 3e-3, 0.3),
    ("tf32+last", 3e-3, 0.3),
    ("bf16", 2e-2, 1.0),
    ("bf16+last", 2e-2, 1.0),
];
/// So small that the weights stay: what the steps leave is the mean of their gradients, Adam's first moment.
const RATE: f64 = 1e-9;

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
        let build = Build {
            arch: Arch::Unet,
            options,
            io: windows.io(),
            device,
            engine: EngineChoice::Libtorch,
            kind,
            seed: 1,
            prior: Some(0.01),
        };
        build.net()
    };
    let mut exact = net(Kind::Double, Device::Cpu)?;
    let expected = Numbers::of(&mut exact, &rows)?;
    println!(
        "{:<12}{:>12}{:>12}{:>12}{:>12}   relative to double precision on the CPU",
        "form", "logits", "loss", "gradient", "running"
    );
    let mut worst = Vec::new();
    for (name, tolerance, of_gradient) in FORMS {
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
        let within =
            [logits, loss, running].iter().all(|&off| off < tolerance) && gradient < of_gradient;
        if !within {
            worst.push(name);
        }
    }
    for (other, plain) in same(bench.device) {
        let moment = |name: &str| -> Result<Tensor> {
            let form: Form = name.parse().map_err(anyhow::Error::msg)?;
            let mut run = Run::start(bench, &form, 4, RATE)?;
            run.steps(if bench.tiny { 6 } else { 24 })?;
            ensure!(
                run.resident == form.compute.resident,
                "{name}: its rows came from elsewhere"
            );
            Ok(run.trainer.optimizer.first.to_device(Device::Cpu))
        };
        let off = relative(&moment(other)?, &moment(plain)?);
        println!("{other} beside {plain}: mean gradients of the same steps differ by {off:.1e}");
        let tolerance = if other.starts_with("bf16") { 0.2 } else { 2e-2 };
        if off.is_nan() || off > tolerance {
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
