//! A model as the table of layers that papers print.

use tch::Tensor;

use super::{Graph, Layer, Op};

impl Graph {
    /// The layer table in the form that Keras prints, with shapes as (batch, length, channels).
    pub fn table(&self) -> String {
        let mut out = format!(
            "{:<46}{:<22}{:>10}  connected to\n",
            "layer (type)", "output shape", "params"
        );
        let (mut total, mut trainable) = (0, 0);
        for layer in &self.layers {
            let (kind, learned, running) = layer.summary();
            (total, trainable) = (total + learned + running, trainable + learned);
            let inputs: Vec<&str> = layer
                .inputs
                .iter()
                .map(|&i| self.layers[i].name.as_str())
                .collect();
            let named = format!("{} ({kind})", layer.name);
            let shape = format!("(None, {}, {})", layer.length, layer.channels);
            let row = format!(
                "{named:<46}{shape:<22}{:>10}  {}",
                learned + running,
                inputs.join(", ")
            );
            out += row.trim_end();
            out.push('\n');
        }
        let count = |n: i64| thousands(n as u64);
        out + &format!(
            "total parameters: {}\ntrainable parameters: {}\nnon-trainable parameters: {}\n",
            count(total),
            count(trainable),
            count(total - trainable)
        )
    }
}

impl Layer {
    /// Keras' name of the layer's type, and its numbers of trained and of running parameters.
    fn summary(&self) -> (&'static str, i64, i64) {
        let numel = |a: &Tensor, b: &Tensor| (a.numel() + b.numel()) as i64;
        match &self.op {
            Op::Input => ("InputLayer", 0, 0),
            Op::Conv { weight, bias, .. } => ("Conv1D", numel(weight, bias), 0),
            Op::UpConv { weight, bias, .. } => ("Conv1DTranspose", numel(weight, bias), 0),
            Op::BatchNorm {
                weight,
                bias,
                mean,
                var,
                ..
            } => ("BatchNormalization", numel(weight, bias), numel(mean, var)),
            Op::Activation(_) => ("Activation", 0, 0),
            Op::MaxPool(_) => ("MaxPooling1D", 0, 0),
            Op::Dropout(_) => ("Dropout", 0, 0),
            Op::Concat => ("Concatenate", 0, 0),
            Op::Add(_) => ("Add", 0, 0),
            Op::Gate => ("Gate", 0, 0),
            Op::Block(block) => (block.kind(), block.num_parameters(), 0),
        }
    }
}

/// 475969 -> "475,969"
pub fn thousands(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}
