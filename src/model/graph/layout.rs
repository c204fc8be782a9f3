//! The same model with its numbers laid out otherwise: channels last, their number padded, or convolutions in another
//! precision. The weights that are trained, summed and saved stay where they are; a twin of the graph computes with
//! copies that one gather makes before a step, and one gather brings the gradients back after it.
//!
//! Padding is exact: a channel that is added has zero weights to it and from it, so that it is zero after a convolution,
//! after ReLU and after batch norm, and nothing of it reaches the others.

mod gather;
#[cfg(test)]
mod tests;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor, no_grad};

use super::{Graph, Layer, Op};
use crate::flat::FlatTensors;
use gather::{Channels, Copies, Gather, inverse, room};

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Layout {
    /// [B, C, L], as the model is written
    #[default]
    Plain,
    /// [B, C, 1, L] with the channels of a base side by side, their number padded with zeros to a multiple of 8
    ChannelsLast,
}

impl Layout {
    /// Channels that `channels` take up: tensor cores and vector registers hold 8 numbers of 16 or 32 bits.
    pub fn padded(self, channels: i64) -> i64 {
        match self {
            Layout::Plain => channels,
            Layout::ChannelsLast => (channels + 7) / 8 * 8,
        }
    }
}

const PLAIN_ONLY: &str = "asked before: Graph::plain_layer";

#[derive(Debug)]
pub struct Twin {
    pub graph: Graph,
    parameters: Tensor,
    gradients: Tensor,
    buffers: Tensor,
    convs: Copies,
    norms: Copies,
    running: Copies,
    /// Of the convolutions, then of the norms, each as its copies lie.
    leaves: Vec<Tensor>,
    num_conv_leaves: usize,
    /// Where the gradient of each parameter is among those of convs and norms [P], and each running statistic [R].
    back: Tensor,
    running_back: Tensor,
}

impl Twin {
    /// `graph` with the layout asked for and convolutions of `kind`; norms stay in the kind of the weights.
    pub fn new(graph: &Graph, flat: &FlatTensors, layout: Layout, kind: Kind) -> Self {
        let (parameters, buffers) = (&flat.parameters, &flat.buffers);
        let (mut convs, mut norms, mut running) =
            (Gather::default(), Gather::default(), Gather::default());
        let channels = graph.channels(layout);
        for (layer, out) in graph.layers.iter().zip(&channels) {
            let input = layer.inputs.first().map(|&input| &channels[input]);
            match &layer.op {
                Op::Conv { weight, bias, .. } => {
                    let both = [out, input.expect("a convolution has an input")];
                    convs.weight(weight, parameters, both, layout);
                    convs.vector(bias, parameters, out);
                }
                Op::UpConv { weight, bias, .. } => {
                    let both = [input.expect("a convolution has an input"), out];
                    convs.weight(weight, parameters, both, layout);
                    convs.vector(bias, parameters, out);
                }
                Op::BatchNorm {
                    weight,
                    bias,
                    mean,
                    var,
                    ..
                } => {
                    norms.vector(weight, parameters, out);
                    norms.vector(bias, parameters, out);
                    running.vector(mean, buffers, out);
                    running.vector(var, buffers, out);
                }
                Op::Input
                | Op::Activation(_)
                | Op::MaxPool(_)
                | Op::Dropout(_)
                | Op::Concat
                | Op::Add(_)
                | Op::Gate => {}
                Op::Block(_) => unreachable!("{PLAIN_ONLY}"),
            }
        }
        let (convs, conv_leaves) = convs.finish(parameters, kind);
        let (norms, norm_leaves) = norms.finish(parameters, parameters.kind());
        let (running, running_views) = running.finish(buffers, parameters.kind());
        let leaf = |view: Tensor| {
            let leaf = view.set_requires_grad(true);
            // Synchronised batch norm adds into gradients, which have to be there.
            leaf.sum(leaf.kind()).backward();
            leaf
        };
        let num_conv_leaves = conv_leaves.len();
        let all = conv_leaves.into_iter().chain(norm_leaves);
        let leaves: Vec<Tensor> = all.map(leaf).collect();
        let graph = graph.with_tensors(layout, &leaves, num_conv_leaves, &running_views);
        let after_convs = convs.from.numel() as i64;
        let in_norms = norms.places.iter();
        let in_norms = in_norms.map(|&(there, here)| (there, here + after_convs));
        let trained = convs.places.iter().copied().chain(in_norms);
        Self {
            back: inverse(trained, parameters),
            running_back: inverse(running.places.iter().copied(), buffers),
            parameters: parameters.shallow_clone(),
            gradients: flat.gradients.shallow_clone(),
            buffers: buffers.shallow_clone(),
            graph,
            convs,
            norms,
            running,
            leaves,
            num_conv_leaves,
        }
    }

    /// The copies become what the weights are now.
    pub fn refresh(&self) {
        no_grad(|| {
            self.convs.refresh(&self.parameters);
            self.norms.refresh(&self.parameters);
            self.running.refresh(&self.buffers);
        });
    }

    /// Gradients of the copies by a backward pass from `loss`, added to those of the weights.
    pub fn backward(&self, loss: &Tensor) {
        let gradients = Tensor::run_backward(&[loss], &self.leaves, false, false);
        self.collect(&gradients);
    }

