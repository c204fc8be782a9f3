//! Which motif a Conv1D has found: the class's second example. In every test sequence that is called positive the filter
//! has a maximum; the seven bits from there on are counted, column by column.

use std::cmp::Ordering;

use anyhow::{Context, Result, ensure};
use tch::Tensor;

use super::{
    bits::{text, with_motif},
    detection::{Detector, LENGTH, MOTIF, write_data},
    pwm::Pwm,
    stage::{Stage, Trained},
    table::{NONE, Table},
};
use crate::{
    data::Draw,
    engine::Net,
    report::{
        logo,
        svg::{Panel, Svg},
    },
};

const SEQUENCES: usize = 40;
/// An upper bound of the motif's width, which the class takes as known.
const WIDTH: usize = 7;
const CALLED: f64 = 0.8;
const DATA_SEED: u64 = 1;

pub fn show(stage: &Stage) -> Result<Table> {
    let shown = with_motif(&MOTIF, LENGTH, SEQUENCES, DATA_SEED);
    write_data(stage, &[("discovery", &shown)])?;
    let mut found = Vec::new();
    for seed in stage.seeds(3) {
        let trained = Detector::CONV.train(stage, seed)?;
        found.push((seed, discover(&trained)?));
    }
    let mut table = Table {
        title: format!(
            "which motif is it? Windows of {WIDTH} bits at the maximum of a Conv1D's filter in the sequences called positive"
        ),
        heads: vec![
            "",
            "called positive",
            "windows",
            "dense weights > 0",
            "planted",
            "found",
            "why not 111",
        ],
        rows: Vec::new(),
        notes: vec![format!(
            "A letter stands where its share is above {CALLED}, else N. The class takes its first filter and all\n\
             dense weights to be positive; here the filter is the one whose dense weights have the largest sum, and the\n\
             share of them that is positive stands beside it. Windows that reach past the end are left out, as there."
        )],
    };
    for (seed, of) in &found {
        table.row([
            &format!("seed {seed}"),
            &of.positives.to_string(),
            &of.pwm.sites().to_string(),
            &format!("{:.0} %", 100.0 * of.positive_weights),
            &text(&MOTIF),
            &of.pwm.consensus(CALLED),
            &of.why_not(),
        ]);
    }
    stage.write("logo.svg", &picture(&found))?;
    table.notes.push("The logos are in logo.svg.".into());
    Ok(table)
}

struct Discovery {
    pwm: Pwm,
    /// Test sequences that the model calls positive.
    positives: usize,
    /// Share of the filter's weights in the dense layer.
    positive_weights: f64,
    /// Whether the filter is above 0 anywhere.
    answers: bool,
}

fn discover(trained: &Trained) -> Result<Discovery> {
    let (mut net, windows) = trained.open("discovery")?;
    let draws: Vec<Draw> = (0..windows.num_rows() as u32).map(Draw::from).collect();
    let rows = windows.read(&draws)?;
    let logits = net.engine.logits(&rows)?;
    let weight = values(&net, "conv1d.weight")?;
    let dense = values(&net, "dense.weight")?;
    let bias = values(&net, "conv1d.bias")?;
    // [1, C L] of as many filters as there are biases.
    let by_filter: Vec<&[f32]> = dense.chunks(dense.len() / bias.len()).collect();
    let sum = |filter: &usize| by_filter[*filter].iter().sum::<f32>();
    let filter = (0..bias.len())
        .max_by(|a, b| sum(a).total_cmp(&sum(b)))
        .expect("a convolution has filters");
    let positive = by_filter[filter].iter().filter(|&&weight| weight > 0.0);

    let width = weight.len() / bias.len();
    let kernel = &weight[filter * width..][..width];
    let share = positive.count() as f64 / by_filter[filter].len() as f64;
    let bits = rows.signal.iter().map(|bit| bit.to_f32() as u8);
    let bits: Vec<u8> = bits.collect();
    Ok(Discovery::of(&bits, &logits, (kernel, bias[filter]), share))
}

