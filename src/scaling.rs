//! `tfbind-mpi bench scaling`: what training gains from more ranks, weak and strong, and what it costs; beside it a
//! prediction from what `doctor` measures, carried on to more ranks than there are.
//!
//! ```text
//! study (what to run) ─ rounds (mpirun: doctor, train) ─ measure (metrics.jsonl, trace) ─▶ points ─ table, picture
//!                           └ doctor's times ─ wire, jitter ─ model ─▶ forecasts ────────────┘
//! ```
//! Nothing is timed here: `train` logs every step, and this reads it.

mod bars;
mod jitter;
mod launch;
mod measure;
mod model;
mod picture;
mod points;
mod rounds;
mod study;
mod synthetic;
mod table;
mod typed;
mod wire;

pub use measure::Spread;
pub use synthetic::{random_header, random_window};
pub use wire::Wire;

use std::time::Duration;

use anyhow::Result;
use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use crate::cli::ScalingArgs;
use model::Model;
use study::Study;
use table::Table;

/// What stays the same from 1 to N ranks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// The windows of a step on each rank: N ranks do N times the work
    Weak,
    /// The windows of a step on all ranks together: N ranks share the work
    Strong,
}

impl Mode {
    pub fn name(self) -> &'static str {
        match self {
            Mode::Weak => "weak",
            Mode::Strong => "strong",
        }
    }
}

pub fn scaling(args: &ScalingArgs, stall_timeout: Duration) -> Result<()> {
    let study = Study::new(args, stall_timeout)?;
    let machine = study.doctor()?;
    let runs = study.rounds()?;
    let model = Model::fit(&study, &machine, &runs)?;
    let targets = study.targets()?;
    Table::new(&study, &machine, &runs, targets, model)?.write(&args.out)
}
