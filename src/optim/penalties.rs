//! What keeps weights small: a penalty on their squares, a limit to their norms.

use anyhow::{Result, ensure};
use tch::{Tensor, no_grad};

use crate::flat::Slot;

/// Each is 0 for none.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Penalties {
    /// Times the absolute outputs of the last hidden layer (summed over units, averaged over windows), beside the mean
    /// loss. The model computes it.
    pub l1: f64,
    /// Times the squares of all weights, beside the mean loss: Keras' l2, half of Torch's weight decay.
    pub l2: f64,
    /// Of the weights that lead to an output, the largest norm after a step: Torch's renorm(2, 1, limit).
    pub max_norm: f64,
}

impl Penalties {
    pub const NONE: Self = Self {
        l1: 0.0,
        l2: 0.0,
        max_norm: 0.0,
    };

    pub fn check(&self) -> Result<()> {
        for (name, value) in [
            ("l1", self.l1),
            ("l2", self.l2),
            ("max-norm", self.max_norm),
        ] {
            ensure!(
                value >= 0.0 && value.is_finite(),
                "--{name} must be positive, or 0 for none; found {value}"
            );
        }
        Ok(())
    }

    /// For the plan's table.
    pub fn line(&self) -> String {
        let parts = [
            (self.l2, "squares of weights x "),
            (self.l1, "absolute hidden outputs x "),
            (self.max_norm, "norms of an output's weights at most "),
        ];
        let active = parts.into_iter().filter(|(value, _)| *value > 0.0);
        let words: Vec<String> = active
            .map(|(value, what)| format!("{what}{value}"))
            .collect();
        match words.is_empty() {
            true => "none".into(),
            false => words.join(", "),
        }
    }
}

/// The weights of a model in its flat tensor: all that have two dimensions or more, which biases and norms have not.
#[derive(Debug)]
pub struct Penalised {
    penalties: Penalties,
    slots: Vec<Slot>,
}

impl Penalised {
    pub fn new(penalties: Penalties, slots: &[Slot]) -> Self {
        let weights = slots.iter().filter(|slot| slot.shape.len() > 1);
        Self {
            penalties,
            slots: weights.cloned().collect(),
        }
    }

    /// The penalty's share of the mean gradient.
    pub fn add_gradient(&self, parameters: &Tensor, gradients: &Tensor) {
        let factor = 2.0 * self.penalties.l2;
        if factor > 0.0 {
            no_grad(|| {
                for slot in &self.slots {
                    let mut gradient = slot.view(gradients);
                    gradient += slot.view(parameters) * factor;
                }
            });
        }
    }

    pub fn limits_norms(&self) -> bool {
        self.penalties.max_norm > 0.0
    }

    pub fn limit_norms(&self, parameters: &Tensor) {
        if self.limits_norms() {
            no_grad(|| {
                for slot in &self.slots {
                    let mut rows = slot.view(parameters);
                    // The outputs of a transposed convolution are its second dimension.
                    if slot.name.starts_with("conv1d_transpose") {
                        rows = rows.transpose(0, 1);
                    }
                    let limited = rows.renorm(2.0, 0, self.penalties.max_norm);
                    rows.copy_(&limited);
                }
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::{Device, Kind};

    #[test]
    fn only_weights_shrink_and_each_output_by_itself() {
        let slot = |name: &str, shape: &[i64], start| Slot {
            name: name.into(),
            shape: shape.to_vec(),
            start,
        };
        let slots = [
            slot("conv1d.bias", &[2], 0),
            slot("conv1d.weight", &[2, 1, 2], 2),
            slot("conv1d_transpose.weight", &[2, 1, 1], 6),
        ];
        let penalties = Penalties {
            l2: 0.5,
            max_norm: 5.0,
            ..Penalties::NONE
        };
        let penalised = Penalised::new(penalties, &slots);
        let parameters = Tensor::from_slice(&[9f32, 9.0, 6.0, 8.0, 0.3, 0.4, 6.0, 8.0]);
        let gradients = Tensor::ones([8], (Kind::Float, Device::Cpu));
        penalised.add_gradient(&parameters, &gradients);
        let floats = |of: &Tensor| Vec::<f32>::try_from(of).unwrap();
        // 2 x 0.5 x weight
        let expected = [1.0, 1.0, 7.0, 9.0, 1.3, 1.4, 7.0, 9.0];
        assert_eq!(floats(&gradients), expected);
        penalised.limit_norms(&parameters);
        let limited = [9.0, 9.0, 3.0, 4.0, 0.3, 0.4, 3.0, 4.0];
        for (own, of) in floats(&parameters).iter().zip(limited) {
            assert!((own - of).abs() < 1e-5, "{own} {of}");
        }
    }
}
