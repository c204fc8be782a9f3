//! Named tensors of a safetensors file, and a model filled with them. docs/weights.md lists the names.

use std::{
    collections::HashMap,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, anyhow, ensure};
use safetensors::{Dtype, SafeTensors};
use tch::{Tensor, no_grad};

use crate::flat::FlatTensors;

/// What a checkpoint holds beside the model.
pub const OPTIMIZER: &str = "optimizer.";

/// A file read into memory.
pub struct Weights {
    pub path: PathBuf,
    tensors: HashMap<String, (Vec<i64>, Vec<f32>)>,
    /// Whole numbers, of models that count.
    words: HashMap<String, Vec<u32>>,
}

impl Weights {
    /// Also of a checkpoint.
    pub fn read(path: &Path) -> Result<Self> {
        let bytes =
            fs::read(path).with_context(|| format!("reading the weights {}", path.display()))?;
        Self::parse(path, &bytes)
    }

    pub fn parse(path: &Path, bytes: &[u8]) -> Result<Self> {
        let shown = path.display();
        let stored = SafeTensors::deserialize(bytes)
            .map_err(|err| anyhow!("{shown}: cut short or not a safetensors file ({err})"))?;
        let (mut tensors, mut counts) = (HashMap::new(), HashMap::new());
        for (name, view) in stored.tensors() {
            let words = view.data().as_chunks::<4>().0.iter();
            if view.dtype() == Dtype::U32 {
                counts.insert(name, words.map(|word| u32::from_le_bytes(*word)).collect());
                continue;
            }
            ensure!(
                view.dtype() == Dtype::F32,
                "{shown}: {name} is {:?}, expected F32",
                view.dtype()
            );
            let values = words.map(|word| f32::from_le_bytes(*word)).collect();
            let shape = view.shape().iter().map(|&n| n as i64).collect();
            tensors.insert(name, (shape, values));
        }
        Ok(Self {
            path: path.to_path_buf(),
            tensors,
            words: counts,
        })
    }

    /// The whole model; what the file holds besides, other than an optimizer's, is an error.
    pub fn fill_model(&self, flat: &FlatTensors) -> Result<()> {
        let known: Vec<&String> = flat.named().map(|(slot, _)| &slot.name).collect();
        let names = self.tensors.keys();
        let mut unknown: Vec<&str> = names
            .filter(|name| !name.starts_with(OPTIMIZER) && !known.contains(name))
            .map(String::as_str)
            .collect();
        unknown.sort_unstable();
        ensure!(
            unknown.is_empty(),
            "{}: the model has no {}; tfbind-mpi models NAME shows its layers",
            self.path.display(),
            unknown.join(", ")
        );
        self.restore(flat)
    }

    pub fn restore(&self, flat: &FlatTensors) -> Result<()> {
        for (slot, tensor) in flat.named() {
            self.fill(&slot.name, &tensor)?;
        }
        Ok(())
    }

    pub fn fill(&self, name: &str, tensor: &Tensor) -> Result<()> {
        let shown = self.path.display();
        let (shape, values) = self
            .tensors
            .get(name)
            .with_context(|| format!("{shown}: {name} is missing"))?;
        ensure!(
            *shape == tensor.size(),
            "{shown}: {name} has shape {shape:?}, the model needs {:?}",
            tensor.size()
        );
        let values = Tensor::from_slice(values).view(shape.as_slice());
        no_grad(|| tensor.shallow_clone().copy_(&values));
        Ok(())
    }

    pub fn words(&self, name: &str) -> Option<&[u32]> {
        self.words.get(name).map(Vec::as_slice)
    }

    /// All tensors of real numbers by name.
    pub fn sorted(&self) -> Vec<(String, Vec<f32>)> {
        let all = self.tensors.iter();
        let mut all: Vec<_> = all
            .map(|(name, (_, values))| (name.clone(), values.clone()))
            .collect();
        all.sort_by(|a, b| a.0.cmp(&b.0));
        all
    }
}
