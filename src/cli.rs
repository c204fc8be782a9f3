//! What is typed.

use std::{path::PathBuf, time::Duration};

use clap::{Args, Parser, Subcommand, builder::RangedU64ValueParser, value_parser};

use crate::{
    demo::Demo,
    device::DeviceChoice,
    engine::EngineChoice,
    evaluate::{BinLabel, BinScore},
    explain::Method,
    model::{Activation, Arch},
    plan::{EVAL_BATCH, Settings},
    scaling::{Mode, Wire},
};

/// Train, evaluate and apply models of transcription-factor binding on 1..N MPI ranks.
#[derive(Parser, Debug)]
#[command(name = "tfbind-mpi", version)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
    /// Seconds that ranks wait for each other before they name who is missing and end the job
    #[arg(long, global = true, default_value = "300", value_parser = seconds)]
    pub stall_timeout: Duration,
}

/// A number of which there is at least one.
pub fn positive() -> RangedU64ValueParser<usize> {
    RangedU64ValueParser::new().range(1..)
}

fn seconds(text: &str) -> Result<Duration, &'static str> {
    let number = text.parse().ok();
    number
        .and_then(|number| Duration::try_from_secs_f64(number).ok())
        .ok_or("not a number of seconds")
}

#[derive(Subcommand, Debug)]
pub enum Command {
    /// Train a model; under mpirun on as many ranks as it starts
    Train(Box<TrainArgs>),
    /// Train many settings, each on a group of the ranks, and compare them
    #[command(after_help = include_str!("../docs/sweep.toml"))]
    Sweep(Box<SweepArgs>),
    /// Show on a data set that N ranks compute what one process with all their rows computes
    Verify(Box<VerifyArgs>),
    /// Metrics of a trained model on a split of a data file
    Evaluate(EvaluateArgs),
    /// Scores with locus, to HDF5; `tfbind-prep export` turns them into bigWig
    Predict(PredictArgs),
    /// What a model's output rests on: the relevance of every base and signal, or what is lost without the flanks
    Explain(ExplainArgs),
    /// Make a run of weights that another program trained, for evaluate, predict and report
    Import(ImportArgs),
    /// Draw curves and a genome view of a run, and bind them into one HTML page
    Report(ReportArgs),
    /// Say in one screen what is wrong with a node or a cluster; under mpirun on as many ranks as it starts
    Doctor(DoctorArgs),
    /// Time training on this machine or in this allocation
    #[command(subcommand)]
    Bench(Bench),
    /// List the models, or print one as a table of layers
    Models(ModelsArgs),
    /// Train small models of a class on generated data, published figures beside ours; without a name, list them
    Demo(DemoArgs),
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
    /// Read this copy of --data, such as one on the node's own disk; the run remembers --data
    #[arg(long)]
    pub data_copy: Option<PathBuf>,
    /// Write what every rank did when, for Perfetto or chrome://tracing
    #[arg(long)]
    pub trace: Option<PathBuf>,
    /// Log to the run folder and print only errors and, on a terminal, the progress bar
    #[arg(long)]
    pub quiet: bool,
    /// The same as --batch-norm sync
    #[arg(long, conflicts_with = "batch_norm")]
    pub sync_bn: bool,
    #[command(flatten)]
    pub settings: Settings,
}

#[derive(Args, Debug)]
pub struct SweepArgs {
    /// TOML file that says what is tried, such as the one below
    pub file: PathBuf,
    /// Folder for the trials, sweep.csv and sweep.svg; a sweep that was interrupted goes on [default: run of the file]
    #[arg(long)]
    pub run: Option<PathBuf>,
    /// Read this copy of --data, such as one on the node's own disk
    #[arg(long)]
    pub data_copy: Option<PathBuf>,
    /// Of every trial, over [base] of the file
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
    #[arg(long, default_value_t = EVAL_BATCH)]
    pub eval_batch: usize,
    /// Mean of the probabilities of a window and of its reverse complement
    #[arg(long)]
    pub both_strands: bool,
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
    /// Also score this motif alone and with the signal: a JASPAR, MEME, HOMER or ENCODE file of one, or FILE#NAME
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
    /// HDF5 file to write [default: beside the checkpoint predictions_SPLIT.h5, or predictions_SPLIT_both_strands.h5]
    #[arg(long)]
    pub out: Option<PathBuf>,
    /// Also predict the windows between windows, so that every base is seen away from an edge
    #[arg(long)]
    pub half_window: bool,
}

#[derive(Args, Debug)]
pub struct ExplainArgs {
    #[command(flatten)]
    pub apply: ApplyArgs,
    /// How relevance is found [default: integrated-gradients, or occlusion where there is no gradient: of counts, with
    /// --both-strands, with --engine native]
    #[arg(long, value_enum)]
    pub method: Option<Method>,
    /// Target to explain [default: the only one]
    #[arg(long)]
    pub target: Option<String>,
    /// Windows to explain, evenly over the split [default: all]
    #[arg(long)]
    pub windows: Option<usize>,
    /// Steps from nothing to the window, for integrated-gradients [default: 32]
    #[arg(long)]
    pub steps: Option<usize>,
    /// Bases left as they are on each side of the middle, for flank-shuffle and flank-random [default: those of 0, 1, 2, 3,
    /// 5, 10, 20, 50, 100 that the window has]
    #[arg(long, value_delimiter = ',')]
    pub keep: Option<Vec<usize>>,
    /// Seed of what is put in place of the flanks [default: 1]
    #[arg(long)]
    pub seed: Option<u64>,
    /// Folder for the tables and pictures [default: beside the checkpoint]
    #[arg(long)]
    pub out: Option<PathBuf>,
}

