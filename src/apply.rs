//! A trained model and the windows it is applied to: what evaluate and predict begin with.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context, Result, ensure};
use tch::Device;

use crate::{
    checkpoint::{Checkpoint, Header},
    cli::ApplyArgs,
    comm::{Comm, share_text},
    compute::Precision,
    data::Windows,
    device,
    engine::{Build, EngineChoice, Net},
    gpu,
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
    /// The model counted these very windows, and each is scored as if it had not been.
    pub counted_them: bool,
}

impl Applied {
    /// Rank 0 reads the checkpoint; every rank gets its header and the filled model. The windows may have another
    /// length than those it was trained on. `gradients`: of the input, which the native engine has none of.
    pub fn open(comm: &dyn Comm, args: &ApplyArgs, gradients: bool) -> Result<Self> {
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
            EngineChoice::Auto if gradients && !counts => EngineChoice::Libtorch,
            other => other,
        };
        if let Device::Cuda(_) = device {
            // As the run's own evaluations were made.
            gpu::allow_tf32(header.plan.precision != Some(Precision::F32));
        }
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
        let trained_on_them =
            args.split == TRAIN && header.data_recipe == windows.header.recipe_hash;
        if trained_on_them {
            ensure!(
                !counts || header.progress.epoch > 0,
                "{}: a part of the training windows is counted, and which is not known: train --resume first",
                checkpoint.display()
            );
            net.engine.leave_one_out();
        } else if counts && args.split == TRAIN && comm.rank() == 0 {
            println!(
                "note: {} was prepared otherwise than what was counted: if a window of it was counted, it is scored with itself",
                data.display()
            );
        }
        let net = match args.both_strands {
            true => {
                ensure!(
                    windows.io().classes == 1,
                    "--both-strands is for labels of 0 and 1; {} holds classes",
                    data.display()
                );
                net.on_both_strands(windows.io(), windows.header.task.mirror().is_some())
            }
            false => net,
        };
        Ok(Self {
            checkpoint,
            header,
            data,
            windows,
            net,
            counted_them: counts && trained_on_them,
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
    let sorted = |names: &[String]| {
        let mut names = names.to_vec();
        names.sort();
        names
    };
    let of = &windows.header;
    for (what, then, now) in [
        ("tracks", &header.tracks, &of.tracks),
        ("targets", &header.targets, &of.targets),
    ] {
        ensure!(
            then == now || sorted(then) != sorted(now),
            "{}: its {what} are {now:?}, but the model has them in the order {then:?}; prepare the data alike",
            data.display()
        );
    }
    ensure!(
        of.tracks.is_empty() || of.normalise == header.normalise,
        "{}: signal normalised by {:?}, but the model was trained on {:?}; prepare the data alike",
        data.display(),
        of.normalise,
        header.normalise
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use tfbind_prep::schema::Central;

    use super::*;
    use crate::{
        data::tests::{hidden, windows},
        model::Arch,
        plan::Settings,
    };

    #[test]
    fn how_signal_is_normalised_matters_where_there_is_some() {
        let folder = tempfile::tempdir().unwrap();
        let fits = |mut windows: Windows| {
            let header = Header::new(&windows, Arch::Cnn, None, Settings::default());
            windows.header.normalise = "depth".into();
            check_fit(&header, &windows, Path::new("data.h5"))
        };
        let refused = fits(windows(folder.path())).unwrap_err().to_string();
        assert!(refused.contains("normalised by \"depth\""), "{refused}");
        fits(hidden(folder.path(), Central::Base)).unwrap();
    }
}
