//! Before anything is timed: does the engine compute what libtorch computes in double precision?

use anyhow::{Result, ensure};
use tch::{Kind, Tensor};
use tfbind_mpi::{
    comm::Solo, compute::Precision, device::num_threads, engine::Net, timeline::Timeline,
};

use super::{Arguments, task};

/// More windows would only need more memory.
const MOST: usize = 8;
/// Relative differences. Single precision turns a few ReLUs and maxima the other way, and with them some elements of
/// the gradient: libtorch's own single precision is 1e-3 to 3e-3 off here.
const OF_LOSS: f64 = 1e-5;
const OF_GRADIENT: f64 = 1e-2;
const OF_RUNNING: f64 = 1e-5;
const OF_LOGITS: f64 = 1e-4;
/// Factors of 8 bits instead of 24 turn many more ReLUs (seen: half the norm of a gradient); exactness is for the tests to show.
const OF_BF16: [f64; 4] = [1e-2, 0.7, 1e-3, 1e-2];

pub fn check(arguments: &Arguments) -> Result<()> {
    tch::set_num_threads(num_threads(arguments.threads)?);
    let rows = task::rows(arguments, arguments.batch.min(MOST), 0);
    let mut own = task::net(arguments, Kind::Float)?;
    let mut exact = task::net(arguments, Kind::Double)?;
    let logits =
        |net: &mut Net| -> Result<Tensor> { Ok(Tensor::from_slice(&net.engine.logits(&rows)?)) };
    let of_logits = difference(&logits(&mut own)?, &logits(&mut exact)?);
    let gradients = |net: &mut Net| {
        let mut timeline = Timeline::new(&Solo, tch::Device::Cpu, false);
        net.engine.gradients(&rows, &mut timeline, &|_| ())
    };
    let (loss, labels) = gradients(&mut own)?;
    let (exact_loss, exact_labels) = gradients(&mut exact)?;
    let of_loss = (loss - exact_loss).abs() / exact_loss;
    let of_gradient = difference(&own.flat.gradients, &exact.flat.gradients);
    let of_running = difference(&own.flat.buffers, &exact.flat.buffers);
    println!(
        "verified     {} windows against double precision: loss {of_loss:.1e}, gradient {of_gradient:.1e}, running \
         statistics {of_running:.1e}, logits {of_logits:.1e}",
        rows.len()
    );
    let [loss, gradient, running, logits] = match arguments.precision {
        Precision::Bf16 => OF_BF16,
        _ => [OF_LOSS, OF_GRADIENT, OF_RUNNING, OF_LOGITS],
    };
    let fits = labels == exact_labels
        && of_loss < loss
        && of_gradient < gradient
        && of_running < running
        && of_logits < logits;
    ensure!(
        fits,
        "the engine does not compute what libtorch does in double precision"
    );
    Ok(())
}

/// Norm of the difference over the norm of what is expected.
fn difference(own: &Tensor, expected: &Tensor) -> f64 {
    if expected.numel() == 0 {
        return 0.0;
    }
    let norm = |of: &Tensor| of.to_kind(Kind::Double).norm().double_value(&[]);
    norm(&(own.to_kind(Kind::Double) - expected)) / norm(expected)
}