#[derive(Args, Debug)]
pub struct ImportArgs {
    /// Model the weights are of
    #[arg(long, value_enum)]
    pub arch: Arch,
    /// Safetensors file with this program's names and layouts; docs/weights.md lists them, tools/convert_weights.py writes
    /// it from Keras' and PyTorch's files
    #[arg(long)]
    pub weights: PathBuf,
    /// HDF5 file of tfbind-prep with the windows that the model reads and the targets it predicts
    #[arg(long)]
    pub data: PathBuf,
    /// Run folder to make
    #[arg(long)]
    pub run: PathBuf,
    /// After the transposed convolutions of U-Nets and transformer
    #[arg(long)]
    pub up_activation: Option<Activation>,
    /// Share of the published filters and hidden units [default: 1]
    #[arg(long)]
    pub width: Option<f64>,
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

#[derive(Subcommand, Debug)]
pub enum Bench {
    /// Throughput, efficiency and cost from 1 to N ranks, beside a prediction; starts mpirun itself
    Scaling(Box<ScalingArgs>),
}

#[derive(Args, Debug)]
pub struct ScalingArgs {
    /// Numbers of ranks, ascending; the first is what the others are compared with
    #[arg(long, value_delimiter = ',', required = true)]
    pub ranks: Vec<usize>,
    /// Folder for scaling.csv, scaling.json, scaling.svg and the runs; one that was interrupted goes on
    #[arg(long)]
    pub out: PathBuf,
    /// HDF5 file of tfbind-prep [default: random windows, made here]
    #[arg(long)]
    pub data: Option<PathBuf>,
    /// Bases of a random window [default: 2048]
    #[arg(long, conflicts_with = "data")]
    pub length: Option<usize>,
    /// What stays the same from 1 to N ranks; strong alone also times a few windows on the first number of ranks
    #[arg(long, value_enum, value_delimiter = ',', default_values = ["weak", "strong"])]
    pub modes: Vec<Mode>,
    /// Windows of a step on each rank, for weak
    #[arg(long, default_value_t = 8)]
    pub batch: usize,
    /// Windows of a step on all ranks together, for strong and --target [default: --batch times the most ranks]
    #[arg(long)]
    pub global_batch: Option<usize>,
    /// Steps that are timed
    #[arg(long, default_value_t = 30)]
    pub steps: u64,
    /// Steps before those
    #[arg(long, default_value_t = 10)]
    pub warmup: u64,
    /// Rounds over all numbers of ranks, up and down in turn; one more before them finds the phases
    #[arg(long, default_value_t = 3)]
    pub repeats: u64,
    /// What starts ranks, with its arguments but without -np [default: $MPIRUN, else mpirun]
    #[arg(long)]
    pub mpirun: Option<String>,
    /// Also train until a metric of validation is as good as this, such as pr_auc=0.7, with a seed a repeat
    #[arg(long, value_name = "METRIC=VALUE")]
    pub target: Option<String>,
    /// Service units that an hour of a CPU costs
    #[arg(long, requires = "cpus_per_rank")]
    pub su_rate: Option<f64>,
    /// CPUs that the queue charges for a rank
    #[arg(long, requires = "su_rate")]
    pub cpus_per_rank: Option<f64>,
    /// Carry the prediction on to so many ranks
    #[arg(long, default_value_t = 512)]
    pub predict_to: usize,
    /// Between hosts, for the prediction: microseconds of a message and GB/s, such as 2,22 [default: as measured, or
    /// where only one host was at hand as inside it]
    #[arg(long, value_name = "US,GB/S")]
    pub wire: Option<Wire>,
    /// Settings of train, such as -- --arch cnn --device cuda
    #[arg(last = true)]
    pub train: Vec<String>,
}

#[derive(Args, Debug)]
pub struct DemoArgs {
    pub demo: Option<Demo>,
    /// Folder for data, runs, table and pictures [default: runs/demos/NAME]
    #[arg(long, requires = "demo")]
    pub out: Option<PathBuf>,
    /// Passes over the data [default: as many as published, 500; vanishing-gradient 35, where 700 are published]
    #[arg(long, requires = "demo")]
    pub epochs: Option<u64>,
    /// Runs, with the seeds 1, 2, ... [default: as many as take less than a minute]
    #[arg(long, requires = "demo")]
    pub seeds: Option<u64>,
}

#[derive(Args, Debug)]
pub struct ModelsArgs {
    pub arch: Option<Arch>,
    /// 4 bases and the signal tracks [default: as published]
    #[arg(long, requires = "arch", value_parser = value_parser!(i64).range(4..))]
    pub channels: Option<i64>,
    /// Bases of a window [default: as published]
    #[arg(long, requires = "arch", value_parser = value_parser!(i64).range(1..))]
    pub length: Option<i64>,
    /// [default: as published]
    #[arg(long, requires = "arch", value_parser = value_parser!(i64).range(1..))]
    pub targets: Option<i64>,
    /// After the transposed convolutions of U-Nets and transformer
    #[arg(long, requires = "arch")]
    pub up_activation: Option<Activation>,
    /// Share of the published filters and hidden units [default: 1]
    #[arg(long, requires = "arch")]
    pub width: Option<f64>,
}
