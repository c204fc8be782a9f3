//! In which form libtorch computes a model: precision, layout, replay of recorded steps, where the rows lie. Each is
//! typed or chosen by what the device can do, and printed; what cannot be done is an error.

#[cfg(test)]
mod tests;

use anyhow::{Context, Result, ensure};
use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use tch::Device;

use crate::{
    data::Windows,
    engine::{self, EngineChoice},
    feed::Resident,
    gpu,
    model::{BatchNorm, Layout},
    plan::{Plan, Settings},
};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Precision {
    /// Convolutions in single precision
    F32,
    /// GPU of compute capability 8 or newer: factors of convolutions rounded to TF32, sums in f32
    Tf32,
    /// Convolutions and what lies between them in bf16; weights, batch norm's statistics, loss and optimizer in f32. On
    /// a CPU the factors of convolutions alone, by the native engine where there is avx512_bf16; without it slowly, by
    /// libtorch
    Bf16,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum LayoutChoice {
    /// channels-last on a GPU below f32, and with --engine libtorch on a CPU; else plain. The choice is printed
    Auto,
    Plain,
    ChannelsLast,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Replay {
    /// On a GPU where it is possible; the choice is printed
    Auto,
    On,
    Off,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Feed {
    /// resident on a GPU with room for the training windows, else streamed; the choice is printed
    Auto,
    /// All training windows on the GPU, in the form of the file
    Resident,
    /// Read as they are drawn, and sent through page-locked memory without the host waiting
    Streamed,
}

/// Steps that a GPU runs ahead of the host unless others are typed.
const LOOK_EVERY: u64 = 16;
/// Share of a GPU's free memory that the data may take. The rest is for the step: the U-Net keeps some 20 MB of f32 for a
/// window of 10,240 bases, counted over its layers.
const SHARE: f64 = 0.4;

/// What was typed.
#[derive(Clone, Copy, Debug, Default)]
pub struct Typed {
    pub precision: Option<Precision>,
    pub layout: Option<LayoutChoice>,
    pub replay: Option<Replay>,
    pub feed: Option<Feed>,
    pub look_every: Option<u64>,
}

impl From<&Settings> for Typed {
    fn from(settings: &Settings) -> Self {
        Self {
            precision: settings.precision,
            layout: settings.layout,
            replay: settings.replay,
            feed: settings.feed,
            look_every: settings.look_every,
        }
    }
}

/// What the choice depends on.
#[derive(Clone, Copy, Debug, Default)]
pub struct Facts {
    pub gpu: Option<Gpu>,
    /// Synchronised batch norm over several ranks: the host takes part in every step.
    pub synced: bool,
    /// Adam, and no limit to norms.
    pub adam: bool,
    /// The model has layers that know one layout and one precision.
    pub plain_only: bool,
    /// The engine was typed; the native one has a layout of its own.
    pub libtorch: bool,
    /// Of the training windows.
    pub data_bytes: u64,
}

impl Facts {
    pub fn of(device: Device) -> Result<Self> {
        let card = |gpu| -> Result<Card> {
            let (free, major) = gpu::card(gpu)?;
            Ok(Card {
                free_bytes: free as u64,
                major,
            })
        };
        let gpu = match device {
            Device::Cuda(gpu) if gpu::opens().is_ok() => Some(Some(card(gpu)?)),
            Device::Cuda(_) => Some(None),
            _ => None,
        };
        Ok(Self {
            gpu,
            ..Self::default()
        })
    }
}

/// None where the program's own part for CUDA is missing or does not open.
pub type Gpu = Option<Card>;

#[derive(Clone, Copy, Debug)]
pub struct Card {
    pub free_bytes: u64,
    /// Major number of the compute capability.
    pub major: i32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Compute {
    pub precision: Precision,
    pub layout: Layout,
    /// Whether it was asked for, also the plain one: the native engine has a layout of its own.
    pub layout_typed: bool,
    pub replay: bool,
    pub resident: bool,
    /// Steps between two looks of the host at the loss.
    pub look_every: u64,
}

impl Compute {
    /// As libtorch does unless told otherwise.
    pub const PLAIN: Self = Self {
        precision: Precision::F32,
        layout: Layout::Plain,
        layout_typed: false,
        replay: false,
        resident: false,
        look_every: 1,
    };

    pub fn of_training(plan: &Plan, windows: &Windows, device: Device) -> Result<Self> {
        let facts = Facts {
            synced: plan.options.batch_norm == BatchNorm::Sync,
            adam: plan.runs_ahead(),
            plain_only: !plan.arch.paper().convolutional,
            libtorch: plan.engine == EngineChoice::Libtorch,
            data_bytes: Resident::bytes(windows),
            ..Facts::of(device)?
        };
        Self::choose(Typed::from(&plan.settings), facts)
    }

    pub fn choose(typed: Typed, facts: Facts) -> Result<Self> {
        let on_gpu = facts.gpu.is_some();
        let card = facts.gpu.flatten();
        let major = card.map_or(8, |card| card.major);
        let precision = typed.precision.unwrap_or(match on_gpu && major >= 8 {
            true => Precision::Tf32,
            false => Precision::F32,
        });
        ensure!(
            on_gpu || precision != Precision::Tf32,
            "--precision tf32: CPUs have no TF32; f32 or bf16"
        );
        ensure!(
            !on_gpu || precision == Precision::F32 || major >= 8,
            "--precision: tf32 and bf16 need a GPU of compute capability 8 or newer, this one is {major}; f32"
        );
        ensure!(
            !facts.plain_only || !matches!(typed.layout, Some(LayoutChoice::ChannelsLast)),
            "--layout channels-last: this model has layers that know only the plain one"
        );
        ensure!(
            !facts.plain_only || precision != Precision::Bf16,
            "--precision bf16: this model has layers that compute only in the precision of their weights"
        );
        let layout = match typed.layout.unwrap_or(LayoutChoice::Auto) {
            LayoutChoice::Auto if facts.plain_only => Layout::Plain,
            LayoutChoice::Plain => Layout::Plain,
            LayoutChoice::ChannelsLast => Layout::ChannelsLast,
            LayoutChoice::Auto if on_gpu && precision != Precision::F32 => Layout::ChannelsLast,
            // The U-Net's step takes 0.75 to 0.82 of the plain one's time there.
            LayoutChoice::Auto if !on_gpu && facts.libtorch => Layout::ChannelsLast,
            LayoutChoice::Auto => Layout::Plain,
        };
        // Not by default: benches/gpu has not seen a card replay a step yet.
        let replay = match typed.replay.unwrap_or(Replay::Off) {
            Replay::Off => false,
            Replay::Auto => card.is_some() && !facts.synced,
            Replay::On => {
                ensure!(on_gpu, "--replay on records CUDA graphs: it needs a GPU");
                card.with_context(|| lacks("--replay on"))?;
                ensure!(
                    !facts.synced,
                    "--replay on: in synchronised batch norm the ranks speak in the middle of a step, which no recording \
                     can hold; --batch-norm rank or --replay off"
                );
                true
            }
        };
        let resident = match typed.feed.unwrap_or(Feed::Auto) {
            Feed::Streamed => false,
            Feed::Auto => card.is_some_and(|card| fits(facts.data_bytes, card.free_bytes)),
            Feed::Resident => {
                ensure!(on_gpu, "--feed resident keeps the windows on a GPU");
                let card = card.with_context(|| lacks("--feed resident"))?;
                ensure!(
                    facts.data_bytes < card.free_bytes,
                    "--feed resident: the training windows take {:.1} GB, and {:.1} GB of the GPU are free",
                    facts.data_bytes as f64 / 1e9,
                    card.free_bytes as f64 / 1e9
                );
                true
            }
        };
        ensure!(
            typed.look_every != Some(0),
            "--look-every must be at least 1"
        );
        ensure!(
            facts.adam || typed.look_every.is_none_or(|every| every == 1),
            "--look-every: only --optimizer adam runs ahead of the host, and not with --max-norm"
        );
        let look_every = typed.look_every.unwrap_or(match on_gpu && facts.adam {
            true => LOOK_EVERY,
            false => 1,
        });
        Ok(Self {
            precision,
            layout,
            layout_typed: typed.layout.is_some_and(|of| of != LayoutChoice::Auto),
            replay,
            resident,
            look_every,
        })
    }

    /// The engine for it: what only libtorch can do, libtorch does unless another was typed, which then refuses.
    pub fn engine(&self, typed: EngineChoice) -> EngineChoice {
        let of_native = Self {
            look_every: self.look_every,
            precision: match self.precision {
                Precision::Bf16 if engine::bf16() => Precision::Bf16,
                _ => Precision::F32,
            },
            ..Self::PLAIN
        };
        match typed {
            EngineChoice::Auto if *self != of_native => EngineChoice::Libtorch,
            typed => typed,
        }
    }

    /// For the plan's table, with the name of the engine that was chosen.
    pub fn line(&self, engine: &str) -> String {
        let mut line = self.form(engine);
        if self.replay {
            line += ", steps replayed";
        }
        if self.look_every > 1 {
            line += &format!(", the host looks every {} steps", self.look_every);
        }
        line + match self.resident {
            true => ", windows resident on the GPU",
            false => ", windows streamed",
        }
    }

    /// Engine, precision and layout.
    pub fn form(&self, engine: &str) -> String {
        let precision = match self.precision {
            Precision::F32 => "f32",
            Precision::Tf32 => "tf32",
            Precision::Bf16 => "bf16",
        };
        let layout = match self.layout {
            Layout::Plain => "plain",
            Layout::ChannelsLast => "channels-last",
        };
        format!("{engine}, {precision}, layout {layout}")
    }
}

/// Why a GPU of which nothing is known cannot do what was typed.
fn lacks(typed: &str) -> String {
    let why = gpu::opens().err().map(|err| format!("{err:#}"));
    format!("{typed}: {}", why.unwrap_or("the GPU is not known".into()))
}

fn fits(bytes: u64, free: u64) -> bool {
    bytes as f64 <= SHARE * free as f64
}
