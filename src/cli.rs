//! What is typed.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::{
    device::DeviceChoice,
    engine::EngineChoice,
    evaluate::{BinLabel, BinScore},
    model::{Activation, Arch},
    plan::Settings,
};

/// Train, evaluate and apply models of transcription-factor binding on 1..N MPI ranks.
#[derive(Parser, Debug)]
#[command(name = "tfbind-mpi", version)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
    /// Seconds that ranks wait for each other before they name who is missing and end the job
    #[arg(long, global = true, default_value_t = 300.0)]
    pub stall_timeout: f64,
}

#[derive(Subcommand, Debug)]
pub enum Command {
    /// Train a model; under mpirun on as many ranks as it starts
    Train(Box<TrainArgs>),
    /// Show on a data set that N ranks compute what one process with all their rows computes
    Verify(Box<VerifyArgs>),
    /// Metrics of a trained model on a split of a data file
    Evaluate(EvaluateArgs),
    /// Scores with locus, to HDF5; `tfbind-prep export` turns them into bigWig
    Predict(PredictArgs),
    /// Draw curves and a genome view of a run, and bind them into one HTML page
    Report(ReportArgs),
    /// Say in one screen what is wrong with a node or a cluster; under mpirun on as many ranks as it starts
    Doctor(DoctorArgs),
    /// List the models, or print one as a table of layers
    Models(ModelsArgs),
}

#[derive(Args, Debug)]
pub struct TrainArgs {
    /// Folder for checkpoints, log and plan
    #[arg(long)]
    pub run: PathBuf,
    /// Go on from the run's last checkpoint, with its settings unless others are typed
    #[arg(long)]
    pub resume: bool,
    /// TOML file of settings, such as the plan.toml of another run
    #[arg(long, conflicts_with = "resume")]
    pub from: Option<PathBuf>,
    /// Write what every rank did when, for Perfetto or chrome://tracing
    #[arg(long)]
    pub trace: Option<PathBuf>,
    /// The same as --batch-norm sync
    #[arg(long, conflicts_with = "batch_norm")]
    pub sync_bn: bool,
    #[command(flatten)]
    pub settings: Settings,
}

#[derive(Args, Debug)]
pub struct VerifyArgs {
    /// Steps to compare
    #[arg(long, default_value_t = 5)]
    pub steps: u64,
    /// Largest relative difference that passes [default: 1e-9; --single 1e-3, and 5e-2 with synchronised batch norm,
    /// where a rounding may turn a ReLU]
    #[arg(long)]
    pub tolerance: Option<f64>,
    /// Compute in single precision, as training does, in place of double, where rounding cannot hide a mistake
    #[arg(long)]
    pub single: bool,
    /// The same as --batch-norm sync
    #[arg(long, conflicts_with = "batch_norm")]
    pub sync_bn: bool,
    /// TOML file of settings, such as the plan.toml of a run
    #[arg(long)]
    pub from: Option<PathBuf>,
    #[command(flatten)]
    pub settings: Settings,
}

/// A trained model and the windows to apply it to.
#[derive(Args, Debug)]
pub struct ApplyArgs {
    /// Run folder (its best checkpoint) or a checkpoint file
    pub run: PathBuf,
    /// HDF5 file of tfbind-prep [default: the one trained on]
    #[arg(long)]
    pub data: Option<PathBuf>,
    #[arg(long, default_value = "test")]
    pub split: String,
    /// Windows of a batch: Keras' dice depends on it
    #[arg(long, default_value_t = 64)]
    pub eval_batch: usize,
    #[arg(long, value_enum, default_value = "auto")]
    pub device: DeviceChoice,
    /// What computes
    #[arg(long, value_enum, default_value = "auto")]
    pub engine: EngineChoice,
    /// CPU threads of a rank [default: its share of the host's cores; predict: 1, as its file is then the same for any
    /// number of ranks]
    #[arg(long)]
    pub threads: Option<usize>,
}

#[derive(Args, Debug)]
pub struct EvaluateArgs {
    #[command(flatten)]
    pub apply: ApplyArgs,
    /// Folder for the tables [default: beside the checkpoint]
    #[arg(long)]
    pub out: Option<PathBuf>,
    /// Score bins of so many bases
    #[arg(long)]
    pub bin: Option<usize>,
    /// A bin's score of the model's (a baseline's is always the highest)
    #[arg(long, value_enum, default_value = "max", requires = "bin")]
    pub bin_score: BinScore,
    /// When a bin is positive
    #[arg(long, value_enum, default_value = "any", requires = "bin")]
    pub bin_label: BinLabel,
    /// Also score each signal track alone
    #[arg(long)]
    pub baselines: bool,
    /// Also score this motif (JASPAR counts) alone and with the signal
    #[arg(long)]
    pub motif: Option<PathBuf>,
    /// Bases around its centre that a motif hit speaks for
    #[arg(long, default_value_t = 10, requires = "motif")]
    pub motif_reach: usize,
}

#[derive(Args, Debug)]
pub struct PredictArgs {
    #[command(flatten)]
    pub apply: ApplyArgs,
    /// HDF5 file to write [default: predictions_SPLIT.h5 beside the checkpoint]
    #[arg(long)]
    pub out: Option<PathBuf>,
    /// Also predict the windows between windows, so that every base is seen away from an edge
    #[arg(long)]
    pub half_window: bool,
}

#[derive(Args, Debug)]
pub struct ReportArgs {
    /// Run folder
    pub run: PathBuf,
    /// Split to draw; its predictions_SPLIT.h5 must be in the run folder
    #[arg(long, default_value = "test")]
    pub split: String,
    /// HDF5 file of tfbind-prep [default: the one trained on]
    #[arg(long)]
    pub data: Option<PathBuf>,
}

#[derive(Args, Debug)]
pub struct DoctorArgs {
    /// HDF5 file of tfbind-prep that every rank should open and read
    #[arg(long)]
    pub data: Option<PathBuf>,
    /// Folder that will hold the runs
    #[arg(long, default_value = ".")]
    pub run: PathBuf,
    /// Model whose gradient is summed over the ranks
    #[arg(long, value_enum, default_value = "unet")]
    pub arch: Arch,
    #[arg(long, value_enum, default_value = "auto")]
    pub device: DeviceChoice,
    /// Also write the times measured to this file
    #[arg(long)]
    pub json: Option<PathBuf>,
}

#[derive(Args, Debug)]
pub struct ModelsArgs {
    pub arch: Option<Arch>,
    /// 4 bases and the signal tracks
    #[arg(long, default_value_t = 5)]
    pub channels: i64,
    /// Bases of a window
    #[arg(long, default_value_t = 10_240)]
    pub length: i64,
    #[arg(long, default_value_t = 1)]
    pub targets: i64,
    /// After the U-Net's transposed convolutions
    #[arg(long)]
    pub up_activation: Option<Activation>,
}
