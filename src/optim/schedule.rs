//! The learning rate of each step.

use anyhow::{Result, bail, ensure};
use clap::ValueEnum;
use serde::{Deserialize, Serialize};

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
    /// Divided by 1 + --decay-rate x step: Keras' decay, Torch's learningRateDecay
    Inverse,
}

/// Learning rate as a function of the step (warm-up, inverse) and of the epochs done (other decay): a run that goes on
/// with another number of ranks may have other steps but has the same epochs.
#[derive(Clone, Copy, Debug)]
pub struct Schedule {
    pub peak: f64,
    pub warmup_steps: u64,
    pub decay: Decay,
    pub epochs: f64,
    pub decay_epochs: f64,
    pub decay_factor: f64,
    pub decay_rate: f64,
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
            Decay::Inverse => 1.0 / (1.0 + self.decay_rate * step as f64),
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
        ensure!(
            self.decay != Decay::Inverse || (self.decay_rate > 0.0 && self.decay_rate.is_finite()),
            "--schedule inverse needs a positive --decay-rate, found {}",
            self.decay_rate
        );
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
        decay_rate: 0.5,
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
        let inverse = Schedule {
            decay: Decay::Inverse,
            ..FLAT
        };
        assert_eq!(inverse.rate(98, 5.0), 1.0 / 50.0, "of steps, not of epochs");
    }
}
