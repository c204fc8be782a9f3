//! A checkpoint is one safetensors file: weights and running statistics by name, the optimizer's moments, and a
//! header in JSON that says where training stood. Written beside its name, synced, renamed: a kill leaves the old one.

use std::{collections::HashMap, fs, path::Path};

use anyhow::{Context, Result, anyhow, bail};
use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use serde::{Deserialize, Serialize};
use tfbind_prep::partial::PartialFile;

use crate::{
    flat::FlatTensors,
    model::{Activation, Arch, Io},
    optim::Optimizer,
    plan::Settings,
    sampler::Position,
    weights::{OPTIMIZER, Weights},
};

const FORMAT: &str = "tfbind-mpi/checkpoint 1";

/// Where training stood.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    pub step: u64,
    pub epoch: u64,
    /// Rows of this epoch already used.
    pub done: usize,
    pub training_seconds: f64,
    /// Training windows used, all ranks and epochs.
    pub samples: u64,
    pub best: Option<f64>,
    pub best_step: u64,
    /// Evaluations since the best.
    pub waited: u64,
    pub finished: bool,
    /// The evaluation after this step is still to be done: it was interrupted.
    #[serde(default)]
    pub due: bool,
    /// Sum and number of the step losses since the last evaluation.
    #[serde(default)]
    pub losses: (f64, u64),
    /// Steps left out because they were not finite.
    #[serde(default)]
    pub skipped: u64,
}

impl Progress {
    pub fn position(&self) -> Position {
        Position {
            step: self.step,
            epoch: self.epoch,
            done: self.done,
        }
    }
}

/// Everything but the tensors.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Header {
    pub arch: Arch,
    pub up_activation: Option<Activation>,
    pub io: Io,
    pub tracks: Vec<String>,
    pub targets: Vec<String>,
    pub normalise: String,
    /// Hash of the recipe that made the training data.
    pub data_recipe: String,
    pub ranks: usize,
    pub device: String,
    pub progress: Progress,
    pub plan: Settings,
}

impl Header {
    /// What has to be the same for a run to go on.
    pub fn identity(&self) -> [(&'static str, String); 7] {
        [
            ("arch", format!("{:?}", self.arch)),
            ("up_activation", format!("{:?}", self.up_activation)),
            ("width", format!("{:?}", self.plan.width)),
            ("sizes", format!("{:?}", self.io)),
            ("tracks", self.tracks.join(",")),
            ("targets", self.targets.join(",")),
            ("data recipe", self.data_recipe.clone()),
        ]
    }
}

/// Without an optimizer there is nothing to go on with.
pub fn save(
    path: &Path,
    header: &Header,
    flat: &FlatTensors,
    optimizer: Option<&Optimizer>,
) -> Result<()> {
    let mut tensors: Vec<(String, Vec<usize>, Vec<u8>)> = Vec::new();
    let moments = optimizer.into_iter().flat_map(|optimizer| {
        let named = [("first", &optimizer.first), ("second", &optimizer.second)];
        named.map(|(name, of)| (format!("{OPTIMIZER}{name}"), of.shallow_clone()))
    });
    let named = flat
        .named()
        .map(|(slot, tensor)| (slot.name.clone(), tensor));
    for (name, tensor) in named.chain(moments) {
        let values = Vec::<f32>::try_from(tensor.flatten(0, -1))?;
        let bytes = values
            .iter()
            .flat_map(|value| value.to_le_bytes())
            .collect();
        tensors.push((
            name,
            tensor.size().iter().map(|&n| n as usize).collect(),
            bytes,
        ));
    }
    let views = tensors
        .iter()
        .map(|(name, shape, bytes)| {
            Ok((
                name.as_str(),
                TensorView::new(Dtype::F32, shape.clone(), bytes)?,
            ))
        })
        .collect::<Result<Vec<_>>>()?;
    let metadata = HashMap::from([
        ("format".to_string(), FORMAT.to_string()),
        ("header".to_string(), serde_json::to_string(header)?),
    ]);
    let bytes = safetensors::serialize(views, Some(metadata))?;
    write_atomically(path, &bytes)
        .with_context(|| format!("writing the checkpoint {}", path.display()))
}

/// The file appears whole or not at all.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> Result<()> {
    let partial = PartialFile::beside(path)?;
    fs::write(partial.path(), bytes)?;
    Ok(partial.commit()?)
}

/// A checkpoint read into memory.
pub struct Checkpoint {
    pub header: Header,
    weights: Weights,
}

impl Checkpoint {
    pub fn read(path: &Path) -> Result<Self> {
        let bytes =
            fs::read(path).with_context(|| format!("reading the checkpoint {}", path.display()))?;
        let shown = path.display();
        let damaged = |err| {
            anyhow!("{shown}: cut short or not a checkpoint ({err}); use another one of the run")
        };
        let (_, metadata) = SafeTensors::read_metadata(&bytes).map_err(damaged)?;
        let metadata = metadata.metadata().clone().unwrap_or_default();
        match metadata.get("format").map(String::as_str) {
            Some(FORMAT) => {}
            found => bail!(
                "{shown}: not a checkpoint of this version: expected format {FORMAT:?}, found {found:?}"
            ),
        }
        let header = metadata
            .get("header")
            .with_context(|| format!("{shown}: no header"))?;
        let header =
            serde_json::from_str(header).with_context(|| format!("{shown}: unreadable header"))?;
        Ok(Self {
            header,
            weights: Weights::parse(path, &bytes)?,
        })
    }

    /// Fills the model, and the optimizer where training goes on.
    pub fn restore(&self, flat: &FlatTensors, optimizer: Option<&Optimizer>) -> Result<()> {
        self.weights.restore(flat)?;
        if let Some(optimizer) = optimizer {
            let named = [("first", &optimizer.first), ("second", &optimizer.second)];
            for (name, tensor) in named {
                self.weights.fill(&format!("{OPTIMIZER}{name}"), tensor)?;
            }
        }
        Ok(())
    }

    /// All tensors by name, for comparing two checkpoints.
    pub fn sorted_tensors(&self) -> Vec<(String, Vec<f32>)> {
        self.weights.sorted()
    }
}
