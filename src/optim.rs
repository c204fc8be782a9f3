//! Optimizers on flat tensors.

mod penalties;
mod schedule;

pub use penalties::Penalties;
pub use schedule::{Decay, Scaling, Schedule};

use anyhow::Result;
use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor, no_grad};

use crate::{
    flat::FlatTensors,
    gpu,
    native::{Rates, adam},
    plan::Plan,
};
use penalties::Penalised;

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
    /// SGD with each gradient divided by the root of its square's running mean (--rho)
    #[value(name = "rmsprop")]
    #[serde(rename = "rmsprop")]
    RmsProp,
}

impl Rule {
    /// In words, with those that keep the same of past gradients: one goes on where the other was stopped.
    pub fn family(self) -> &'static str {
        match self {
            Rule::Adam | Rule::AdamInvariant => "adam or adam-invariant",
            Rule::Sgd | Rule::Nesterov => "sgd or nesterov",
            Rule::RmsProp => "rmsprop",
        }
    }
}

/// Adam's constants as Keras has them, under which the published scores were reached (PyTorch's eps is 1e-8).
const BETA1: f64 = 0.9;
const BETA2: f64 = 0.999;
const EPS: f64 = 1e-7;
/// Keras' memory of RMSprop. Its epsilon, the one above, is added to the root, as in Torch and in the Keras of its time
/// (before 2.3), under which DanQ and Basset were trained; later ones add it under the root, where small gradients feel it.
const RHO: f64 = 0.9;

/// The state is two tensors beside the parameters; SGD leaves the second empty, RMSprop the first.
#[derive(Debug)]
pub struct Optimizer {
    rule: Rule,
    momentum: f64,
    rho: f64,
    penalised: Option<Penalised>,
    /// Micro-batches of a step that Adam's memory of one is stretched over.
    batches: f64,
    /// The mean of the squared gradients of the micro-batches, for the next step.
    pub squares: Option<Tensor>,
    pub first: Tensor,
    pub second: Tensor,
}

impl Optimizer {
    pub fn new(rule: Rule, momentum: f64, parameters: &Tensor) -> Self {
        let state = |needed: bool| match needed {
            true => parameters.zeros_like(),
            false => parameters.narrow(0, 0, 0).zeros_like(),
        };
        Self {
            rule,
            momentum,
            rho: RHO,
            penalised: None,
            batches: 1.0,
            squares: None,
            first: state(rule != Rule::RmsProp),
            second: state(!matches!(rule, Rule::Sgd | Rule::Nesterov)),
        }
    }

    pub fn of_training(plan: &Plan, flat: &FlatTensors, ranks: usize) -> Self {
        Self {
            rho: plan.rho,
            penalised: Some(Penalised::new(plan.penalties, &flat.parameter_slots)),
            ..Self::new(plan.optimizer, plan.momentum, &flat.parameters)
        }
        .over_batches(ranks * plan.accumulate)
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

    /// One update; `step` counts from 1. Penalties are added to the gradients.
    pub fn step(&mut self, parameters: &Tensor, gradients: &Tensor, rate: f64, step: u64) {
        if let Some(penalised) = &self.penalised {
            penalised.add_gradient(parameters, gradients);
        }
        self.follow(parameters, gradients, rate, step);
        if let Some(penalised) = &self.penalised {
            penalised.limit_norms(parameters);
        }
    }

    fn follow(&mut self, parameters: &Tensor, gradients: &Tensor, rate: f64, step: u64) {
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
            Rule::RmsProp => {
                self.second *= self.rho;
                self.second += gradients.square() * (1.0 - self.rho);
                parameters -= gradients / (self.second.sqrt() + EPS) * rate;
            }
        });
    }
}

/// Where one pass over the numbers does what nine operations do.
fn of_f32_on_cpu(parameters: &Tensor) -> bool {
    parameters.device() == Device::Cpu && parameters.kind() == Kind::Float
}

impl Optimizer {
    /// Whether `step_unless` can do this.
    pub fn can_run_ahead(&self) -> bool {
        let limited = self.penalised.as_ref().is_some_and(Penalised::limits_norms);
        self.rule == Rule::Adam && !limited
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
        if let Some(penalised) = &self.penalised {
            penalised.add_gradient(parameters, gradients);
        }
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

#[cfg(test)]
mod tests {
    use super::*;

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
