//! A model's list of layers as the stages that the native engine runs: a convolution takes its ReLU and the batch norm
//! behind it along, and whatever is concatenated is written where it is read.

use anyhow::{Context, Result, anyhow, bail, ensure};
use tch::Tensor;

use super::{
    arena::{Place, Shape},
    conv::HALO,
};
use crate::{
    flat::FlatTensors,
    model::{Activation, Graph, KERAS_NORM, Op},
};

/// Learned numbers and running statistics are known by where they begin in the flat tensors.
#[derive(Clone, Copy, Debug)]
pub struct Norm {
    pub weight: usize,
    pub bias: usize,
    pub mean: usize,
    pub var: usize,
}

/// How a stage hands the gradient of its input on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Write {
    /// The input is data.
    Nowhere,
    Store,
    /// Another reader of the same values has written already.
    Add,
}

#[derive(Clone, Debug)]
pub enum Kind {
    Conv {
        taps: usize,
        /// Behind its ReLU. While training what is kept is before the norm: readers apply it.
        norm: Option<Norm>,
    },
    UpConv,
    Pool,
    /// Of this share, while training.
    Dropout(f64),
    /// x and the second input.
    Add,
    /// x, times the sigmoid of the second input's one channel.
    Gate,
}

#[derive(Clone, Debug)]
pub struct Stage {
    pub kind: Kind,
    pub x: Place,
    pub y: Place,
    pub weight: usize,
    pub bias: usize,
    pub relu: bool,
    pub dx: Write,
    pub second: Option<Second>,
    /// Stages with batch norm to whose output this one writes the last part of the gradient.
    pub completes: Vec<usize>,
}

/// The other input of a sum or a gate.
#[derive(Clone, Copy, Debug)]
pub struct Second {
    pub x: Place,
    pub dx: Write,
}

#[derive(Debug)]
pub struct Program {
    pub stages: Vec<Stage>,
    pub buffers: Vec<Shape>,
    pub input: Place,
    pub output: Place,
}

impl Program {
    /// Errors name the layer that the native engine has no kernel for.
    pub fn new(graph: &Graph, flat: &FlatTensors) -> Result<Self> {
        let layers = graph.layers();
        let readers = |value: usize| {
            layers
                .iter()
                .filter(move |layer| layer.inputs.contains(&value))
        };
        // Where a value lies in the one it is concatenated into.
        let mut home = vec![None; layers.len()];
        for (place, layer) in layers.iter().enumerate() {
            if let Op::Concat = layer.op {
                let mut first = 0;
                for &part in &layer.inputs {
                    ensure!(
                        home[part].replace((place, first)).is_none(),
                        "{} is concatenated twice",
                        layers[part].name
                    );
                    first += layers[part].channels as usize;
                }
            }
        }
        let mut made = Self {
            stages: Vec::new(),
            buffers: Vec::new(),
            input: Place {
                buffer: 0,
                first: 0,
                channels: 0,
                length: 0,
            },
            output: Place {
                buffer: 0,
                first: 0,
                channels: 0,
                length: 0,
            },
        };
        let mut roots: Vec<Option<usize>> = vec![None; layers.len()];
        let mut place_of = |buffers: &mut Vec<Shape>, value: usize| {
            let (mut root, mut first) = (value, 0);
            while let Some((into, at)) = home[root] {
                (root, first) = (into, first + at);
            }
            let length = layers[root].length as usize;
            let buffer = *roots[root].get_or_insert_with(|| {
                buffers.push(Shape::of(layers[root].channels as usize, length));
                buffers.len() - 1
            });
            Place {
                buffer,
                first,
                channels: layers[value].channels as usize,
                length,
            }
        };
        // Which stage makes a value, and which value a stage reads.
        let mut maker: Vec<Option<usize>> = vec![None; layers.len()];
        let mut reads = Vec::new();
        for (value, layer) in layers.iter().enumerate() {
            let at = |tensor: &Tensor| offset(tensor, &flat.parameters);
            let relu = |activation: &Activation| match activation {
                Activation::Relu => Ok(true),
                Activation::None => Ok(false),
                Activation::Threshold => Err(anyhow!("{}: a threshold", layer.name)),
            };
            let (kind, x, weight, bias, relu) = match &layer.op {
                Op::Input => {
                    made.input = place_of(&mut made.buffers, value);
                    continue;
                }
                Op::Concat => continue,
                Op::Conv {
                    weight,
                    bias,
                    activation,
                    padding,
                } => {
                    let taps = weight.size()[2] as usize;
                    ensure!(
                        taps % 2 == 1
                            && taps / 2 <= HALO
                            && padding.iter().all(|&places| places as usize == taps / 2),
                        "{}: {taps} taps, {padding:?} places added",
                        layer.name
                    );
                    let follow: Vec<_> = readers(value).collect();
                    if let [next] = follow[..]
                        && let Op::BatchNorm { .. } = next.op
                    {
                        continue;
                    }
                    let kind = Kind::Conv { taps, norm: None };
                    (
                        kind,
                        layer.inputs[0],
                        at(weight),
                        at(bias),
                        relu(activation)?,
                    )
                }
                Op::BatchNorm {
                    weight,
                    bias,
                    mean,
                    var,
                    constants,
                } => {
                    ensure!(
                        *constants == KERAS_NORM,
                        "{}: its norm has other constants than Keras'",
                        layer.name
                    );
                    let of = &layers[layer.inputs[0]];
                    let Op::Conv {
                        weight: filters,
                        bias: start,
                        activation,
                        ..
                    } = &of.op
                    else {
                        bail!("{} does not follow a convolution", layer.name);
                    };
                    ensure!(
                        readers(layer.inputs[0]).count() == 1,
                        "{} is read before its norm",
                        of.name
                    );
                    let running = |tensor: &Tensor| offset(tensor, &flat.buffers);
                    let norm = Norm {
                        weight: at(weight),
                        bias: at(bias),
                        mean: running(mean),
                        var: running(var),
                    };
                    let taps = filters.size()[2] as usize;
                    let kind = Kind::Conv {
                        taps,
                        norm: Some(norm),
                    };
                    (
                        kind,
                        of.inputs[0],
                        at(filters),
                        at(start),
                        relu(activation)?,
                    )
                }
                Op::UpConv {
                    weight,
                    bias,
                    activation,
                } => (
                    Kind::UpConv,
                    layer.inputs[0],
                    at(weight),
                    at(bias),
                    relu(activation)?,
                ),
                Op::MaxPool(2) => {
                    ensure!(
                        layers[layer.inputs[0]].length % 2 == 0,
                        "{} halves an odd length",
                        layer.name
                    );
                    (Kind::Pool, layer.inputs[0], 0, 0, false)
                }
                Op::Dropout(share) => (Kind::Dropout(*share), layer.inputs[0], 0, 0, false),
                Op::Add(activation) => (Kind::Add, layer.inputs[0], 0, 0, relu(activation)?),
                Op::Gate => (Kind::Gate, layer.inputs[0], 0, 0, false),
                Op::Activation(_) | Op::MaxPool(_) | Op::Block(_) => {
                    bail!("it has no kernel for {}; --engine libtorch has", layer.name)
                }
            };
            maker[value] = Some(made.stages.len());
            let second = match kind {
                Kind::Add | Kind::Gate => Some(layer.inputs[1]),
                _ => None,
            };
            reads.push([Some(x), second]);
            made.stages.push(Stage {
                kind,
                x: place_of(&mut made.buffers, x),
                y: place_of(&mut made.buffers, value),
                weight,
                bias,
                relu,
                dx: Write::Nowhere,
                second: second.map(|x| Second {
                    x: place_of(&mut made.buffers, x),
                    dx: Write::Nowhere,
                }),
                completes: Vec::new(),
            });
        }
        made.output = place_of(&mut made.buffers, layers.len() - 1);
        made.plan_gradients(layers.len() - 1, &reads, &maker, |value| {
            match layers[value].op {
                Op::Concat => Some(layers[value].inputs.as_slice()),
                _ => None,
            }
        })?;
        Ok(made)
    }

