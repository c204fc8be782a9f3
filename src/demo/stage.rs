//! Where a demo plays: its folder, and the training loop with its settings.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context, Result, bail, ensure};
use tch::{Device, Kind};

use crate::{
    checkpoint::{Checkpoint, write_atomically},
    cli::{DemoArgs, TrainArgs},
    comm::{Comm, Solo, share_text},
    data::Windows,
    device::DeviceChoice,
    engine::{Build, EngineChoice, Net},
    evaluate,
    model::Options,
    plan::{Metric, Settings},
    report::logged,
    resume::LAST,
    train,
};

pub const TABLE: &str = "table.txt";
const DATA: &str = "data.h5";
/// In folders that a demo made: a name that nobody else gives a file.
const MARK: &str = ".tfbind-mpi-demo";

pub struct Stage<'a> {
    pub comm: &'a dyn Comm,
    pub folder: PathBuf,
    epochs: Option<u64>,
    seeds: Option<u64>,
}

impl<'a> Stage<'a> {
    /// An empty folder: what an earlier demo left there goes.
    pub fn open(comm: &'a dyn Comm, name: &str, args: &DemoArgs) -> Result<Self> {
        for (option, value) in [("epochs", args.epochs), ("seeds", args.seeds)] {
            ensure!(value != Some(0), "--{option} must be at least 1");
        }
        let default = || Path::new("runs/demos").join(name);
        let folder = args.out.clone().unwrap_or_else(default);
        share_text(comm, || clear(&folder).map(|()| String::new()))?;
        Ok(Self {
            comm,
            folder,
            epochs: args.epochs,
            seeds: args.seeds,
        })
    }

    pub fn epochs(&self, published: u64) -> u64 {
        self.epochs.unwrap_or(published)
    }

    pub fn seeds(&self, usual: u64) -> impl Iterator<Item = u64> + use<> {
        1..=self.seeds.unwrap_or(usual)
    }

    /// On rank 0.
    pub fn write(&self, name: &str, text: &str) -> Result<()> {
        if self.comm.rank() == 0 {
            let path = self.folder.join(name);
            write_atomically(&path, text.as_bytes())?;
        }
        Ok(())
    }

    /// The data file, which `write` makes on rank 0.
    pub fn data(&self, write: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
        let path = self.folder.join(DATA);
        share_text(self.comm, || write(&path).map(|()| String::new())).map(|_| ())
    }

    /// Trains on the data file in a folder of this name; `settings` say what the model's recipe does not.
    pub fn train(&self, name: &str, settings: Settings) -> Result<Trained<'_>> {
        let run = self.folder.join(name);
        let args = TrainArgs {
            run: run.clone(),
            resume: false,
            from: None,
            data_copy: None,
            trace: None,
            quiet: true,
            sync_bn: false,
            settings: Settings {
                data: Some(self.folder.join(DATA)),
                // Tiny models: another thread costs more than it does.
                device: Some(DeviceChoice::Cpu),
                threads: Some(1),
                warmup: Some(0),
                metric: Some(Metric::Loss),
                ..settings
            },
        };
        if train::train(self.comm, args)?.stopped {
            bail!(
                "{}: stopped before its end; begin the demo again",
                run.display()
            );
        }
        Ok(Trained { stage: self, run })
    }
}

/// A model as it was when training ended.
pub struct Trained<'a> {
    stage: &'a Stage<'a>,
    run: PathBuf,
}

impl Trained<'_> {
    /// With the windows of a split.
    pub fn open(&self, split: &str) -> Result<(Net, Arc<Windows>)> {
        let windows = Windows::open(&self.stage.folder.join(DATA), split)?;
        let checkpoint = Checkpoint::read(&self.run.join(LAST))?;
        let header = &checkpoint.header;
        let build = Build {
            arch: header.arch,
            options: Options::default(),
            io: windows.io(),
            device: Device::Cpu,
            engine: EngineChoice::Auto,
            kind: Kind::Float,
            seed: 0,
            prior: None,
        };
        let mut net = build.net()?;
        checkpoint.restore(&mut net, None)?;
        Ok((net, Arc::new(windows)))
    }

    pub fn accuracy(&self, split: &str) -> Result<f64> {
        let (mut net, windows) = self.open(split)?;
        let engine = net.engine.as_mut();
        let tallies = evaluate::count(&Solo, engine, &windows, windows.num_rows(), None, || false)?;
        let accuracy = tallies.metrics().value("accuracy");
        accuracy.with_context(|| format!("{split}: no label is known"))
    }

    /// Epoch and accuracy of each evaluation on the validation windows.
    pub fn accuracies(&self) -> Result<Vec<(u64, f64)>> {
        let lines = logged(&self.run)?;
        let evaluations = lines.iter().filter(|line| line["event"] == "evaluation");
        let point = evaluations.map(|line| {
            let pair = || Some((line["epoch"].as_u64()?, line["valid"]["accuracy"].as_f64()?));
            pair()
                .with_context(|| format!("{}: an evaluation without accuracy", self.run.display()))
        });
        point.collect()
    }
}

/// Parameters of the layers whose names begin so.
pub fn parameters(net: &Net, layer: &str) -> i64 {
    let slots = net.flat.parameter_slots.iter();
    let of = slots.filter(|slot| slot.name.starts_with(layer));
    of.map(|slot| slot.numel()).sum()
}

/// An empty folder with our mark, by which the next demo knows that it may empty it.
fn clear(folder: &Path) -> Result<()> {
    let shown = folder.display();
    if folder.exists() {
        let empty = fs::read_dir(folder)
            .with_context(|| format!("reading {shown}"))?
            .next()
            .is_none();
        ensure!(
            empty || folder.join(MARK).is_file(),
            "{shown} holds something else than a demo: name another --out, or empty it yourself"
        );
        fs::remove_dir_all(folder).with_context(|| format!("emptying {shown}"))?;
    }
    fs::create_dir_all(folder).with_context(|| format!("creating {shown}"))?;
    fs::write(folder.join(MARK), "").with_context(|| format!("writing into {shown}"))
}
