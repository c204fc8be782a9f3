//! Optimizers on flat tensors, and the learning rate of each step.

use anyhow::{Result, bail};
use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor, no_grad};

use crate::{
    gpu,
    native::{Rates, adam},
};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Rule {
    Adam,
    /// Adam that squares each micro-batch's gradient before it averages: the same path for any number of ranks x
    /// micro-batches, at a rate times that number (Wang & Aitchison 2024, arXiv:2402.18824); needs --batch
    AdamInvariant,
    Sgd,
    /// SGD with Nesterov's momentum
    Nesterov,
}

/// Adam's constants as Keras has them, under which the published scores were reached (PyTorch's eps is 1e-8).
const BETA1: f64 = 0.9;
const BETA2: f64 = 0.999;
const EPS: f64 = 1e-7;

/// The state is two tensors beside the parameters; SGD leaves the second empty.
#[derive(Debug)]
pub struct Optimizer {
    rule: Rule,
    momentum: f64,
    /// Micro-batches of a step that Adam's memory of one is stretched over.
    batches: f64,
    /// The mean of the squared gradients of the micro-batches, for the next step.
    pub squares: Option<Tensor>,
    pub first: Tensor,
    pub second: Tensor,
}

impl Optimizer {
    pub fn new(rule: Rule, momentum: f64, parameters: &Tensor) -> Self {
        let second = if matches!(rule, Rule::Adam | Rule::AdamInvariant) {
            parameters.zeros_like()
        } else {
            parameters.narrow(0, 0, 0).zeros_like()
        };
        Self {
            rule,
            momentum,
            batches: 1.0,
            squares: None,
            first: parameters.zeros_like(),
            second,
        }
    }

    /// For [`Rule::AdamInvariant`], whose step stands for so many of one micro-batch.
    pub fn over_batches(mut self, batches: usize) -> Self {
        if self.takes_squares() {
            self.batches = batches as f64;
        }
        self
    }

    pub fn takes_squares(&self) -> bool {
        self.rule == Rule::AdamInvariant
    }

    /// One update; `step` counts from 1.
    pub fn step(&mut self, parameters: &Tensor, gradients: &Tensor, rate: f64, step: u64) {
        let mut parameters = parameters.shallow_clone();
        let squares = self.squares.take();
        let (beta1, beta2) = (BETA1.powf(self.batches), BETA2.powf(self.batches));
        no_grad(|| match self.rule {
            Rule::Adam | Rule::AdamInvariant if of_f32_on_cpu(&parameters) => {
                let rates = Rates {
                    beta1,
                    beta2,
                    correction2: 1.0 - beta2.powf(step as f64),
                    epsilon: EPS,
                    rate: rate / (1.0 - beta1.powf(step as f64)),
                };
                let state = [&parameters, &self.first, &self.second];
                adam(&rates, gradients, squares.as_ref(), state);
            }
            Rule::Adam | Rule::AdamInvariant => {
                let squares = squares.unwrap_or_else(|| gradients.square());
                self.first *= beta1;
                self.first += gradients * (1.0 - beta1);
                self.second *= beta2;
                self.second += squares * (1.0 - beta2);
                let correction1 = 1.0 - beta1.powf(step as f64);
                let correction2 = 1.0 - beta2.powf(step as f64);
                let scale = (&self.second / correction2).sqrt() + EPS;
                parameters -= (&self.first / scale) * (rate / correction1);
            }
            Rule::Sgd => {
                self.first *= self.momentum;
                self.first += gradients;
                parameters -= &self.first * rate;
            }
            Rule::Nesterov => {
                self.first *= self.momentum;
                self.first += gradients;
                parameters -= (gradients + &self.first * self.momentum) * rate;
            }
        });
    }
}

/// Where one pass over the numbers does what nine operations do.
fn of_f32_on_cpu(parameters: &Tensor) -> bool {
    parameters.device() == Device::Cpu && parameters.kind() == Kind::Float
}

impl Optimizer {
    /// Whether `step_unless` can do this rule.
    pub fn can_run_ahead(&self) -> bool {
        self.rule == Rule::Adam
    }

    /// `step` of Adam in one kernel, of f32; nothing changes where `blocked` [] is 1, so that the host need not know.
    pub fn step_unless(
        &mut self,
        blocked: &Tensor,
        parameters: &Tensor,
        gradients: &Tensor,
        rate: f64,
        step: u64,
    ) -> Result<()> {
        let state = [parameters, gradients, &self.first, &self.second];
        let step = parameters
            .new_zeros([] as [i64; 0], (Kind::Float, parameters.device()))
            .fill_(step as f64);
        gpu::fused_adam(state, &step, blocked, rate, (BETA1, BETA2), EPS)
    }
}