    /// Whether a stage writes its output there.
    pub fn is_made(&self, buffer: usize) -> bool {
        self.stages.iter().any(|stage| stage.y.buffer == buffer)
    }

    /// Backward order: the first to hand a gradient to a value stores it, later ones add, the last completes it.
    fn plan_gradients<'a>(
        &mut self,
        output: usize,
        reads: &[[Option<usize>; 2]],
        maker: &[Option<usize>],
        parts: impl Fn(usize) -> Option<&'a [usize]>,
    ) -> Result<()> {
        let values = |value: usize| {
            let (mut whole, mut todo) = (Vec::new(), vec![value]);
            while let Some(value) = todo.pop() {
                match parts(value) {
                    Some(parts) => todo.extend(parts),
                    None => whole.push(value),
                }
            }
            // Data have no gradient.
            whole.retain(|&value| maker[value].is_some());
            whole
        };
        let mut last: Vec<Option<Option<usize>>> = vec![None; maker.len()];
        for value in values(output) {
            // The loss and the logits are read as they were written.
            if let Some(Kind::Conv { norm: Some(_), .. }) =
                maker[value].map(|stage| &self.stages[stage].kind)
            {
                bail!("a batch norm is the output");
            }
            last[value] = Some(None);
        }
        for stage in (0..reads.len()).rev() {
            for (turn, read) in reads[stage].iter().flatten().enumerate() {
                let read = values(*read);
                let written = read.iter().filter(|&&value| last[value].is_some()).count();
                let dx = match written {
                    _ if read.is_empty() => Write::Nowhere,
                    0 => Write::Store,
                    all if all == read.len() => Write::Add,
                    _ => bail!("only a part of what layer {stage} reads has been read before"),
                };
                let stage_made = &mut self.stages[stage];
                match &mut stage_made.second {
                    Some(second) if turn == 1 => second.dx = dx,
                    _ => stage_made.dx = dx,
                }
                for value in read {
                    last[value] = Some(Some(stage));
                }
            }
        }
        for (value, stage) in maker.iter().enumerate() {
            let Some(stage) = *stage else { continue };
            let by = last[value].context("a layer that nothing reads")?;
            if let Kind::Conv { norm: Some(_), .. } = self.stages[stage].kind {
                let by = by.expect("no norm is the output");
                self.stages[by].completes.push(stage);
            }
        }
        Ok(())
    }
}

/// Elements from the beginning of a flat tensor to a view of it.
fn offset(view: &Tensor, flat: &Tensor) -> usize {
    let bytes = view.data_ptr() as isize - flat.data_ptr() as isize;
    usize::try_from(bytes).expect("a view of the flat tensor") / flat.kind().elt_size_in_bytes()
}
