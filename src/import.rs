//! `tfbind-mpi import`: a run whose weights another program trained.

use std::fs;

use anyhow::{Context, Result, ensure};
use tch::{Device, Kind};
use tfbind_prep::schema::DataFile;

use crate::{
    checkpoint::{self, Header, write_atomically},
    cli::ImportArgs,
    data::Windows,
    engine::{Build, EngineChoice},
    model::Options,
    plan::Settings,
    resume::{BEST, LAST, PLAN},
    weights::Weights,
};

pub fn import(args: ImportArgs) -> Result<()> {
    for name in [BEST, LAST] {
        let path = args.run.join(name);
        ensure!(
            !path.exists(),
            "{} holds a run already: name another --run",
            args.run.display()
        );
    }
    let splits = DataFile::open(&args.data)?.splits();
    let split = splits.first().context("the data file has no split")?;
    let windows = Windows::open(&args.data, split)?;
    let build = Build {
        arch: args.arch,
        options: Options {
            up_activation: args.up_activation,
            width: args.width,
            ..Options::default()
        },
        io: windows.io(),
        device: Device::Cpu,
        engine: EngineChoice::Libtorch,
        kind: Kind::Float,
        seed: 0,
        prior: None,
    };
    ensure!(
        args.arch.paper().recipe.counts.is_none(),
        "{} counts: it has no weights to import",
        args.arch
    );
    let net = build.net()?;
    let flat = &net.flat;
    Weights::read(&args.weights)?.fill_model(flat)?;
    let settings = Settings {
        data: Some(args.data.clone()),
        arch: Some(args.arch),
        up_activation: args.up_activation,
        width: args.width,
        init: Some(args.weights.clone()),
        ..Settings::default()
    };
    let header = Header {
        device: "elsewhere".into(),
        ..Header::new(&windows, args.arch, args.up_activation, settings)
    };
    let shown = args.run.display();
    fs::create_dir_all(&args.run).with_context(|| format!("creating the run folder {shown}"))?;
    let plan = toml::to_string(&header.plan)?;
    write_atomically(&args.run.join(PLAN), plan.as_bytes())?;
    checkpoint::save(&args.run.join(BEST), &header, &net, None)?;
    let numbers = flat.parameters.numel() + flat.buffers.numel();
    println!("{} of {numbers} numbers: {shown}", args.arch);
    Ok(())
}
