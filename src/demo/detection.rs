//! Whether a motif stands among ten bits: the class's first example, by a SimpleRNN and by a Conv1D.

use anyhow::Result;

use super::{
    bits::{Example, all_with_motif, majority, text, with_motif, write},
    stage::{Stage, Trained, parameters},
    table::{NONE, Table, percent},
};
use crate::{
    model::{Arch, Recipe},
    plan::Settings,
};

pub const MOTIF: [u8; 3] = [1, 1, 1];
pub const LENGTH: usize = 10;
const TRAIN: usize = 1000;
const TEST: usize = 40;
const EPOCHS: u64 = 500;
/// Of the class's generator, which is another: the sequences differ.
const DATA_SEED: u64 = 7;

pub struct Detector {
    arch: Arch,
    what: &'static str,
    /// Name of its first layer, and how many parameters the class counts there.
    layer: &'static str,
    formula: &'static str,
    /// Why a run may not learn.
    stuck: &'static str,
}

impl Detector {
    pub const RNN: Self = Self {
        arch: Arch::ToyRnn,
        what: "SimpleRNN(2)",
        layer: "simple_rnn",
        formula: "2n + n^2 = 8",
        stuck: "plain SGD needs longer from its first weights",
    };
    pub const CONV: Self = Self {
        arch: Arch::ToyConv,
        what: "Conv1D(2, 3)",
        layer: "conv1d",
        formula: "(f + 1) n = 8",
        stuck: "both filters fall silent: ReLU has no gradient below 0",
    };

    /// The class's.
    fn recipe(&self) -> Recipe {
        self.arch.paper().recipe
    }

    /// Trains with a seed, as the class does.
    pub fn train<'a>(&self, stage: &'a Stage, seed: u64) -> Result<Trained<'a>> {
        let (epochs, batch) = (stage.epochs(EPOCHS), self.recipe().batch);
        let settings = Settings {
            arch: Some(self.arch),
            global_batch: Some(batch),
            epochs: Some(epochs),
            eval_every: Some(epochs * TRAIN.div_ceil(batch) as u64),
            seed: Some(seed),
            ..Settings::default()
        };
        stage.train(&format!("seed{seed}"), settings)
    }
}

/// 1000 sequences to train on, and the 40 of the class; `splits` beside them.
pub fn write_data(stage: &Stage, splits: &[(&str, &[Example])]) -> Result<Vec<Example>> {
    let train = with_motif(&MOTIF, LENGTH, TRAIN, DATA_SEED);
    let test = with_motif(&MOTIF, LENGTH, TEST, DATA_SEED + 1);
    let own: [(&str, &[Example]); 2] = [("train", &train), ("valid", &test)];
    stage.data(|path| write(path, &text(&MOTIF), &[&own, splits].concat()))?;
    Ok(test)
}

pub fn show(stage: &Stage, detector: &Detector) -> Result<Table> {
    let all = all_with_motif(&MOTIF, LENGTH);
    let test = write_data(stage, &[("all", &all)])?;
    let mut runs = Vec::new();
    for seed in stage.seeds(3) {
        runs.push(detector.train(stage, seed)?);
    }
    let accuracies =
        |split: &str| -> Result<Vec<f64>> { runs.iter().map(|run| run.accuracy(split)).collect() };
    let (of_test, of_all) = (accuracies("valid")?, accuracies("all")?);
    let blind = majority(&all);
    let stuck = of_all.iter().filter(|&&share| share <= blind).count();
    let (net, _) = runs[0].open("valid")?;
    let mut table = Table {
        title: format!(
            "does {} stand among ten bits? {} -> Dense(1), SGD at {}, {TRAIN} sequences, epochs: {}",
            text(&MOTIF),
            detector.what,
            detector.recipe().lr,
            stage.epochs(EPOCHS)
        ),
        heads: vec!["", "published", "ours"],
        rows: Vec::new(),
        notes: vec![format!(
            "Mean and range over the seeds of the weights and the order, of which there are {}; the sequences stay. The\n\
             class prints 40 predictions beside their labels, and no accuracy. Here the last bias starts at the share of\n\
             positives.",
            runs.len()
        )],
    };
    let ours = parameters(&net, detector.layer).to_string();
    let layer = format!("parameters of {}", detector.what);
    table.row([&layer, detector.formula, &ours]);
    table.row(["parameters of all", NONE, &parameters(&net, "").to_string()]);
    table.row([
        "majority, 40 test sequences",
        NONE,
        &percent(&[majority(&test)]),
    ]);
    table.row([
        "accuracy, 40 test sequences",
        "not stated",
        &percent(&of_test),
    ]);
    table.row(["majority, all 1024 sequences", NONE, &percent(&[blind])]);
    table.row(["accuracy, all 1024 sequences", NONE, &percent(&of_all)]);
    if stuck > 0 {
        table.notes.push(format!(
            "No better than the majority: {stuck} of {} runs, as happens when {}.",
            runs.len(),
            detector.stuck
        ));
    }
    Ok(table)
}
