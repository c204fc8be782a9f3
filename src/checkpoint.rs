//! A checkpoint is one safetensors file: weights and running statistics by name, the optimizer's moments, and a
//! header in JSON that says where training stood. Written beside its name, synced, renamed: a kill leaves the old one.

use std::{collections::HashMap, fs, path::Path};

use anyhow::{Context, Result, anyhow, bail, ensure};
use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use serde::{Deserialize, Serialize};
use tfbind_prep::partial::PartialFile;

use crate::{
    counts::{Counter, Seen},
    data::Windows,
    engine::Net,
    model::{Activation, Arch, Io},
    optim::Optimizer,
    plan::{SEED, Settings, word},
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
    /// Of a model that is not trained yet, here by one rank.
    pub fn new(
        windows: &Windows,
        arch: Arch,
        up_activation: Option<Activation>,
        plan: Settings,
    ) -> Self {
        let data = &windows.header;
        Self {
            arch,
            up_activation,
            io: windows.io(),
            tracks: data.tracks.clone(),
            targets: data.targets.clone(),
            normalise: data.normalise.clone(),
            data_recipe: data.recipe_hash.clone(),
            ranks: 1,
            device: "cpu".into(),
            progress: Progress::default(),
            plan,
        }
    }

    /// What has to be the same for a run to go on: its name, and its value in words, whether typed or not.
    pub fn identity(&self) -> [(&'static str, String); 11] {
        let (plan, io, paper) = (&self.plan, self.io, self.arch.paper());
        let typed = |number: Option<usize>| number.map_or("none".into(), |n| n.to_string());
        let up_activation = self.up_activation.or(paper.up_activation);
        let optimizer = plan.optimizer.unwrap_or(paper.recipe.optimizer);
        let sizes = format!(
            "{} channels, windows of {} bases, {} targets, labels of {} for {}",
            io.channels,
            io.length,
            io.targets,
            match io.classes {
                1 => "0 and 1".into(),
                classes => format!("{classes} classes"),
            },
            if io.per_base {
                "every base"
            } else {
                "the window"
            }
        );
        [
            ("--arch", self.arch.to_string()),
            ("--up-activation", up_activation.map_or("none".into(), word)),
            ("--width", plan.width.unwrap_or(1.0).to_string()),
            ("--seed", plan.seed.unwrap_or(SEED).to_string()),
            ("--optimizer", optimizer.family().into()),
            ("sizes", sizes),
            ("tracks", self.tracks.join(",")),
            ("targets", self.targets.join(",")),
            ("data recipe", self.data_recipe.clone()),
            ("--kmer", typed(plan.kmer)),
            ("--markov-order", typed(plan.markov_order)),
        ]
    }
}

/// Names of the table of what was counted: keys in ascending order, and how often each was seen.
const COUNTED: [&str; 2] = ["counts.keys", "counts.times"];

/// Without an optimizer there is nothing to go on with.
pub fn save(path: &Path, header: &Header, net: &Net, optimizer: Option<&Optimizer>) -> Result<()> {
    let mut tensors: Vec<(String, Dtype, Vec<usize>, Vec<u8>)> = Vec::new();
    let moments = optimizer.into_iter().flat_map(|optimizer| {
        let named = [("first", &optimizer.first), ("second", &optimizer.second)];
        named.map(|(name, of)| (format!("{OPTIMIZER}{name}"), of.shallow_clone()))
    });
    let named = net.flat.named();
    let named = named.map(|(slot, tensor)| (slot.name.clone(), tensor));
    for (name, tensor) in named.chain(moments) {
        let values = Vec::<f32>::try_from(tensor.flatten(0, -1))?;
        let bytes = values.iter().flat_map(|value| value.to_le_bytes());
        let shape = tensor.size().iter().map(|&n| n as usize).collect();
        tensors.push((name, Dtype::F32, shape, bytes.collect()));
    }
    if let Some(counter) = net.engine.counter() {
        for (name, words) in COUNTED.into_iter().zip(words(counter.total())?) {
            let bytes = words.iter().flat_map(|word| word.to_le_bytes());
            let shape = vec![words.len()];
            tensors.push((name.to_string(), Dtype::U32, shape, bytes.collect()));
        }
    }
    let views = tensors
        .iter()
        .map(|(name, dtype, shape, bytes)| {
            let view = TensorView::new(*dtype, shape.clone(), bytes)?;
            Ok((name.as_str(), view))
        })
        .collect::<Result<Vec<_>>>()?;
    let metadata = HashMap::from([
        ("format".to_string(), FORMAT.to_string()),
        ("header".to_string(), serde_json::to_string(header)?),
    ]);
    let bytes = safetensors::serialize(views, Some(metadata))?;
    write_atomically(path, &bytes)
}

/// Keys and times.
fn words(seen: &Seen) -> Result<[Vec<u32>; 2]> {
    let times = seen.times().map(|times| {
        u32::try_from(times).with_context(|| format!("{times} times are more than a file holds"))
    });
    Ok([seen.keys().to_vec(), times.collect::<Result<_>>()?])
}

/// The file appears whole or not at all.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> Result<()> {
    let write = || {
        let partial = PartialFile::beside(path)?;
        fs::write(partial.path(), bytes)?;
        partial.commit()
    };
    write().with_context(|| format!("writing {}", path.display()))
}

