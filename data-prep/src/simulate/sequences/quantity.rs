use rand::Rng;
use rand_distr::{Distribution, Poisson};
use serde::Serialize;

/// How many motifs a sequence gets: a whole number from `min` to `max`, all as likely unless a mean is given.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Quantity {
    pub min: u32,
    pub max: u32,
    /// Of a Poisson distribution, drawn again where it falls outside.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mean: Option<f64>,
    /// Probability of none at all, drawn first.
    pub zero_prob: f64,
}

/// Below this share of draws between minimum and maximum, drawing again would not end.
const LEAST_SHARE: f64 = 1e-3;

impl Quantity {
    pub fn uniform(min: u32, max: u32) -> Self {
        Self {
            min,
            max,
            mean: None,
            zero_prob: 0.0,
        }
    }

    /// `least` and `largest` are the options that were asked.
    pub fn check(self, [least, largest]: [&str; 2]) -> Result<(), String> {
        let Self { min, max, .. } = self;
        if min > max {
            return Err(format!(
                "{least} {min}, {largest} {max}: expected the smaller first"
            ));
        }
        if !(0.0..=1.0).contains(&self.zero_prob) {
            return Err(format!(
                "--zero-prob {}: expected a probability",
                self.zero_prob
            ));
        }
        match self.poisson_mean() {
            Some(mean) if !(mean > 0.0 && mean.is_finite()) => {
                Err(format!("--mean {mean}: expected a number above 0"))
            }
            Some(mean) if self.share_between(mean) < LEAST_SHARE => Err(format!(
                "--mean {mean}: too far from {least} {min} and {largest} {max}"
            )),
            _ => Ok(()),
        }
    }

    /// None where the number is fixed whatever the mean.
    pub fn poisson_mean(self) -> Option<f64> {
        self.mean.filter(|_| self.min < self.max)
    }

    /// Share of a Poisson distribution that lies between minimum and maximum.
    fn share_between(self, mean: f64) -> f64 {
        let mut log_share = -mean;
        let mut sum = 0.0;
        for count in 0..=self.max {
            if count > 0 {
                log_share += (mean / f64::from(count)).ln();
            }
            if count >= self.min {
                sum += log_share.exp();
            }
        }
        sum
    }

    pub fn draw(self, rng: &mut impl Rng) -> u32 {
        if self.zero_prob > 0.0 && rng.random_bool(self.zero_prob) {
            return 0;
        }
        let Some(mean) = self.poisson_mean() else {
            return rng.random_range(self.min..=self.max);
        };
        let poisson = Poisson::new(mean).expect("checked above zero");
        loop {
            let count = poisson.sample(rng) as u32;
            if (self.min..=self.max).contains(&count) {
                return count;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    use super::*;

    fn shares(quantity: Quantity) -> Vec<f64> {
        let mut rng = ChaCha8Rng::seed_from_u64(5);
        let mut counts = [0u32; 12];
        for _ in 0..20_000 {
            counts[quantity.draw(&mut rng) as usize] += 1;
        }
        counts.map(|count| f64::from(count) / 2e4).to_vec()
    }

    fn are_close(seen: &[f64], expected: &[f64]) {
        for (count, (seen, expected)) in seen.iter().zip(expected).enumerate() {
            // Five standard deviations of a binomial share.
            let tolerance = 5.0 * (expected * (1.0 - expected) / 20_000.0).sqrt();
            assert!(
                (seen - expected).abs() <= tolerance,
                "{count}: {seen} of {expected}"
            );
        }
    }

    #[test]
    fn uniform_fixed_bernoulli_and_zero_inflated() {
        are_close(
            &shares(Quantity::uniform(2, 4)),
            &[0.0, 0.0, 1.0 / 3.0, 1.0 / 3.0, 1.0 / 3.0, 0.0],
        );
        are_close(&shares(Quantity::uniform(3, 3)), &[0.0, 0.0, 0.0, 1.0, 0.0]);
        let zero_prob = 0.3;
        are_close(
            &shares(Quantity {
                zero_prob,
                ..Quantity::uniform(1, 1)
            }),
            &[0.3, 0.7, 0.0],
        );
        are_close(
            &shares(Quantity {
                zero_prob,
                ..Quantity::uniform(0, 1)
            }),
            &[0.65, 0.35, 0.0],
        );
    }

    #[test]
    fn poisson_between_minimum_and_maximum() {
        let mean = Some(2.0);
        let poisson = [2.0, 2.0, 4.0 / 3.0, 2.0 / 3.0].map(|share: f64| share / 6.0);
        let seen = shares(Quantity {
            mean,
            ..Quantity::uniform(1, 4)
        });
        are_close(&seen, &[&[0.0], &poisson[..], &[0.0]].concat());
    }

    #[test]
    fn what_cannot_be_drawn_is_said() {
        let uniform = Quantity::uniform;
        for wrong in [
            uniform(3, 2),
            Quantity {
                zero_prob: 1.5,
                ..uniform(0, 1)
            },
            Quantity {
                mean: Some(0.0),
                ..uniform(0, 1)
            },
            Quantity {
                mean: Some(0.1),
                ..uniform(8, 9)
            },
            Quantity {
                mean: Some(500.0),
                ..uniform(0, 9)
            },
        ] {
            assert!(wrong.check(["--min", "--max"]).is_err(), "{wrong:?}");
        }
        assert!(
            Quantity {
                mean: Some(3.0),
                ..uniform(2, 4)
            }
            .check(["--min", "--max"])
            .is_ok()
        );
    }
}
