//! A trained model and the windows it is applied to: what evaluate and predict begin with.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context, Result, ensure};

use crate::{
    checkpoint::{Checkpoint, Header},
    cli::ApplyArgs,
    comm::{Comm, share_text},
    data::Windows,
    device,
    engine::{Build, EngineChoice, Net},
    model::Options,
    resume::{LAST, checkpoint_of},
    step::{broadcast, share_counts_of_rank_0},
};

const TRAIN: &str = "train";

/// A trained model beside the windows it is applied to.
pub struct Applied {
    pub checkpoint: PathBuf,
    pub header: Header,
    pub data: PathBuf,
    pub windows: Arc<Windows>,
    pub net: Net,
}

impl Applied {
    /// Rank 0 reads the checkpoint; every rank gets its header and the filled model. The windows may have another
    /// length than those it was trained on.
    pub fn open(comm: &dyn Comm, args: &ApplyArgs) -> Result<Self> {
        ensure!(args.eval_batch > 0, "--eval-batch must be at least 1");
        let device = device::set_up(args.device, args.threads, comm)?;
        let checkpoint = checkpoint_of(&args.run);
        if args.run.is_dir() && checkpoint.ends_with(LAST) && comm.rank() == 0 {
            println!(
                "{} was never evaluated while training: using {LAST}",
                args.run.display()
            );
        }
        let mut read = None;
        let text = share_text(comm, || {
            let found = Checkpoint::read(&checkpoint)?;
            let text = serde_json::to_string(&found.header)?;
            read = Some(found);
            Ok(text)
        })?;
        let header: Header = serde_json::from_str(&text)?;
        let data = args
            .data
            .clone()
            .or(header.plan.data.clone())
            .context("--data is missing")?;
        let windows = Arc::new(Windows::open(&data, &args.split)?);
        check_fit(&header, &windows, &data)?;
        let names = |tracks: &[String], targets: &[String]| [tracks, targets].concat().join(", ");
        let (then, now) = (
            names(&header.tracks, &header.targets),
            names(&windows.header.tracks, &windows.header.targets),
        );
        if then != now && comm.rank() == 0 {
            println!("note: trained on {then}; applied to {now}");
        }
        let options = Options {
            up_activation: header.up_activation,
            reading: header.plan.reading(header.arch)?,
            mirror: windows.header.task.mirror(),
            width: header.plan.width,
            // Only training drops; an engine that cannot need not.
            no_dropout: true,
            ..Options::default()
        };
        let counts = header.arch.paper().recipe.counts.is_some();
        let engine = match args.engine {
            EngineChoice::Auto if args.gradients && !counts => EngineChoice::Libtorch,
            other => other,
        };
        let net = Build {
            arch: header.arch,
            options,
            io: windows.io(),
            device,
            engine,
            kind: tch::Kind::Float,
            seed: 0,
            prior: None,
        };
        let mut net = net.net()?;
        if let Some(read) = read {
            read.restore(&mut net, None)?;
        }
        broadcast(comm, &net.flat.parameters);
        broadcast(comm, &net.flat.buffers);
        share_counts_of_rank_0(comm, &mut net);
        if args.split == TRAIN && header.data_recipe == windows.header.recipe_hash {
            ensure!(
                header.arch.paper().recipe.counts.is_none() || header.progress.epoch > 0,
                "{}: a part of the training windows is counted, and which is not known: train --resume first",
                checkpoint.display()
            );
            net.engine.leave_one_out();
        }
        let net = match args.both_strands {
            true => {
                ensure!(
                    windows.io().classes == 1,
                    "--both-strands is for labels of 0 and 1; {} holds classes",
                    data.display()
                );
                net.on_both_strands(windows.io())
            }
            false => net,
        };
        Ok(Self {
            checkpoint,
            header,
            data,
            windows,
            net,
        })
    }
}

/// Whether windows are what the model was trained to read; their length may differ.
pub fn check_fit(header: &Header, windows: &Windows, data: &Path) -> Result<()> {
    let io = windows.io();
    ensure!(
        (io.channels, io.targets, io.per_base, io.classes)
            == (
                header.io.channels,
                header.io.targets,
                header.io.per_base,
                header.io.classes
            ),
        "{}: the model reads tracks {:?} and predicts {:?}; the data has tracks {:?} and targets {:?}",
        data.display(),
        header.tracks,
        header.targets,
        windows.header.tracks,
        windows.header.targets
    );
    let sorted = |tracks: &[String]| {
        let mut tracks = tracks.to_vec();
        tracks.sort();
        tracks
    };
    let (then, now) = (&header.tracks, &windows.header.tracks);
    ensure!(
        then == now || sorted(then) != sorted(now),
        "{}: its tracks are {now:?}, but the model reads them in the order {then:?}; prepare the data alike",
        data.display()
    );
    ensure!(
        windows.header.normalise == header.normalise,
        "{}: signal normalised by {:?}, but the model was trained on {:?}; prepare the data alike",
        data.display(),
        windows.header.normalise,
        header.normalise
    );
    Ok(())
}
