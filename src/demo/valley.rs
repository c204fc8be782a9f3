//! SGD along a narrow valley, from the class's slides on learning rate, momentum and Nesterov's gradient:
//! f(x, y) = (a x^2 + b y^2) / 2, steep across and flat along. The steps are those of the trainer's own optimizer.

use anyhow::Result;
use tch::Tensor;

use super::{
    stage::Stage,
    table::{NONE, Table},
};
use crate::{
    optim::{Optimizer, Rule},
    plan::word,
    report::svg::{BLUE, GREEN, ORANGE, Panel, Svg},
};

/// Along the valley, and across it: gradient descent diverges above a rate of 2 / 40.
const CURVATURES: [f64; 2] = [1.0, 40.0];
const START: [f64; 2] = [10.0, 1.5];
/// Down is where f is this share of what it was, and stays below.
const FLOOR: f64 = 1e-6;
const STEPS: u64 = 1000;

struct Way {
    rule: Rule,
    rate: f64,
    momentum: f64,
    says: &'static str,
    colour: &'static str,
}

const WAYS: [Way; 4] = [
    Way {
        rule: Rule::Sgd,
        rate: 0.01,
        momentum: 0.0,
        says: "slow along the valley",
        colour: BLUE,
    },
    Way {
        rule: Rule::Sgd,
        rate: 0.048,
        momentum: 0.0,
        says: "oscillates across it",
        colour: ORANGE,
    },
    Way {
        rule: Rule::Sgd,
        rate: 0.01,
        momentum: 0.9,
        says: "faster",
        colour: GREEN,
    },
    Way {
        rule: Rule::Nesterov,
        rate: 0.01,
        momentum: 0.9,
        says: "faster, looks ahead",
        colour: "#8a4f9e",
    },
];

pub fn show(stage: &Stage) -> Result<Table> {
    let mut table = Table {
        title: format!(
            "down f = ({} x^2 + {} y^2) / 2 from ({}, {}) until f is {FLOOR:e} of what it was",
            CURVATURES[0], CURVATURES[1], START[0], START[1]
        ),
        heads: vec!["", "rate", "momentum", "the class says", "turns across", "steps by theory", "steps"],
        rows: Vec::new(),
        notes: vec![
            "Turns across: how often y changes its sign. By theory: the steps after which the larger eigenvalue of one step\n\
             has brought f down so far, without the swings on the way. The class draws this and gives no numbers. The\n\
             paths are in valley.svg."
                .into(),
        ],
    };
    let mut paths = Vec::new();
    for way in &WAYS {
        let path = way.walk();
        let turns = path[..=steps(&path)]
            .windows(2)
            .filter(|step| step[0][1] * step[1][1] < 0.0)
            .count();
        let momentum = match way.momentum {
            0.0 => NONE.to_string(),
            momentum => momentum.to_string(),
        };
        table.row([
            &word(way.rule),
            &way.rate.to_string(),
            &momentum,
            way.says,
            &turns.to_string(),
            &format!("{:.0}", way.steps_by_theory()),
            &steps(&path).to_string(),
        ]);
        paths.push(path);
    }
    stage.write("valley.svg", &picture(&paths))?;
    Ok(table)
}

fn height(at: [f64; 2]) -> f64 {
    (CURVATURES[0] * at[0] * at[0] + CURVATURES[1] * at[1] * at[1]) / 2.0
}

/// Until the path is down for good.
fn steps(path: &[[f64; 2]]) -> usize {
    let above = |at: &[f64; 2]| height(*at) > FLOOR * height(START);
    path.iter().rposition(above).map_or(0, |last| last + 1)
}

impl Way {
    /// The places from the start on.
    fn walk(&self) -> Vec<[f64; 2]> {
        let curvatures = Tensor::from_slice(&CURVATURES);
        let place = Tensor::from_slice(&START);
        let mut optimizer = Optimizer::new(self.rule, self.momentum, &place);
        let mut path = vec![START];
        for step in 1..=STEPS {
            let gradient = &place * &curvatures;
            optimizer.step(&place, &gradient, self.rate, step);
            path.push([0, 1].map(|axis| place.double_value(&[axis])));
        }
        path
    }