    /// The same where the copies hold their gradients, which begin at zero.
    pub fn begin(&self) {
        for leaf in &self.leaves {
            let _ = leaf.grad().zero_();
        }
    }

    pub fn collect_own(&self) {
        let gradients: Vec<Tensor> = self.leaves.iter().map(Tensor::grad).collect();
        self.collect(&gradients);
    }

    fn collect(&self, gradients: &[Tensor]) {
        no_grad(|| {
            let kind = self.gradients.kind();
            // As the copies lie.
            let flat = |gradients: &[Tensor]| {
                let lying = gradients.iter().map(|gradient| {
                    let flat = match gradient.dim() {
                        4 => gradient.permute([0, 2, 3, 1]).reshape([-1]),
                        _ => gradient.reshape([-1]),
                    };
                    match (room(gradient.numel()) - gradient.numel()) as i64 {
                        0 => flat,
                        left => flat.constant_pad_nd([0, left]),
                    }
                });
                Tensor::cat(&lying.collect::<Vec<_>>(), 0).to_kind(kind)
            };
            let (convs, norms) = gradients.split_at(self.num_conv_leaves);
            let all = match norms.is_empty() {
                true => flat(convs),
                false => Tensor::cat(&[flat(convs), flat(norms)], 0),
            };
            let mut own = self.gradients.shallow_clone();
            own += all.index_select(0, &self.back);
        });
    }

    /// The running statistics that the copies moved to become the model's.
    pub fn keep_running(&self) {
        if self.buffers.numel() > 0 {
            let moved = self.running.values.index_select(0, &self.running_back);
            no_grad(|| self.buffers.shallow_clone().copy_(&moved));
        }
    }
}

impl Graph {
    /// Of each layer's output. The last one's are the logits, never padded.
    fn channels(&self, layout: Layout) -> Vec<Channels> {
        let mut all: Vec<Channels> = Vec::new();
        for (place, layer) in self.layers.iter().enumerate() {
            let own = (0..layer.channels).map(Some);
            let padding = layout.padded(layer.channels) - layer.channels;
            all.push(match &layer.op {
                Op::Conv { .. } if place + 1 == self.layers.len() => own.collect(),
                Op::Input | Op::Conv { .. } | Op::UpConv { .. } => own
                    .chain(std::iter::repeat_n(None, padding as usize))
                    .collect(),
                Op::BatchNorm { .. }
                | Op::Activation(_)
                | Op::MaxPool(_)
                | Op::Dropout(_)
                | Op::Gate => all[layer.inputs[0]].clone(),
                Op::Add(_) => {
                    let both = [layer.inputs[0], layer.inputs[1]].map(|input| &all[input]);
                    assert_eq!(both[0], both[1], "{} adds unlike channels", layer.name);
                    both[0].clone()
                }
                Op::Block(_) => unreachable!("{PLAIN_ONLY}"),
                Op::Concat => {
                    let (first, second) = (layer.inputs[0], layer.inputs[1]);
                    let before = self.layers[first].channels;
                    let moved = all[second].iter();
                    let moved = moved.map(|channel| channel.map(|channel| channel + before));
                    all[first].iter().copied().chain(moved).collect()
                }
            });
        }
        all
    }

    /// The same layers with other tensors: those of convolutions, then of norms, in order of the layers.
    fn with_tensors(
        &self,
        layout: Layout,
        leaves: &[Tensor],
        num_convs: usize,
        running: &[Tensor],
    ) -> Graph {
        let own = |tensors: &[Tensor]| -> Vec<Tensor> {
            tensors.iter().map(Tensor::shallow_clone).collect()
        };
        let mut convs = own(&leaves[..num_convs]).into_iter();
        let mut norms = own(&leaves[num_convs..]).into_iter();
        let mut running = own(running).into_iter();
        let layers = self.layers.iter().map(|layer| {
            let mut conv = || convs.next().expect("two tensors a convolution");
            let mut norm = || norms.next().expect("two tensors a norm");
            let mut statistic = || running.next().expect("two statistics a norm");
            let op = match &layer.op {
                Op::Input => Op::Input,
                Op::Activation(activation) => Op::Activation(*activation),
                Op::MaxPool(width) => Op::MaxPool(*width),
                Op::Dropout(share) => Op::Dropout(*share),
                Op::Concat => Op::Concat,
                Op::Add(activation) => Op::Add(*activation),
                Op::Gate => Op::Gate,
                Op::Block(_) => unreachable!("{PLAIN_ONLY}"),
                Op::Conv {
                    activation,
                    padding,
                    ..
                } => Op::Conv {
                    weight: conv(),
                    bias: conv(),
                    activation: *activation,
                    padding: *padding,
                },
                Op::UpConv { activation, .. } => Op::UpConv {
                    weight: conv(),
                    bias: conv(),
                    activation: *activation,
                },
                Op::BatchNorm { constants, .. } => Op::BatchNorm {
                    weight: norm(),
                    bias: norm(),
                    mean: statistic(),
                    var: statistic(),
                    constants: *constants,
                },
            };
            Layer {
                name: layer.name.clone(),
                op,
                inputs: layer.inputs.clone(),
                channels: layer.channels,
                length: layer.length,
            }
        });
        Graph {
            layers: layers.collect(),
            batch_norm: self.batch_norm,
            layout,
            last_use: self.last_use.clone(),
            ..*self
        }
    }
}
