//! Self-attention of the places of a window (Vaswani et al. 2017, arXiv:1706.03762) with rotary positions (Su et al.
//! 2021, arXiv:2104.09864): queries and keys are turned by an angle that grows with their place, so that a score depends
//! on how far two places are apart and on nothing else. No table of positions is learned: a trained model reads windows of
//! any length.

use tch::{Device, Kind, Tensor};

use super::{Block, linear::Linear};
use crate::model::graph::{Builder, Value};

/// Wavelengths of the turns, in places: 2 pi for the first pair of a head, towards 2 pi x 10,000 for the last.
const BASE: f64 = 10_000.0;

#[derive(Debug)]
struct Attention {
    /// Queries, keys and values, one above the other.
    qkv: Linear,
    output: Linear,
    heads: i64,
    rotary: Rotary,
}

impl Builder<'_> {
    /// [B, C, L] -> [B, C, L]: every place reads all others through `heads` heads of C / heads channels.
    pub fn attention(&mut self, x: Value, heads: i64) -> Value {
        let (channels, length) = self.shape(x);
        assert_eq!(channels % (2 * heads), 0, "a head turns pairs of channels");
        let name = self.number("multi_head_attention");
        let path = self.path / &name;
        let attention = Attention {
            qkv: Linear::stacked(&(&path / "qkv"), channels, channels, 3),
            output: Linear::new(&(&path / "output"), channels, channels),
            heads,
            rotary: Rotary::new(length, channels / heads, path.device()),
        };
        self.block(name, &[x], Box::new(attention), channels, length)
    }
}

impl Block for Attention {
    fn forward(&self, inputs: &[&Tensor], _: bool) -> Tensor {
        let x = inputs[0].transpose(1, 2);
        let (batch, length, channels) = x.size3().expect("[B, L, C]");
        let split = [batch, length, 3, self.heads, channels / self.heads];
        // [3, B, H, L, C / H]
        let qkv = self.qkv.apply(&x).view(split).permute([2, 0, 3, 1, 4]);
        let [query, key] = [0, 1].map(|part| self.rotary.turn(&qkv.select(0, part)));
        let value = qkv.select(0, 2);
        // libtorch never holds the L x L scores of a head at once where it has a kernel of its own for the device.
        let mixed = Tensor::scaled_dot_product_attention(
            &query,
            &key,
            &value,
            None::<&Tensor>,
            0.0,
            false,
            None,
            false,
        );
        let mixed = mixed.transpose(1, 2).reshape([batch, length, channels]);
        self.output.apply(&mixed).transpose(1, 2)
    }

    fn kind(&self) -> &'static str {
        "MultiHeadAttention"
    }

    fn parameters(&self) -> Vec<&Tensor> {
        let both = [&self.qkv, &self.output];
        both.iter().flat_map(|of| [&of.weight, &of.bias]).collect()
    }

    fn operations(&self) -> f64 {
        let (length, channels) = (self.rotary.length() as f64, self.output.bias.numel() as f64);
        // Scores, and the values they weigh.
        let mixing = 2.0 * 2.0 * length * channels;
        length * (self.qkv.operations() + self.output.operations() + mixing)
    }
}

/// Cosines and sines of the angles [L, D / 2], in double precision, where an angle of many places is still exact.
#[derive(Debug)]
struct Rotary {
    cos: Tensor,
    sin: Tensor,
}

impl Rotary {
    fn new(length: i64, width: i64, device: Device) -> Self {
        let on = (Kind::Double, device);
        let place = Tensor::arange(length, on).unsqueeze(1);
        let pair = Tensor::arange(width / 2, on) * (-2.0 * BASE.ln() / width as f64);
        let angle = place * pair.exp();
        Self {
            cos: angle.cos(),
            sin: angle.sin(),
        }
    }

    fn length(&self) -> i64 {
        self.cos.size()[0]
    }

