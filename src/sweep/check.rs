//! Every trial is checked before the first begins, so that a mistake costs no allocation: its plan, its labels, its model
//! on the engine that is to run it, and the files it begins with.

use std::{collections::BTreeMap, path::PathBuf};

use anyhow::{Context, Result, bail, ensure};
use tch::{Device, Kind};
use toml::Table;

use super::{file::Sweep, space, study::Trial};
use crate::{
    checkpoint::Header,
    comm::{Comm, Solo},
    compute::Compute,
    data::Windows,
    device,
    engine::{Build, EngineChoice},
    init, kmer_input,
    model::Options,
    plan::{Metric, Plan, Settings},
    train::{open_windows, plan_on},
};

/// What the trials checked so far have in common.
#[derive(Default)]
pub struct Check {
    /// Training and validation windows.
    pub opened: BTreeMap<PathBuf, (Windows, Windows)>,
    /// What decides of a trial whether it can begin.
    begun: Vec<Table>,
    /// Data whose labels were looked at, by this metric.
    labelled: BTreeMap<PathBuf, Metric>,
    pub metric: Option<Metric>,
    pub epochs: u64,
}

impl Check {
    pub fn trial(
        &mut self,
        comm: &dyn Comm,
        sweep: &Sweep,
        tried: Table,
        copy: Option<&PathBuf>,
    ) -> Result<Trial> {
        let settings = space::settings(&tried)?.over(sweep.base.clone());
        let data = settings.data.clone();
        let data =
            data.context("data is missing: the HDF5 file that tfbind-prep made, in [base]")?;
        if !self.opened.contains_key(&data) {
            let path = copy.unwrap_or(&data);
            self.opened.insert(data.clone(), open_windows(path)?.into());
        }
        let (windows, valid) = &self.opened[&data];
        let (ranks, rows) = (sweep.ranks_per_trial, windows.num_rows());
        let typed = kmer_input::resolved(settings.clone())?;
        let plan = match self.labelled.get(&data) {
            // Of many targets a look at the labels takes a pass over the validation windows.
            Some(&metric) if typed.metric.is_none_or(|of| of == metric) => {
                let typed = Settings {
                    metric: Some(metric),
                    ..typed
                };
                Plan::new(typed, ranks, rows, windows.header.margin)?
            }
            _ => plan_on(&Solo, ranks, typed, windows, valid)?,
        };
        let metric = *self.metric.get_or_insert(plan.metric);
        if metric != plan.metric {
            bail!(
                "compared by {}, the first by {}: set metric in [base]",
                plan.metric.name(),
                metric.name()
            );
        }
        let deciding = deciding(&plan)?;
        if !self.begun.contains(&deciding) {
            begins(comm, &plan, windows)?;
            self.begun.push(deciding);
        }
        self.labelled.insert(data, metric);
        self.epochs = plan.epochs;
        Ok(Trial {
            tried,
            settings,
            global_batch: plan.global_batch,
            steps_an_epoch: rows.div_ceil(plan.global_batch) as u64,
        })
    }
}

/// Settings that do not decide whether a trial can begin: many trials differ in nothing else, and a model takes time to
/// build.
const CANNOT_PREVENT: [&str; 19] = [
    "batch",
    "global_batch",
    "epochs",
    "lr",
    "momentum",
    "rho",
    "l2",
    "lr_scaling",
    "warmup",
    "schedule",
    "decay_epochs",
    "decay_factor",
    "decay_rate",
    "clip_norm",
    "reverse_complement",
    "shift",
    "patience",
    "eval_every",
    "seed",
];

/// The settings that do.
fn deciding(plan: &Plan) -> Result<Table> {
    let mut settings = Table::try_from(&plan.settings)?;
    settings.retain(|name, _| !CANNOT_PREVENT.contains(&name));
    Ok(settings)
}

/// Begins a trial on the CPU of rank 0 as `train` will, or says why it would be refused.
fn begins(comm: &dyn Comm, plan: &Plan, windows: &Windows) -> Result<()> {
    let device = device::set_up_quietly(plan.device, plan.settings.threads, comm)?;
    ensure!(
        plan.engine != EngineChoice::Native || device == Device::Cpu,
        "the native engine computes on the CPU: device = \"cpu\""
    );
    let compute = Compute::of_training(plan, windows, device)?;
    let build = Build {
        arch: plan.arch,
        options: Options {
            mirror: windows.header.task.mirror(),
            ..plan.options
        },
        io: windows.io(),
        device: Device::Cpu,
        engine: compute.engine(plan.engine),
        kind: Kind::Float,
        seed: plan.seed,
        prior: windows.positive_share(),
    };
    let mut net = build.net()?;
    net.compute_as(&compute)?;
    init::begin(&Solo, plan, &net.flat)?;
    let Some(run) = &plan.settings.kmer_input else {
        return Ok(());
    };
    let header = Header::new(
        windows,
        plan.arch,
        plan.options.up_activation,
        plan.settings.clone(),
    );
    kmer_input::load(run, &header, &mut net).map(|_| ())
}
