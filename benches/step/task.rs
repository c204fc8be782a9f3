//! What is timed: a model, what computes it, and windows in memory.

use anyhow::{Result, ensure};
use half::f16;
use tch::{Device, Kind};
use tfbind_mpi::{
    compute::{Compute, Facts, Typed},
    data::{Draw, Rows},
    engine::{Build, EngineChoice, Net},
    model::{Arch, Io, Options},
    sampler::SplitMix,
};

use super::Arguments;

/// Weights and windows are the same in every run.
const SEED: u64 = 1;
/// Share of positive bases in the windows made here, about that of a real factor.
const POSITIVES: f64 = 0.005;

pub fn io(arguments: &Arguments) -> Io {
    Io {
        channels: 4 + arguments.tracks,
        length: arguments.length,
        targets: 1,
        per_base: true,
        classes: 1,
    }
}

pub fn options(arguments: &Arguments) -> Options {
    Options {
        first_width: arguments.width,
        ..Options::default()
    }
}

/// In which form, by the same choice as in `train`.
pub fn compute(arguments: &Arguments) -> Result<Compute> {
    let typed = Typed {
        precision: Some(arguments.precision),
        layout: Some(arguments.layout),
        ..Typed::default()
    };
    let facts = Facts {
        adam: true,
        plain_only: !arguments.model.paper().convolutional,
        libtorch: arguments.engine == EngineChoice::Libtorch,
        ..Facts::of(Device::Cpu)?
    };
    Compute::choose(typed, facts)
}

/// The model under test, or in double precision what it is checked against.
pub fn net(arguments: &Arguments, kind: Kind) -> Result<Net> {
    use Arch::{Transunet, Unet, UnetAttention, UnetWide};
    ensure!(
        arguments.width.is_none()
            || matches!(arguments.model, Unet | UnetWide | UnetAttention | Transunet),
        "--width: {} has no first block",
        arguments.model
    );
    let compute = compute(arguments)?;
    let build = Build {
        arch: arguments.model,
        options: options(arguments),
        io: io(arguments),
        device: Device::Cpu,
        engine: match kind {
            Kind::Double => EngineChoice::Libtorch,
            _ => compute.engine(arguments.engine),
        },
        kind,
        seed: SEED,
        prior: Some(POSITIVES),
    };
    let mut net = build.net()?;
    if kind == Kind::Float {
        net.compute_as(&compute)?;
    }
    Ok(net)
}

/// Random bases, a track that is mostly near zero, and in every fourth window a site of 200 positive bases.
pub fn rows(arguments: &Arguments, batch: usize, rank: usize) -> Rows {
    let mut random = SplitMix::keyed(&[SEED, rank as u64]);
    let (length, tracks) = (arguments.length as usize, arguments.tracks as usize);
    let mut rows = Rows {
        draws: (0..batch as u32).map(Draw::from).collect(),
        ..Rows::default()
    };
    for window in 0..batch {
        rows.seq.extend((0..length).map(|_| random.below(4) as u8));
        rows.signal.extend((0..length * tracks).map(|_| {
            let uniform = random.below(1 << 16) as f32 / 65536.0;
            f16::from_f32(uniform.powi(4))
        }));
        let site = random.below(length as u64) as usize;
        let positive = |at| window % 4 == 0 && (site..site + 200).contains(&at);
        rows.label
            .extend((0..length).map(|at| i8::from(positive(at))));
    }
    rows
}