/// A checkpoint read into memory.
pub struct Checkpoint {
    pub header: Header,
    weights: Weights,
    counted: Option<Seen>,
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
        let weights = Weights::parse(path, &bytes)?;
        let counted = match COUNTED.map(|name| weights.words(name)) {
            [Some(keys), Some(times)] => {
                let seen: Result<Seen> = Seen::from_parts(keys, times);
                Some(seen.with_context(|| format!("{shown}: use another one of the run"))?)
            }
            _ => None,
        };
        Ok(Self {
            header,
            weights,
            counted,
        })
    }

    /// Fills the model, and the optimizer where training goes on.
    pub fn restore(&self, net: &mut Net, optimizer: Option<&Optimizer>) -> Result<()> {
        self.weights.restore(&net.flat)?;
        if let Some(counter) = net.engine.counter_mut() {
            self.restore_counts(counter)?;
        }
        if let Some(optimizer) = optimizer {
            let named = [("first", &optimizer.first), ("second", &optimizer.second)];
            for (name, tensor) in named {
                self.weights.fill(&format!("{OPTIMIZER}{name}"), tensor)?;
            }
        }
        Ok(())
    }

    /// Fills a table that holds nothing yet.
    pub fn restore_counts(&self, counter: &mut Counter) -> Result<()> {
        let shown = self.weights.path.display();
        let counted = self.counted.as_ref();
        let counted = counted.with_context(|| format!("{shown}: {} is missing", COUNTED[0]))?;
        let largest = counted.keys().last();
        ensure!(
            largest.is_none_or(|&key| u64::from(key) < counter.all_keys()),
            "{shown}: holds counts of more bases than are asked for"
        );
        counter.add(counted.clone());
        Ok(())
    }

    pub fn counted(&self) -> Option<&Seen> {
        self.counted.as_ref()
    }

    /// All tensors by name, for comparing two checkpoints.
    pub fn sorted_tensors(&self) -> Vec<(String, Vec<f32>)> {
        self.weights.sorted()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::optim::Rule;

    fn header(plan: Settings) -> Header {
        let arch = Arch::Unet;
        Header {
            arch,
            up_activation: plan.up_activation,
            io: arch.paper().io,
            tracks: Vec::new(),
            targets: Vec::new(),
            normalise: String::new(),
            data_recipe: String::new(),
            ranks: 1,
            device: String::new(),
            progress: Progress::default(),
            plan,
        }
    }

    /// The first difference between a run of these settings and one of none.
    fn differs(plan: Settings) -> Option<(&'static str, String)> {
        let (own, usual) = (header(plan), header(Settings::default()));
        let pairs = own.identity().into_iter().zip(usual.identity());
        pairs
            .into_iter()
            .find_map(|(own, usual)| (own != usual).then_some(own))
    }

    #[test]
    fn a_default_that_is_typed_is_the_same_run_and_another_value_is_named() {
        let plan = Settings::default;
        let same = Settings {
            up_activation: Some(Activation::Relu),
            width: Some(1.0),
            seed: Some(SEED),
            optimizer: Some(Rule::AdamInvariant),
            ..plan()
        };
        assert_eq!(differs(same), None);
        let said = |plan| differs(plan).map(|(name, value)| format!("{name} {value}"));
        for (other, name) in [
            (
                Settings {
                    seed: Some(2),
                    ..plan()
                },
                "--seed 2",
            ),
            (
                Settings {
                    optimizer: Some(Rule::Nesterov),
                    ..plan()
                },
                "--optimizer sgd or nesterov",
            ),
            (
                Settings {
                    up_activation: Some(Activation::None),
                    ..plan()
                },
                "--up-activation none",
            ),
            (
                Settings {
                    width: Some(0.5),
                    ..plan()
                },
                "--width 0.5",
            ),
            (
                Settings {
                    kmer: Some(3),
                    ..plan()
                },
                "--kmer 3",
            ),
        ] {
            assert_eq!(said(other).as_deref(), Some(name));
        }
    }
}