/// Scales the gradients so that their norm is at most `limit`; returns the norm before.
pub fn clip(gradients: &Tensor, limit: f64) -> f64 {
    let norm = gradients.norm().double_value(&[]);
    if norm > limit {
        let mut gradients = gradients.shallow_clone();
        gradients *= limit / norm;
    }
    norm
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Scaling {
    Linear,
    Sqrt,
    None,
}

impl Scaling {
    /// Factor for a global batch that is `times` the batch the rate was chosen for.
    pub fn factor(self, times: f64) -> f64 {
        match self {
            Scaling::Linear => times,
            Scaling::Sqrt => times.sqrt(),
            Scaling::None => 1.0,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Decay {
    None,
    Cosine,
    /// Times --decay-factor after every --decay-epochs
    Step,
}

/// Learning rate as a function of the step (warm-up) and of the epochs done (decay): a run that goes on with another
/// number of ranks has other steps but the same epochs.
#[derive(Clone, Copy, Debug)]
pub struct Schedule {
    pub peak: f64,
    pub warmup_steps: u64,
    pub decay: Decay,
    pub epochs: f64,
    pub decay_epochs: f64,
    pub decay_factor: f64,
}

impl Schedule {
    pub fn rate(&self, step: u64, epochs_done: f64) -> f64 {
        let warm = ((step + 1) as f64 / (self.warmup_steps + 1) as f64).min(1.0);
        let decayed = match self.decay {
            Decay::None => 1.0,
            Decay::Cosine => {
                0.5 * (1.0 + (std::f64::consts::PI * (epochs_done / self.epochs).min(1.0)).cos())
            }
            Decay::Step => self
                .decay_factor
                .powf((epochs_done / self.decay_epochs).floor()),
        };
        self.peak * warm * decayed
    }

    pub fn check(&self) -> Result<()> {
        if !(self.peak > 0.0 && self.peak.is_finite()) {
            bail!("the learning rate must be positive, found {}", self.peak);
        }
        if self.decay == Decay::Step && !(self.decay_epochs > 0.0 && self.decay_factor > 0.0) {
            bail!("--schedule step needs a positive --decay-epochs and --decay-factor");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FLAT: Schedule = Schedule {
        peak: 1.0,
        warmup_steps: 4,
        decay: Decay::None,
        epochs: 10.0,
        decay_epochs: 2.0,
        decay_factor: 0.1,
    };

    #[test]
    fn warmup_rises_in_steps_and_decay_falls_in_epochs() {
        let rates: Vec<f64> = (0..6).map(|step| FLAT.rate(step, 0.0)).collect();
        assert_eq!(rates, [0.2, 0.4, 0.6, 0.8, 1.0, 1.0]);
        let cosine = Schedule {
            decay: Decay::Cosine,
            ..FLAT
        };
        assert!((cosine.rate(99, 5.0) - 0.5).abs() < 1e-12 && cosine.rate(99, 10.0) < 1e-12);
        let step = Schedule {
            decay: Decay::Step,
            ..FLAT
        };
        assert!(
            (step.rate(99, 1.9) - 1.0).abs() < 1e-12 && (step.rate(99, 4.0) - 0.01).abs() < 1e-12
        );
    }

    #[test]
    fn one_kernel_does_what_adam_does_and_nothing_where_blocked() {
        let on = (Kind::Float, tch::Device::Cpu);
        tch::manual_seed(1);
        let parameters = Tensor::randn([1000], on);
        let fused = parameters.copy();
        let mut plain = Optimizer::new(Rule::Adam, 0.9, &parameters);
        let mut other = Optimizer::new(Rule::Adam, 0.9, &fused);
        let (free, blocked) = (Tensor::from(0f32), Tensor::from(1f32));
        for step in 1..=20 {
            let gradients = Tensor::randn([1000], on) * 1e-3;
            plain.step(&parameters, &gradients, 1e-2, step);
            other
                .step_unless(&free, &fused, &gradients, 1e-2, step)
                .unwrap();
            let nan = &gradients * f64::NAN;
            other
                .step_unless(&blocked, &fused, &nan, 1e-2, step)
                .unwrap();
        }
        let off = |a: &Tensor, b: &Tensor| {
            let largest = b.abs().max().double_value(&[]);
            (a - b).abs().max().double_value(&[]) / largest
        };
        assert!(off(&fused, &parameters) < 1e-6);
        assert!(off(&other.first, &plain.first) < 1e-6);
        assert!(off(&other.second, &plain.second) < 1e-6);
    }

    #[test]
    fn clipping_keeps_the_direction() {
        let gradients = Tensor::from_slice(&[3.0f32, 4.0]);
        assert_eq!(clip(&gradients, 10.0), 5.0);
        assert_eq!(clip(&gradients, 1.0), 5.0);
        let clipped: Vec<f32> = (&gradients).try_into().unwrap();
        assert!((clipped[0] - 0.6).abs() < 1e-6 && (clipped[1] - 0.8).abs() < 1e-6);
    }
}
