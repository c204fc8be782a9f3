//! Dropout against itself: libtorch draws others.

use super::*;

/// No ReLU: small steps of the weights show the slope.
fn graph(store: &VarStore, io: Io, no_dropout: bool) -> Graph {
    let root = store.root();
    let options = Options {
        no_dropout,
        ..Options::default()
    };
    let (mut graph, x) = Builder::new(&root, io, options);
    let conv = graph.conv(x, 9, 7, Activation::None);
    let norm = graph.batch_norm(conv);
    let skip = graph.dropout(norm, 0.3);
    let conv = graph.conv(skip, 6, 5, Activation::None);
    let norm = graph.batch_norm(conv);
    let x = graph.dropout(norm, 0.15);
    let both = graph.concat(x, skip);
    graph.conv(both, io.targets, 1, Activation::None);
    graph.finish()
}

#[test]
fn the_gradient_is_that_of_what_was_kept() {
    let case = Case {
        arch: Arch::Unet,
        options: Options::default(),
        io: io(70, 1),
        batch: 3,
        seed: 11,
    };
    let engine = |no_dropout: bool| {
        let store = VarStore::new(Device::Cpu);
        let graph = graph(&store, case.io, no_dropout);
        let flat = FlatTensors::new(&store);
        flat.draw(case.seed);
        let program = Stages::new(&graph, &flat).unwrap();
        // SAFETY: as in the other tests, every CPU that runs them has the instructions of double precision.
        let native = unsafe { Native::<Double>::new(program, Statistics::Batch, 2) };
        (native, flat)
    };
    let (mut native, flat) = engine(false);
    assert!(native.has_dropout());
    let rows = rows(case.io, case.batch, case.seed);
    let doubles = |tensor: &Tensor| Vec::<f64>::try_from(tensor.to_kind(Kind::Double)).unwrap();
    let running = doubles(&flat.buffers);
    let fill = |window: usize, channel: usize, phase: usize, to: &mut [f64]| {
        crate::engine::fill(&rows, case.io, window, channel, phase, to);
    };
    let mut step = |key: u64, parameters: &[f64]| {
        native.drop_by(key);
        let mut gradients = vec![0.0; parameters.len()];
        let (batch, nothing) = (case.batch, |_: &mut [f64]| ());
        native.forward(batch, parameters, &mut running.clone(), fill, &nothing);
        let labels = &rows.label;
        let (loss, _) = native.backward(batch, labels, parameters, &mut gradients, &nothing);
        (loss, gradients)
    };
    let parameters = doubles(&flat.parameters);
    let (loss, gradients) = step(7, &parameters);
    assert_ne!(loss, step(8, &parameters).0);
    assert_eq!(loss, step(7, &parameters).0);
    let mut random = SplitMix::keyed(&[5]);
    let direction: Vec<f64> = parameters
        .iter()
        .map(|_| random.below(1000) as f64 / 500.0 - 1.0)
        .collect();
    let moved = |by: f64| -> Vec<f64> {
        let both = parameters.iter().zip(&direction);
        both.map(|(p, d)| p + by * d).collect()
    };
    let slope = (step(7, &moved(1e-5)).0 - step(7, &moved(-1e-5)).0) / 2e-5;
    let along: f64 = gradients.iter().zip(&direction).map(|(g, d)| g * d).sum();
    assert!((slope / along - 1.0).abs() < 1e-6, "{slope} and {along}");
    // Nothing is dropped where nothing is learned.
    let logits = |native: &mut Native<Double>| {
        let mut logits = vec![0.0; rows.label.len()];
        native.infer(case.batch, &parameters, &running, fill, &mut logits);
        logits
    };
    assert_eq!(logits(&mut native), logits(&mut engine(true).0));
}
