use super::*;
use crate::model::Op;
use crate::{counts::Counter, engine::masked_loss, flat::FlatTensors, optim::Optimizer};
use tch::{Device, Kind, Tensor, nn::ModuleT, nn::VarStore};

#[test]
fn every_model_has_the_parameters_it_was_published_with() {
    for arch in Arch::ALL {
        let paper = arch.paper();
        let store = VarStore::new(Device::Cpu);
        let graph = arch
            .build(&store.root(), paper.io, Options::default())
            .unwrap();
        let learned = store.variables().values().map(Tensor::numel).sum::<usize>() as i64;
        let counted = graph.counter().map_or(0, Counter::num_parameters);
        assert_eq!(learned + counted, paper.parameters, "{arch}");
        let ops = || graph.layers().iter().map(|layer| &layer.op);
        let normed = ops().any(|op| matches!(op, Op::BatchNorm { .. }));
        assert_eq!(normed, paper.batch_norm, "{arch}");
        let up = ops().find_map(|op| match op {
            Op::UpConv { activation, .. } => Some(*activation),
            _ => None,
        });
        assert_eq!(up, paper.up_activation, "{arch}");
    }
}

#[test]
fn every_parameter_of_every_model_has_a_finite_gradient() {
    for arch in with_weights() {
        tch::manual_seed(1);
        let (mut store, graph, io) = match arch.paper().parameters {
            1_000_000.. => small(arch),
            _ => {
                let (store, published) = (VarStore::new(Device::Cpu), arch.paper().io);
                // A longer window of bases shows a layer nothing new.
                let length = match published.per_base {
                    true => 1024,
                    false => published.length,
                };
                let io = Io {
                    length,
                    ..published
                };
                let graph = arch.build(&store.root(), io, Options::default()).unwrap();
                (store, graph, io)
            }
        };
        // In single precision batch norm alone may leave a bias with rounding for a gradient.
        store.set_kind(Kind::Double);
        let on = (Kind::Double, Device::Cpu);
        let x = Tensor::randn([3, io.channels, io.length], on);
        let logits = graph.forward_t(&x, true);
        let width = if io.per_base { io.length } else { 1 };
        assert_eq!(logits.size(), [3, io.outputs(), width], "{arch}");
        (logits * Tensor::randn([3, io.outputs(), width], on))
            .sum(Kind::Double)
            .backward();
        assert_eq!(
            graph.plain_layer().is_none(),
            arch.paper().convolutional,
            "{arch}"
        );
        for (name, tensor) in store.variables() {
            if tensor.requires_grad() {
                let largest = tensor.grad().abs().max().double_value(&[]);
                assert!(
                    largest.is_finite() && largest > 0.0,
                    "{arch} {name}: {largest}"
                );
            }
        }
    }
}

#[test]
fn names_are_read_back() {
    for arch in Arch::ALL {
        let text = serde_json::to_string(arch).unwrap();
        assert_eq!(serde_json::from_str::<Arch>(&text).unwrap(), *arch);
    }
    let error = serde_json::from_str::<Arch>("\"resnet\"").unwrap_err();
    assert!(
        error
            .to_string()
            .contains("no model is called `resnet`: unet, cnn"),
        "{error}"
    );
}

/// Models that follow gradients.
fn with_weights() -> impl Iterator<Item = Arch> {
    let all = Arch::ALL.iter().copied();
    all.filter(|arch| arch.paper().recipe.counts.is_none())
}

/// The paper's model for few targets; one of many parameters narrower if it can be, and for the shortest windows it
/// can read.
fn small(arch: Arch) -> (VarStore, Graph, Io) {
    let paper = arch.paper();
    let lengths = match paper.parameters {
        // Room for sixteen windows in a dense layer of a number a place.
        0..200 => vec![100],
        200..10_000 => vec![paper.io.length],
        _ => vec![32, 9, 29, 48, 64, 96, 128, 192, 256, 384, 512, 1024],
    };
    for length in lengths {
        for width in [Some(0.1), None] {
            let io = Io {
                length,
                targets: 1,
                ..paper.io
            };
            let options = Options {
                width,
                no_dropout: true,
                ..Options::default()
            };
            let store = VarStore::new(Device::Cpu);
            if let Ok(graph) = arch.build(&store.root(), io, options) {
                return (store, graph, io);
            }
        }
    }
    panic!("{arch} reads no window of up to 1024 bases");
}

#[test]
fn every_model_learns_sixteen_windows_by_heart() {
    for arch in with_weights() {
        tch::manual_seed(5);
        let (store, graph, io) = small(arch);
        let flat = FlatTensors::new(&store);
        let mut optimizer = Optimizer::new(Rule::Adam, 0.9, &flat.parameters);
        let on = (Kind::Float, Device::Cpu);
        let letters = Tensor::randint(4, [16, io.length], (Kind::Int64, Device::Cpu));
        let bases = letters.one_hot(4).transpose(1, 2).to_kind(Kind::Float);
        let signal = Tensor::rand([16, io.channels - 4, io.length], on);
        let x = Tensor::cat(&[bases, signal], 1);
        let width = if io.per_base { io.length } else { 1 };
        let labels = Tensor::randint(io.classes.max(2), [16, 1, width], (Kind::Int8, Device::Cpu));
        let mut losses = Vec::new();
        // Most need 100; those of a hundred parameters, whose steps are short, need more.
        for step in 1..=1000 {
            let _ = flat.gradients.shallow_clone().zero_();
            let logits = graph.forward_t(&x, true);
            let (loss, valid) = masked_loss(arch.paper().recipe.loss, &logits, &labels, io);
            (loss.shallow_clone() / valid.shallow_clone()).backward();
            losses.push(loss.double_value(&[]) / valid.double_value(&[]));
            optimizer.step(&flat.parameters, &flat.gradients, 3e-3, step);
            if losses[losses.len() - 1] < 0.25 * losses[0] {
                break;
            }
        }
        let (first, last) = (losses[0], losses[losses.len() - 1]);
        assert!(last < 0.3 * first, "{arch}: loss {first} -> {last}");
    }
}
