//! The transformer's encoder with the norms before attention and perceptron (Xiong et al. 2020, arXiv:2002.04745), which
//! trains without a long warm-up.

use tch::Tensor;

use super::{Block, linear::Linear};
use crate::model::graph::{Activation, Builder, Value};

/// As in ViT and TransUNet.
const EPS: f64 = 1e-6;

/// Sizes of an encoder.
#[derive(Clone, Copy, Debug)]
pub struct Encoder {
    pub width: i64,
    pub heads: i64,
    pub depth: usize,
    /// Units between the two layers of a perceptron.
    pub hidden: i64,
    /// Share dropped of what each attention and each perceptron adds.
    pub dropout: f64,
}

impl Builder<'_> {
    /// [B, width, L] -> [B, width, L]
    pub fn encoder(&mut self, mut x: Value, sizes: &Encoder) -> Value {
        for _ in 0..sizes.depth {
            let mut more = self.layer_norm(x);
            more = self.attention(more, sizes.heads);
            more = self.dropout(more, sizes.dropout);
            x = self.add(x, more, Activation::None);
            more = self.layer_norm(x);
            more = self.perceptron(more, sizes.hidden);
            more = self.dropout(more, sizes.dropout);
            x = self.add(x, more, Activation::None);
        }
        self.layer_norm(x)
    }

    /// Each place is normalised over its channels.
    pub fn layer_norm(&mut self, x: Value) -> Value {
        let name = self.number("layer_normalization");
        let (channels, length) = self.shape(x);
        let path = self.path / &name;
        let norm = LayerNorm {
            weight: path.ones("weight", &[channels]),
            bias: path.zeros("bias", &[channels]),
        };
        self.block(name, &[x], Box::new(norm), channels, length)
    }

    /// Two dense layers at each place, with GELU between them.
    pub fn perceptron(&mut self, x: Value, hidden: i64) -> Value {
        let name = self.number("perceptron");
        let (channels, length) = self.shape(x);
        let path = self.path / &name;
        let perceptron = Perceptron {
            hidden: Linear::new(&(&path / "hidden"), channels, hidden),
            output: Linear::new(&(&path / "output"), hidden, channels),
            length,
        };
        self.block(name, &[x], Box::new(perceptron), channels, length)
    }
}

#[derive(Debug)]
struct LayerNorm {
    weight: Tensor,
    bias: Tensor,
}

impl Block for LayerNorm {
    fn forward(&self, inputs: &[&Tensor], _: bool) -> Tensor {
        let x = inputs[0].transpose(1, 2);
        let (weight, bias) = (Some(&self.weight), Some(&self.bias));
        let normal = x.layer_norm(self.weight.size(), weight, bias, EPS, true);
        normal.transpose(1, 2)
    }

    fn kind(&self) -> &'static str {
        "LayerNormalization"
    }

    fn parameters(&self) -> Vec<&Tensor> {
        vec![&self.weight, &self.bias]
    }

    /// As of batch norm, not worth counting.
    fn operations(&self) -> f64 {
        0.0
    }
}

#[derive(Debug)]
struct Perceptron {
    hidden: Linear,
    output: Linear,
    length: i64,
}

impl Block for Perceptron {
    fn forward(&self, inputs: &[&Tensor], _: bool) -> Tensor {
        let hidden = self.hidden.apply(&inputs[0].transpose(1, 2)).gelu("none");
        self.output.apply(&hidden).transpose(1, 2)
    }

    fn kind(&self) -> &'static str {
        "Perceptron"
    }

    fn parameters(&self) -> Vec<&Tensor> {
        let both = [&self.hidden, &self.output];
        both.iter().flat_map(|of| [&of.weight, &of.bias]).collect()
    }

    fn operations(&self) -> f64 {
        self.length as f64 * (self.hidden.operations() + self.output.operations())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        engine::masked_loss,
        flat::FlatTensors,
        loss::Loss,
        model::{Graph, Io, Options},
        optim::{Optimizer, Rule},
        sampler::SplitMix,
    };
    use tch::{
        Device, Kind,
        nn::{ModuleT, VarStore},
    };

    const APART: i64 = 3;

    fn io(length: i64) -> Io {
        Io {
            channels: 4,
            length,
            targets: 1,
            per_base: true,
            classes: 1,
        }
    }

    /// Sees places only through attention.
    fn graph(store: &VarStore, length: i64) -> Graph {
        let root = store.root();
        let (mut graph, mut x) = Builder::new(&root, io(length), Options::default());
        x = graph.conv(x, 32, 1, Activation::None);
        let sizes = Encoder {
            width: 32,
            heads: 2,
            depth: 1,
            hidden: 64,
            dropout: 0.0,
        };
        x = graph.encoder(x, &sizes);
        graph.conv(x, 1, 1, Activation::None);
        graph.finish()
    }

    /// Random bases, and at each place whether there was an A three places before.
    fn windows(random: &mut SplitMix, length: i64) -> (Tensor, Tensor) {
        let letters: Vec<i64> = (0..16 * length).map(|_| random.below(4) as i64).collect();
        let letters = Tensor::from_slice(&letters).view([16, length]);
        let x = letters.one_hot(4).transpose(1, 2).to_kind(Kind::Float);
        let labels = x.narrow(1, 0, 1).roll([APART], [2]).to_kind(Kind::Int8);
        let _ = labels.narrow(2, 0, APART).fill_(-1);
        (x, labels)
    }

    #[test]
    fn distances_learned_in_short_windows_hold_in_long_ones() {
        let (short, long) = (24, 48);
        let mut stores = [short, long].map(|_| VarStore::new(Device::Cpu));
        let [learner, reader] =
            [(0, short), (1, long)].map(|(of, length)| graph(&stores[of], length));
        let flat = FlatTensors::new(&stores[0]);
        // Not from libtorch's generator, which all tests share.
        let mut random = SplitMix::keyed(&[1]);
        for slot in flat
            .parameter_slots
            .iter()
            .filter(|slot| slot.shape.len() > 1)
        {
            let reach = (3.0 / (slot.numel() / slot.shape[0]) as f64).sqrt();
            let mut uniform = || random.below(1 << 20) as f64 / 524_288.0 - 1.0;
            let drawn: Vec<f32> = (0..slot.numel())
                .map(|_| (reach * uniform()) as f32)
                .collect();
            let drawn = Tensor::from_slice(&drawn).view(slot.shape.as_slice());
            tch::no_grad(|| slot.view(&flat.parameters).copy_(&drawn));
        }
        let mut optimizer = Optimizer::new(Rule::Adam, 0.9, &flat.parameters);
        let mut loss = |graph: &Graph, length: i64, train: bool| {
            let (x, labels) = windows(&mut random, length);
            let (loss, valid) = masked_loss(
                Loss::CrossEntropy,
                &graph.forward_t(&x, train),
                &labels,
                io(length),
            );
            loss / valid
        };
        for step in 1..=250 {
            let _ = flat.gradients.shallow_clone().zero_();
            loss(&learner, short, true).backward();
            optimizer.step(&flat.parameters, &flat.gradients, 5e-3, step);
        }
        let [learned, empty] = &mut stores;
        empty.copy(learned).unwrap();
        let mut at = |graph, length| tch::no_grad(|| loss(graph, length, false).double_value(&[]));
        let (here, there) = (at(&learner, short), at(&reader, long));
        // 0.56 for who knows only that a quarter are A's.
        assert!(here < 0.05 && there < 0.1, "{here} and {there}");
    }
}
