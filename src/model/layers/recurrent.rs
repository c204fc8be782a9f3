//! Recurrent layers along a window, in one direction or both.

use tch::{Tensor, nn};

use super::Block;
use crate::model::graph::{Builder, Value};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cell {
    /// Elman's, with tanh
    Simple,
    /// Gates in the order input, forget, cell, output
    Lstm,
}

impl Cell {
    fn gates(self) -> i64 {
        match self {
            Cell::Simple => 1,
            Cell::Lstm => 4,
        }
    }
}

#[derive(Debug)]
struct Recurrent {
    cell: Cell,
    units: i64,
    /// Of each direction: weights of the input [G U, C], of the state [G U, U], bias [G U].
    directions: Vec<[Tensor; 3]>,
    length: i64,
    sequence: bool,
}

impl Builder<'_> {
    /// [B, C, L] -> [B, D units, L], or the last state of each direction [B, D units, 1]; D is 2 in both directions.
    pub fn recurrent(
        &mut self,
        x: Value,
        cell: Cell,
        units: i64,
        both: bool,
        sequence: bool,
    ) -> Value {
        let (channels, length) = self.shape(x);
        let kind = match (cell, both) {
            (_, true) => "bidirectional",
            (Cell::Simple, false) => "simple_rnn",
            (Cell::Lstm, false) => "lstm",
        };
        let name = self.number(kind);
        let path = self.path / &name;
        let rows = cell.gates() * units;
        let limit = (6.0 / (channels + rows) as f64).sqrt();
        let (lo, up) = (-limit, limit);
        let direction = |suffix: &str| {
            let bias = path.zeros(&format!("bias{suffix}"), &[rows]);
            if cell == Cell::Lstm {
                // As Keras has it: a state is kept until something is learned.
                let _ = tch::no_grad(|| bias.narrow(0, units, units).fill_(1.0));
            }
            [
                path.var(
                    &format!("weight{suffix}"),
                    &[rows, channels],
                    nn::Init::Uniform { lo, up },
                ),
                path.var(
                    &format!("recurrent{suffix}"),
                    &[rows, units],
                    nn::Init::Orthogonal { gain: 1.0 },
                ),
                bias,
            ]
        };
        let names: &[&str] = if both { &["", "_reverse"] } else { &[""] };
        let directions: Vec<_> = names.iter().map(|suffix| direction(suffix)).collect();
        let channels = units * directions.len() as i64;
        let recurrent = Recurrent {
            cell,
            units,
            directions,
            length,
            sequence,
        };
        let length = if sequence { length } else { 1 };
        self.block(name, &[x], Box::new(recurrent), channels, length)
    }
}

impl Block for Recurrent {
    fn forward(&self, inputs: &[&Tensor], train: bool) -> Tensor {
        let x = inputs[0].transpose(1, 2);
        let directions = self.directions.len() as i64;
        // libtorch has a second bias, which adds nothing: it stays at zero.
        let parameters: Vec<Tensor> = self
            .directions
            .iter()
            .flat_map(|[input, state, bias]| {
                let own = [input, state, bias].map(Tensor::shallow_clone);
                own.into_iter().chain([bias.detach().zeros_like()])
            })
            .collect();
        let state = || {
            let size = [directions, x.size()[0], self.units];
            Tensor::zeros(size, (x.kind(), x.device()))
        };
        let both = directions == 2;
        // [B, L, D U] and [D, B, U]
        let (sequence, last) = match self.cell {
            Cell::Simple => x.rnn_tanh(&state(), &parameters, true, 1, 0.0, train, both, true),
            Cell::Lstm => {
                let (sequence, last, _) = x.lstm(
                    &[state(), state()],
                    &parameters,
                    true,
                    1,
                    0.0,
                    train,
                    both,
                    true,
                );
                (sequence, last)
            }
        };
        match self.sequence {
            true => sequence.transpose(1, 2),
            false => last.transpose(0, 1).flatten(1, 2).unsqueeze(2),
        }
    }

    fn kind(&self) -> &'static str {
        match (self.cell, self.directions.len()) {
            (Cell::Simple, 1) => "SimpleRNN",
            (Cell::Lstm, 1) => "LSTM",
            _ => "Bidirectional",
        }
    }

    fn parameters(&self) -> Vec<&Tensor> {
        self.directions.iter().flatten().collect()
    }

    fn operations(&self) -> f64 {
        let weights = self
            .directions
            .iter()
            .flat_map(|[input, state, _]| [input, state]);
        let numel: usize = weights.map(Tensor::numel).sum();
        2.0 * numel as f64 * self.length as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Graph, Io, Options};
    use tch::{
        Device, Kind,
        nn::{ModuleT, VarStore},
    };

    /// Step by step, as Hochreiter & Schmidhuber (1997) have it with the forget gate of Gers (2000).
    fn by_hand(parameters: &[Tensor], x: &Tensor, units: i64) -> Tensor {
        let [input, state, bias] = [&parameters[0], &parameters[1], &parameters[2]];
        let batch = x.size()[0];
        let mut h = Tensor::zeros([batch, units], (Kind::Double, Device::Cpu));
        let mut c = h.copy();
        let mut all = Vec::new();
        for at in 0..x.size()[2] {
            let gates =
                x.select(2, at).linear(input, Some(bias)) + h.linear(state, None::<&Tensor>);
            let gate = |i: i64| gates.narrow(1, i * units, units);
            c = gate(1).sigmoid() * c + gate(0).sigmoid() * gate(2).tanh();
            h = gate(3).sigmoid() * c.tanh();
            all.push(h.copy());
        }
        Tensor::stack(&all, 2)
    }

    #[test]
    fn an_lstm_in_both_directions_is_two_of_one() {
        tch::manual_seed(3);
        let io = Io {
            channels: 5,
            length: 7,
            targets: 1,
            per_base: false,
            classes: 1,
        };
        let mut store = VarStore::new(Device::Cpu);
        let root = store.root();
        let graph = |sequence: bool, root: &nn::Path| -> Graph {
            let (mut graph, x) = Builder::new(root, io, Options::default());
            graph.recurrent(x, Cell::Lstm, 3, true, sequence);
            graph.finish()
        };
        let (all, last) = (graph(true, &(&root / "a")), graph(false, &(&root / "b")));
        store.set_kind(Kind::Double);
        let variables = store.variables();
        let of = |suffix: &str| -> Vec<Tensor> {
            let name = |part: &str| format!("a.bidirectional.{part}{suffix}");
            let tensors = ["weight", "recurrent", "bias"].map(|part| variables[&name(part)].copy());
            tensors.into()
        };
        tch::no_grad(|| {
            for (name, tensor) in &variables {
                if let Some(rest) = name.strip_prefix("b.") {
                    tensor
                        .shallow_clone()
                        .copy_(&variables[&format!("a.{rest}")]);
                }
            }
        });
        let x = Tensor::randn([2, 5, 7], (Kind::Double, Device::Cpu));
        let forward = by_hand(&of(""), &x, 3);
        let backward = by_hand(&of("_reverse"), &x.flip([2]), 3);
        let expected = Tensor::cat(&[&forward, &backward.flip([2])], 1);
        let off = |a: &Tensor, b: &Tensor| (a - b).abs().max().double_value(&[]);
        assert!(off(&all.forward_t(&x, false), &expected) < 1e-12);
        let expected = Tensor::cat(&[forward.narrow(2, 6, 1), backward.narrow(2, 6, 1)], 1);
        assert!(off(&last.forward_t(&x, false), &expected) < 1e-12);
    }
}