    /// Largest factor by which a step shrinks a direction: of the roots z of z^2 - (1 + m) g z + m g with g = 1 - rate
    /// times curvature (Nesterov), of z^2 - (g + m) z + m (momentum, which is plain for m = 0).
    fn factor(&self) -> f64 {
        let of = |curvature: f64| {
            let (g, m) = (1.0 - self.rate * curvature, self.momentum);
            let (sum, product) = match self.rule {
                Rule::Nesterov => ((1.0 + m) * g, m * g),
                _ => (g + m, m),
            };
            let inside = sum * sum - 4.0 * product;
            match inside < 0.0 {
                true => product.sqrt(),
                false => (sum.abs() + inside.sqrt()) / 2.0,
            }
        };
        of(CURVATURES[0]).max(of(CURVATURES[1]))
    }

    fn steps_by_theory(&self) -> f64 {
        FLOOR.ln() / (2.0 * self.factor().ln())
    }
}

fn picture(paths: &[Vec<[f64; 2]>]) -> String {
    const PATHS: f64 = 190.0;
    let mut svg = Svg::new(3.0 * (PATHS + 50.0) + 10.0);
    let panel = |row: f64, x, y, log| Panel {
        top: 25.0 + row * (PATHS + 50.0),
        height: PATHS,
        x,
        y,
        log,
    };
    let titles = [
        "small and large rate (ellipses: f falls by 4 from each to the next)",
        "momentum and Nesterov, both at the small rate",
    ];
    let (across, up) = ((-11.0, 11.0), (-2.0, 2.0));
    for (row, title) in titles.into_iter().enumerate() {
        let panel = panel(row as f64, across, up, false);
        for level in 0..6 {
            let f = 60.0 / 4f64.powi(level);
            let turn = (0..=90).map(|i| f64::from(i) * std::f64::consts::TAU / 90.0);
            let radius = CURVATURES.map(|curvature| (2.0 * f / curvature).sqrt());
            let place = |angle: f64| (radius[0] * angle.cos(), radius[1] * angle.sin());
            svg.line(&panel, turn.map(place), "#dddddd", 1.0);
        }
        svg.frame(&panel, title);
        svg.x_axis(&panel, "x, along the valley", ("-11", "11"));
        for (i, way) in WAYS.iter().enumerate().skip(2 * row).take(2) {
            let points = paths[i].iter().map(|at| (at[0], at[1]));
            svg.line(&panel, points, way.colour, 1.5);
            legend(&mut svg, &panel, way, i - 2 * row);
        }
    }
    let most = paths[1..].iter().map(|path| steps(path)).max().unwrap_or(1);
    let y = (FLOOR, 10.0);
    let panel = panel(2.0, (0.0, most as f64), y, true);
    svg.frame(&panel, "f over f at the start (log scale)");
    svg.x_axis(&panel, "step", ("0", &most.to_string()));
    for (way, path) in WAYS.iter().zip(paths) {
        let points = path.iter().take(most + 1).enumerate();
        let points = points.map(|(step, &at)| (step as f64, height(at) / height(START)));
        svg.line(&panel, points, way.colour, 1.5);
    }
    svg.finish()
}

fn legend(svg: &mut Svg, panel: &Panel, way: &Way, row: usize) {
    let text = format!("{} {}, momentum {}", word(way.rule), way.rate, way.momentum);
    let y = panel.top + 16.0 + 15.0 * row as f64;
    svg.text(78.0, y, "start", way.colour, &text);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_takes_about_as_many_steps_as_theory_says() {
        for way in &WAYS {
            let share = steps(&way.walk()) as f64 / way.steps_by_theory();
            assert!(
                (0.85..1.15).contains(&share),
                "{} {}: {share}",
                way.says,
                way.rate
            );
        }
    }

    #[test]
    fn a_step_is_the_formula_of_the_class() {
        let nesterov = WAYS[3].walk();
        let ([x, _], step) = (START, WAYS[3].rate * CURVATURES[0]);
        // Started at rest, Nesterov's first step is one of (1 + momentum) times the gradient.
        assert!((nesterov[1][0] - (x - 1.9 * step * x)).abs() < 1e-12);
        let momentum = WAYS[2].walk();
        let first = -step * x;
        assert!((momentum[1][0] - (x + first)).abs() < 1e-12);
        let second = 0.9 * first - step * momentum[1][0];
        assert!((momentum[2][0] - (momentum[1][0] + second)).abs() < 1e-12);
    }
}
