use tch::{Device, Kind, nn::ModuleT, nn::VarStore};

use super::*;
use crate::{
    comm::Solo,
    counts::{Neighbours, Reading},
    data::Draw,
    engine::{Build, EngineChoice, Net},
    model::{Arch, Io, Options},
    sampler::SplitMix,
};

const IO: Io = Io {
    channels: 4,
    length: 11,
    targets: 1,
    per_base: false,
    classes: 4,
};

const OPTIONS: Options = Options {
    reading: Some(Reading {
        neighbours: Neighbours::Around(2),
        gamma: 5.0,
    }),
    mirror: Some(3),
    up_activation: None,
    batch_norm: crate::model::BatchNorm::Rank,
    batch_norm_typed: false,
    first_width: None,
    no_dropout: false,
    width: None,
    l1: 0.0,
    loss: crate::loss::Loss::CrossEntropy,
};

fn build(arch: Arch) -> Build {
    Build {
        arch,
        options: OPTIONS,
        io: IO,
        device: Device::Cpu,
        engine: EngineChoice::Auto,
        kind: Kind::Float,
        seed: 1,
        prior: None,
    }
}

/// Windows of random bases, the middle one hidden and its own label.
fn rows(count: u32) -> Rows {
    let mut random = SplitMix::keyed(&[3]);
    let mut rows = Rows::default();
    for row in 0..count {
        rows.draws.push(Draw::from(row));
        let window = (0..11).map(|_| random.below(4) as u8);
        rows.seq.extend(window);
        let centre = rows.seq.len() - 6;
        rows.label.push(rows.seq[centre] as i8);
        rows.seq[centre] = N;
    }
    rows
}

fn count(net: &mut Net, rows: &Rows) {
    let mut timeline = Timeline::new(&Solo, Device::Cpu, false);
    let numbers = net.engine.gradients(rows, &mut timeline, &|_| {}).unwrap();
    assert_eq!(numbers, (0.0, 0.0));
    let counter = net.engine.counter_mut().unwrap();
    let own = counter.take_own();
    counter.add(own);
}

#[test]
fn windows_are_counted_and_said_in_log_probabilities() {
    let mut net = build(Arch::Kmer).net().unwrap();
    assert_eq!((net.name, net.flat.parameters.numel()), ("counts", 0));
    let uniform = net.engine.logits(&rows(1)).unwrap();
    assert!(
        uniform
            .iter()
            .all(|logit| (logit - 0.25f32.ln()).abs() < 1e-6)
    );

    let mut all = rows(300);
    // A label that is not known is not counted.
    all.label[299] = -1;
    count(&mut net, &all);
    assert_eq!(net.engine.counter().unwrap().total().total(), 2 * 299);
    let logits = net.engine.logits(&all).unwrap();
    for one in logits.chunks_exact(4) {
        let sum: f32 = one.iter().map(|logit| logit.exp()).sum();
        assert!((sum - 1.0).abs() < 1e-5, "{one:?}");
    }
    // What was counted looks likelier than it would have without itself.
    let right = |logits: &[f32]| -> f32 {
        let of = logits.chunks_exact(4).zip(&all.label).take(299);
        of.map(|(logits, &label)| logits[label as usize]).sum()
    };
    net.engine.leave_one_out();
    let without = net.engine.logits(&all).unwrap();
    assert!(right(&without) < right(&logits) - 10.0);
}

#[test]
fn a_layer_that_counts_says_what_the_engine_says() {
    let mut net = build(Arch::Kmer).net().unwrap();
    let all = rows(200);
    count(&mut net, &all);
    let store = VarStore::new(Device::Cpu);
    let mut graph = Arch::Kmer.build(&store.root(), IO, OPTIONS).unwrap();
    let total = net.engine.counter().unwrap().total().clone();
    graph.counter_mut().unwrap().add(total);
    let mut asked = all.one(0);
    asked.extend(all.one(1));
    // An unknown neighbour shortens the context.
    asked.seq[4] = 4;
    let layer = graph.forward_t(&asked.input(IO, Device::Cpu), false);
    assert_eq!(layer.size(), [2, 4, 1]);
    let layer = Vec::<f32>::try_from(layer.flatten(0, -1)).unwrap();
    assert_eq!(layer, net.engine.logits(&asked).unwrap());
}

#[test]
fn a_network_reads_counts_beside_its_own_layers() {
    let mut net = build(Arch::ContextMlp).net().unwrap();
    let all = rows(100);
    let before = net.engine.logits(&all).unwrap();
    let mut counted = build(Arch::Kmer).net().unwrap();
    count(&mut counted, &all);
    let total = counted.engine.counter().unwrap().total().clone();
    net.engine.counter_mut().unwrap().add(total);
    let after = net.engine.logits(&all).unwrap();
    let changed = before.iter().zip(&after).any(|(a, b)| (a - b).abs() > 1e-2);
    assert!(changed, "the last layer reads the counts");
    let mut fusion = build(Arch::ContextFusion);
    fusion.io.length = 29;
    let refused = fusion.net().err().unwrap();
    assert!(refused.to_string().contains("--kmer-input"), "{refused}");
}

#[test]
fn a_base_that_is_not_hidden_is_no_question() {
    let mut net = build(Arch::Kmer).net().unwrap();
    let mut all = rows(3);
    all.seq[2 * 11 + 5] = 0;
    let error = net.engine.logits(&all).unwrap_err().to_string();
    assert!(
        error.contains("row 2: the central base is not hidden"),
        "{error}"
    );
}