impl Discovery {
    /// Of sequences [B, L] and their logits [B], by the filter with this kernel and bias.
    fn of(
        bits: &[u8],
        logits: &[f32],
        (kernel, bias): (&[f32], f32),
        positive_weights: f64,
    ) -> Self {
        let mut found = Self {
            pwm: Pwm::new("01", WIDTH),
            positives: 0,
            positive_weights,
            answers: false,
        };
        for (bits, &logit) in bits.chunks(LENGTH).zip(logits) {
            let (first, output) = peak(kernel, bias, bits);
            // A filter may answer only where the model says no.
            found.answers |= output > 0.0;
            if logit > 0.0 {
                found.positives += 1;
                if let Some(site) = bits.get(first..first + WIDTH) {
                    found.pwm.add(site);
                }
            }
        }
        found
    }

    fn why_not(&self) -> String {
        let reasons = [
            (!self.answers, "ReLU died"),
            (self.positives == 0, "none called positive"),
        ];
        let reasons: Vec<&str> = reasons
            .into_iter()
            .filter_map(|(is, reason)| is.then_some(reason))
            .collect();
        let found = self.pwm.consensus(CALLED);
        match reasons.is_empty() {
            false => reasons.join(", "),
            true if found.contains(&text(&MOTIF)) => NONE.into(),
            true if found.chars().all(|letter| letter == 'N') => "no pattern".into(),
            true => "another pattern".into(),
        }
    }
}

/// The first place where the filter's output, after ReLU, is largest, and that output.
fn peak(kernel: &[f32], bias: f32, bits: &[u8]) -> (usize, f32) {
    let output = bits.windows(kernel.len()).map(|part| {
        let sum: f32 = part
            .iter()
            .zip(kernel)
            .map(|(&bit, w)| f32::from(bit) * w)
            .sum();
        (sum + bias).max(0.0)
    });
    let higher = |best: (usize, f32), next: (usize, f32)| match next.1.total_cmp(&best.1) {
        Ordering::Greater => next,
        _ => best,
    };
    output.enumerate().fold((0, f32::NEG_INFINITY), higher)
}

fn values(net: &Net, name: &str) -> Result<Vec<f32>> {
    let mut slots = net.flat.parameter_slots.iter();
    let slot = slots.find(|slot| slot.name == name);
    let slot = slot.with_context(|| format!("the model has no {name}"))?;
    let tensor: Tensor = slot.view(&net.flat.parameters).flatten(0, -1);
    let values = Vec::<f32>::try_from(tensor)?;
    ensure!(!values.is_empty(), "{name} is empty");
    Ok(values)
}

/// A logo of each seed, one below the other.
fn picture(found: &[(u64, Discovery)]) -> String {
    const HEIGHT: f64 = 110.0;
    let mut svg = Svg::new(20.0 + (HEIGHT + 45.0) * found.len() as f64);
    for (row, (seed, of)) in found.iter().enumerate() {
        let panel = Panel {
            top: 25.0 + (HEIGHT + 45.0) * row as f64,
            height: HEIGHT,
            x: (0.0, WIDTH as f64),
            y: (0.0, 1.0),
            log: false,
        };
        let title = format!(
            "seed {seed}: {} windows, {} (bits of information)",
            of.pwm.sites(),
            of.pwm.consensus(CALLED)
        );
        svg.frame(&panel, &title);
        logo::draw(&mut svg, &panel, &of.pwm.heights());
    }
    svg.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_that_answers_where_the_model_says_no_has_not_died() {
        let bits = [[0, 1, 1, 1, 0, 0, 0, 0, 0, 0], [0; 10]].concat();
        let why = |kernel: [f32; 3], logits: [f32; 2]| {
            Discovery::of(&bits, &logits, (&kernel, -1.0), 1.0).why_not()
        };
        assert_eq!(why([1.0; 3], [0.5, -0.5]), NONE);
        assert_eq!(why([1.0; 3], [-0.5, 0.5]), "another pattern");
        assert_eq!(why([1.0; 3], [-0.5, -0.5]), "none called positive");
        assert_eq!(why([-1.0; 3], [0.5, -0.5]), "ReLU died");
        assert_eq!(
            why([-1.0; 3], [-0.5, -0.5]),
            "ReLU died, none called positive"
        );
    }

    #[test]
    fn a_filter_peaks_where_its_motif_begins() {
        let bits = [0, 1, 0, 0, 1, 1, 1, 1, 0, 1];
        let (first, output) = peak(&[1.0, 1.0, 1.0], -1.0, &bits);
        assert_eq!((first, output), (4, 2.0), "the first of two");
        let silent = peak(&[-1.0, -1.0, -1.0], 0.0, &bits);
        assert_eq!(silent, (0, 0.0), "as argmax says where nothing is above 0");
    }
}
