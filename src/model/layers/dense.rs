//! A dense layer on all numbers of a window.

use tch::Tensor;

use super::{Block, linear::Linear};
use crate::model::graph::{Activation, Builder, Value};

#[derive(Debug)]
struct Dense {
    /// [out, C * L], the numbers in the order of [C, L]
    linear: Linear,
    activation: Activation,
}

impl Builder<'_> {
    /// [B, C, L] -> [B, units, 1]; a window is flattened channel by channel.
    pub fn dense(&mut self, x: Value, units: i64, activation: Activation) -> Value {
        let (channels, length) = self.shape(x);
        let inputs = channels * length;
        let name = self.number("dense");
        let dense = Dense {
            linear: Linear::new(&(self.path / &name), inputs, units),
            activation,
        };
        self.block(name, &[x], Box::new(dense), units, 1)
    }
}

impl Block for Dense {
    fn forward(&self, inputs: &[&Tensor], _: bool) -> Tensor {
        let out = self.linear.apply(&inputs[0].flatten(1, -1));
        self.activation.apply(out.unsqueeze(2))
    }

    fn kind(&self) -> &'static str {
        "Dense"
    }

    fn parameters(&self) -> Vec<&Tensor> {
        vec![&self.linear.weight, &self.linear.bias]
    }

    fn operations(&self) -> f64 {
        self.linear.operations()
    }

    fn bias(&self) -> Option<&Tensor> {
        Some(&self.linear.bias)
    }
}

#[cfg(test)]
mod tests {
    use crate::model::{Activation, Graph, Io, Options, graph::Builder};
    use tch::{Device, Kind, Tensor, nn::VarStore};

    const IO: Io = Io {
        channels: 5,
        length: 4,
        targets: 2,
        per_base: false,
        classes: 1,
    };

    #[test]
    fn absolute_hidden_outputs_are_added_once_a_window_while_training() {
        tch::manual_seed(4);
        let store = VarStore::new(Device::Cpu);
        let graph = |l1: f64| -> Graph {
            let options = Options {
                l1,
                ..Options::default()
            };
            let root = store.root();
            let (mut graph, x) = Builder::new(&root, IO, options);
            let hidden = graph.dense(x, 3, Activation::Relu);
            graph.hidden(hidden);
            graph.dense(hidden, IO.targets, Activation::None);
            graph.finish()
        };
        let graph = graph(0.1);
        let on = (Kind::Float, Device::Cpu);
        let x = Tensor::randn([6, 5, 4], on);
        let variables = store.variables();
        let (weight, bias) = (&variables["dense.weight"], &variables["dense.bias"]);
        let hidden = x.flatten(1, -1).linear(weight, Some(bias)).relu();
        let (loss, labels) = (Tensor::from(7f32), Tensor::zeros([6, 2, 1], on));
        let objective = |labels: &Tensor, train: bool| {
            let known = labels.ge(0).sum(Kind::Double).double_value(&[]);
            let objective = graph.forward(&x, train).objective(&loss, labels);
            objective.double_value(&[]) / known
        };
        // The mean over 12 labels of both: the loss, and the mean over 6 windows of the penalty.
        let expected = 7.0 / 12.0 + 0.1 * hidden.sum(Kind::Float).double_value(&[]) / 6.0;
        assert!(
            (objective(&labels, true) - expected).abs() < 1e-6,
            "{expected}"
        );
        assert!((objective(&labels, false) - 7.0 / 12.0).abs() < 1e-6);
        // Of one target all labels are masked, of the first window both: 5 labels of 5 windows.
        let _ = labels.narrow(1, 1, 1).fill_(-1.0);
        let _ = labels.narrow(0, 0, 1).fill_(-1.0);
        let others = hidden.narrow(0, 1, 5).sum(Kind::Float).double_value(&[]);
        let expected = 7.0 / 5.0 + 0.1 * others / 5.0;
        assert!(
            (objective(&labels, true) - expected).abs() < 1e-6,
            "{expected}"
        );
    }
}