    /// x [.., L, D]: channels i and D / 2 + i are a pair, turned by the place times BASE^(-2 i / D).
    fn turn(&self, x: &Tensor) -> Tensor {
        let [cos, sin] = [&self.cos, &self.sin].map(|table| table.to_kind(x.kind()));
        let halves = x.chunk(2, -1);
        let (a, b) = (&halves[0], &halves[1]);
        Tensor::cat(&[a * &cos - b * &sin, a * &sin + b * &cos], -1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Graph, Io, Options};
    use tch::nn::{ModuleT, VarStore};

    const IO: Io = Io {
        channels: 12,
        length: 7,
        targets: 12,
        per_base: true,
        classes: 1,
    };
    const HEADS: usize = 3;

    fn numbers(tensor: &Tensor) -> Vec<f64> {
        Vec::try_from(tensor.contiguous().flatten(0, -1)).unwrap()
    }

    /// Sum by sum. Only the distance of two places is ever used: a key is turned to its query by the difference.
    fn by_hand(parts: [&[f64]; 4], x: &[f64], length: usize) -> Vec<f64> {
        let [qkv, qkv_bias, output, output_bias] = parts;
        let channels = qkv_bias.len() / 3;
        let width = channels / HEADS;
        let project = |row: usize, at: usize| -> f64 {
            let terms = (0..channels).map(|c| qkv[row * channels + c] * x[c * length + at]);
            qkv_bias[row] + terms.sum::<f64>()
        };
        let mut mixed = vec![0.0; channels * length];
        for head in 0..HEADS {
            for t in 0..length {
                let score = |s: usize| -> f64 {
                    let pairs = (0..width / 2).map(|i| {
                        let angle =
                            (t as f64 - s as f64) * 10_000f64.powf(-2.0 * i as f64 / width as f64);
                        let (first, second) = (head * width + i, head * width + width / 2 + i);
                        let (qa, qb) = (project(first, t), project(second, t));
                        let key = |row: usize| project(channels + row, s);
                        let (ka, kb) = (key(first), key(second));
                        // Real part of q conj(k) e^(i angle).
                        (qa * ka + qb * kb) * angle.cos() + (qa * kb - qb * ka) * angle.sin()
                    });
                    pairs.sum::<f64>() / (width as f64).sqrt()
                };
                let weights: Vec<f64> = (0..length).map(|s| score(s).exp()).collect();
                let whole: f64 = weights.iter().sum();
                for c in head * width..(head + 1) * width {
                    let values = weights.iter().enumerate();
                    mixed[c * length + t] = values
                        .map(|(s, weight)| weight / whole * project(2 * channels + c, s))
                        .sum();
                }
            }
        }
        let mut out = vec![0.0; channels * length];
        for (row, bias) in output_bias.iter().enumerate() {
            for t in 0..length {
                let terms =
                    (0..channels).map(|c| output[row * channels + c] * mixed[c * length + t]);
                out[row * length + t] = bias + terms.sum::<f64>();
            }
        }
        out
    }

    #[test]
    fn attention_is_its_formula_and_knows_only_distances() {
        tch::manual_seed(4);
        let mut store = VarStore::new(Device::Cpu);
        let graph: Graph = {
            let root = store.root();
            let (mut graph, x) = Builder::new(&root, IO, Options::default());
            graph.attention(x, HEADS as i64);
            graph.finish()
        };
        store.set_kind(Kind::Double);
        let variables = store.variables();
        tch::no_grad(|| {
            for (name, tensor) in &variables {
                if name.ends_with("bias") {
                    let _ = tensor.shallow_clone().normal_(0.0, 0.5);
                }
            }
        });
        let names = ["qkv.weight", "qkv.bias", "output.weight", "output.bias"];
        let parts = names.map(|name| numbers(&variables[&format!("multi_head_attention.{name}")]));
        let x = Tensor::randn([1, 12, 7], (Kind::Double, Device::Cpu)) * 2.0;
        let own = numbers(&tch::no_grad(|| graph.forward_t(&x, false)));
        let expected = by_hand(parts.each_ref().map(Vec::as_slice), &numbers(&x), 7);
        for (a, b) in own.iter().zip(&expected) {
            assert!((a - b).abs() < 1e-12, "{a} instead of {b}");
        }
    }
}
