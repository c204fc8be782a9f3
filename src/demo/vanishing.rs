//! The next bit of 0^n 1^n: the class's third example. How many ones are still to come is known only by counting the
//! zeros before, up to 38 bits back.

use anyhow::Result;

use super::{
    bits::{Example, asked, counted, majority, write},
    stage::{Stage, parameters},
    table::{NONE, Table, percent},
};
use crate::{model::Arch, plan::Settings, sampler::SplitMix};

const LONGEST: u64 = 19;
const SEQUENCE: usize = 1000;
const CONTEXT: usize = 100;
/// The class has 150 to train on and 50 to test on, and trains for 700 epochs at Adam's usual rate of 0.001. That takes an
/// hour and more: here are a fifth of the sequences and a twentieth of the epochs, at a rate that makes up for it.
const TRAIN: usize = 30;
const TEST: usize = 10;
const SHORTER: u64 = 20;
const EPOCHS: u64 = 700 / SHORTER;
/// The class's is not known.
const BATCH: usize = 128;
const RATE: f64 = 0.015;
/// Epochs between two evaluations.
const EVERY: u64 = 100 / SHORTER;
const DATA_SEED: u64 = 7;

struct Memory {
    arch: Arch,
    what: &'static str,
    formula: &'static str,
    /// Per cent after so many epochs of the class.
    published: [(u64, f64); 4],
}

const MODELS: [Memory; 2] = [
    Memory {
        arch: Arch::ToyMemoryRnn,
        what: "SimpleRNN",
        formula: "104",
        published: [(100, 91.81), (300, 91.89), (500, 92.90), (700, 92.94)],
    },
    Memory {
        arch: Arch::ToyMemoryLstm,
        what: "LSTM",
        formula: "113",
        published: [(100, 97.92), (300, 98.84), (500, 98.99), (700, 99.05)],
    },
];

pub fn show(stage: &Stage) -> Result<Table> {
    let mut random = SplitMix::keyed(&[DATA_SEED]);
    let mut examples = |sequences: usize| -> Vec<Example> {
        let one = |_| asked(&counted(LONGEST, SEQUENCE, &mut random), CONTEXT);
        (0..sequences).flat_map(one).collect()
    };
    let (train, test) = (examples(TRAIN), examples(TEST));
    stage.data(|path| write(path, "next", &[("train", &train), ("valid", &test)]))?;
    let epochs = stage.epochs(EPOCHS);
    let steps = train.len().div_ceil(BATCH) as u64;
    let mut table = Table {
        title: format!(
            "the next bit of 0^n 1^n after {CONTEXT}: one unit -> dropout 0.2 -> Dense(1), mean squared error, Adam; {} \
             windows to train on, {} to test on",
            train.len(),
            test.len()
        ),
        heads: vec!["", "published", "ours"],
        rows: Vec::new(),
        notes: vec![format!(
            "{TRAIN} of the class's 150 sequences, {SHORTER} times fewer epochs, and for that a rate of {RATE} in place of 0.001; steps of\n\
             {BATCH} windows (the slides do not say how many). The last bias starts at the share of ones. A SimpleRNN stays\n\
             near the majority, since its gradient vanishes over the run of ones that it would have to look beyond; what an\n\
             LSTM lacks to the ceiling goes with more epochs. The majority is expected at 10/11 = 90.91 %."
        )],
    };
    table.row([
        "majority of the test windows",
        NONE,
        &percent(&[majority(&test)]),
    ]);
    for model in &MODELS {
        let settings = Settings {
            arch: Some(model.arch),
            lr: Some(RATE),
            global_batch: Some(BATCH),
            epochs: Some(epochs),
            eval_every: Some(EVERY.min(epochs) * steps),
            eval_batch: Some(1024),
            ..Settings::default()
        };
        let mut runs = Vec::new();
        for seed in stage.seeds(1) {
            let settings = Settings {
                seed: Some(seed),
                ..settings.clone()
            };
            runs.push(stage.train(&format!("{}_seed{seed}", model.arch.name()), settings)?);
        }
        let (net, _) = runs[0].open("valid")?;
        let ours = parameters(&net, "").to_string();
        table.row([&format!("{}: parameters", model.what), model.formula, &ours]);
        let curves = runs.iter().map(|run| run.accuracies());
        let curves: Vec<Vec<(u64, f64)>> = curves.collect::<Result<_>>()?;
        for (at, &(epoch, _)) in curves[0].iter().enumerate() {
            let of_class = epoch * SHORTER;
            let published = model.published.iter().find(|(of, _)| *of == of_class);
            if published.is_none() && epoch != epochs {
                continue;
            }
            let published = published.map_or(NONE.into(), |(_, share)| format!("{share:.2} %"));
            let shares: Vec<f64> = curves.iter().map(|curve| curve[at].1).collect();
            let row = format!("{}: accuracy, {of_class} epochs (here {epoch})", model.what);
            table.row([&row, &published, &percent(&shares)]);
        }
    }
    table.row(["ceiling: all that is asked can be known", NONE, "100.00 %"]);
    Ok(table)
}
