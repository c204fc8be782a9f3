//! Adam in one pass over the numbers, rounded as libtorch's own operations round them but for the root, which is exact here.

use std::collections::HashSet;

use tch::Tensor;

use super::numbers;

/// Decay rates and corrections of a step.
pub struct Rates {
    pub beta1: f64,
    pub beta2: f64,
    /// 1 - beta2^step
    pub correction2: f64,
    pub epsilon: f64,
    /// Of the step, divided by 1 - beta1^step.
    pub rate: f64,
}

/// Updates parameters and both moments, of f32 on the CPU. `squares` stand for the squares of the gradients where they
/// are given.
pub fn adam(rates: &Rates, gradients: &Tensor, squares: Option<&Tensor>, state: [&Tensor; 3]) {
    let all = [gradients].into_iter().chain(squares).chain(state);
    let places: HashSet<_> = all.map(|tensor| tensor.data_ptr()).collect();
    assert_eq!(places.len(), 4 + usize::from(squares.is_some()));
    // SAFETY: different tensors that the caller holds, and nothing else computes.
    unsafe {
        let squares = squares.map(|squares| &*numbers::<f32>(squares));
        update(
            rates,
            numbers(gradients),
            squares,
            state.map(|tensor| numbers(tensor)),
        );
    }
}

fn update(
    rates: &Rates,
    gradients: &[f32],
    squares: Option<&[f32]>,
    [parameters, first, second]: [&mut [f32]; 3],
) {
    let Rates {
        beta1,
        beta2,
        correction2,
        epsilon,
        rate,
    } = *rates;
    let (keep1, keep2) = (beta1 as f32, beta2 as f32);
    let (new1, new2) = ((1.0 - beta1) as f32, (1.0 - beta2) as f32);
    let (correction2, epsilon, rate) = (correction2 as f32, epsilon as f32, rate as f32);
    let numel = parameters.len();
    let (gradients, first, second) = (
        &gradients[..numel],
        &mut first[..numel],
        &mut second[..numel],
    );
    for i in 0..numel {
        let square = match squares {
            Some(squares) => squares[i],
            None => gradients[i] * gradients[i],
        };
        first[i] = first[i] * keep1 + gradients[i] * new1;
        second[i] = second[i] * keep2 + square * new2;
        let scale = (second[i] / correction2).sqrt() + epsilon;
        parameters[i] -= first[i] / scale * rate;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::{Device, Kind};

    #[test]
    fn is_that_of_single_operations() {
        let random = || Tensor::randn([10_007], (Kind::Float, Device::Cpu));
        let (parameters, mut first, mut second) = (random(), random(), random().square());
        let mut expected = parameters.copy();
        let (mut m, mut v) = (first.copy(), second.copy());
        for step in 1..=5 {
            let rates = Rates {
                beta1: 0.9,
                beta2: 0.999,
                correction2: 1.0 - 0.999f64.powi(step),
                epsilon: 1e-8,
                rate: 1e-3 / (1.0 - 0.9f64.powi(step)),
            };
            let gradients = random() * 1e-3;
            adam(&rates, &gradients, None, [&parameters, &first, &second]);
            m *= rates.beta1;
            m += &gradients * (1.0 - rates.beta1);
            v *= rates.beta2;
            v += gradients.square() * (1.0 - rates.beta2);
            let scale = (&v / rates.correction2).sqrt() + rates.epsilon;
            expected -= (&m / scale) * rates.rate;
            // MKL's root, which libtorch takes, is one unit in the last place off in a sixth of all cases; parameters are
            // up to 5, where a unit is 5e-7.
            let off = (&parameters - &expected).abs().max().double_value(&[]);
            assert!(off < 1e-6, "step {step}: {off:e}");
        }
        assert_eq!((&mut first, &mut second), (&mut m, &mut v));
    }
}
