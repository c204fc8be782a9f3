//! DeepSEA (Zhou & Troyanskaya 2015, Nat Methods 12:931) without dropout, on random data: layers that can be run as one
//! graph or as one graph a layer, and their gradients in the order in which backward finishes them.

use tch::{
    Device, Kind, Reduction, Tensor,
    nn::{self, Module, Sequential, VarStore},
};
use tfbind_mpi::flat::FlatTensors;

const BASES: i64 = 1000;
const TARGETS: i64 = 919;
const PARAMETERS: usize = 52_843_119;

#[derive(Debug)]
pub struct DeepSea {
    layers: Vec<Sequential>,
    /// [B, 4, 1000], one-hot
    input: Tensor,
    /// [B, 919]
    labels: Tensor,
}

impl DeepSea {
    /// The same weights on every rank, other data on each.
    pub fn new(batch: i64, rank: i64) -> (Self, FlatTensors) {
        tch::manual_seed(1);
        let store = VarStore::new(Device::Cpu);
        let root = store.root();
        let conv = |name: &str, from, to| {
            nn::seq().add(nn::conv1d(&root / name, from, to, 8, Default::default()))
        };
        let linear = |name: &str, from, to| {
            nn::seq().add(nn::linear(&root / name, from, to, Default::default()))
        };
        let pool = |x: &Tensor| x.relu().max_pool1d(4, 4, 0, 1, false);
        // Length after each convolution and pooling: 993, 248; 241, 60; 53. The names sort in the order of use.
        let layers = vec![
            conv("1_conv", 4, 320).add_fn(pool),
            conv("2_conv", 320, 480).add_fn(pool),
            conv("3_conv", 480, 960).add_fn(|x| x.relu().flatten(1, -1)),
            linear("4_linear", 53 * 960, 925).add_fn(Tensor::relu),
            linear("5_linear", 925, TARGETS),
        ];
        let flat = FlatTensors::new(&store);
        assert_eq!(flat.parameters.numel(), PARAMETERS);

        tch::manual_seed(100 + rank);
        let input = Tensor::randint(4, [batch, BASES], (Kind::Int64, Device::Cpu))
            .one_hot(4)
            .transpose(1, 2)
            .to_kind(Kind::Float)
            .contiguous();
        let labels = Tensor::rand([batch, TARGETS], (Kind::Float, Device::Cpu))
            .lt(0.1)
            .to_kind(Kind::Float);
        (
            Self {
                layers,
                input,
                labels,
            },
            flat,
        )
    }

    pub fn num_labels(&self) -> usize {
        self.labels.numel()
    }

    /// Adds the gradients of the summed loss.
    pub fn backward(&self) {
        let mut x = self.input.shallow_clone();
        for layer in &self.layers {
            x = layer.forward(&x);
        }
        self.loss(&x).backward();
    }

    /// The same, in one graph a layer; `finished` is called when the gradients of a layer are whole, last layer first.
    pub fn backward_by_layer(&self, mut finished: impl FnMut()) {
        // Of each graph the leaf it begins with, and the output it ends in.
        let mut graphs: Vec<(Tensor, Tensor)> = Vec::new();
        let mut x = self.input.shallow_clone();
        for layer in &self.layers {
            let output = layer.forward(&x);
            let leaf = std::mem::replace(&mut x, output.detach().set_requires_grad(true));
            graphs.push((leaf, output));
        }
        // tch has no backward from a given gradient g of an output y: sum(y * g) has the same gradients.
        let mut tail = self.loss(&x);
        let mut below = x;
        tail.backward();
        while let Some((leaf, output)) = graphs.pop() {
            tail = (output * below.grad()).sum(Kind::Float);
            tail.backward();
            finished();
            below = leaf;
        }
    }

    fn loss(&self, logits: &Tensor) -> Tensor {
        let none = None::<&Tensor>;
        logits.binary_cross_entropy_with_logits(&self.labels, none, none, Reduction::Sum)
    }
}

/// Of each layer, last first, where its parameters lie in the flat tensors: start and number.
pub fn by_layer(flat: &FlatTensors) -> Vec<(i64, i64)> {
    let mut layers: Vec<(&str, i64, i64)> = Vec::new();
    for slot in &flat.parameter_slots {
        let layer = slot.name.split('.').next().unwrap_or_default();
        match layers.last_mut() {
            Some((last, _, numel)) if *last == layer => *numel += slot.numel(),
            _ => layers.push((layer, slot.start, slot.numel())),
        }
    }
    layers
        .iter()
        .rev()
        .map(|&(_, start, n)| (start, n))
        .collect()
}
