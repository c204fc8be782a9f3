//! Equal work on every rank at once: how much its time varies, and whether one rank is slower than the others. All ranks
//! wait for the slowest in every step.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tch::{Cuda, Device, Kind, Tensor, no_grad};

use super::{Line, PROBE_LIMIT, duration, who, within};
use crate::comm::Comm;

/// How long a piece should take: longer than a scheduler's time slice, shorter than a training step.
const PIECE: Duration = Duration::from_millis(10);
const PIECES: usize = 50;
/// Rows and columns of the matrices that are multiplied.
const SIZE: i64 = 512;
/// Times the middle rank's time, above which a rank holds up all others.
const SLOW: f64 = 1.25;

/// Of one rank.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Pace {
    /// Seconds of a piece, and of one of its products of matrices: medians.
    pub piece: f64,
    pub product: f64,
    /// Standard deviation of the pieces over their mean.
    pub varies: f64,
}

/// Every rank does as many products in a piece; all begin together.
pub fn probe(comm: &dyn Comm, device: Option<Device>) -> Result<Pace, String> {
    let Some(device) = device else {
        comm.broadcast(&mut [0; 4]);
        comm.barrier();
        return Err("no device".into());
    };
    // As a rank with a core of its own computes.
    tch::set_num_threads(1);
    let warm = within(PROBE_LIMIT, move || {
        let products = Products::new(device);
        products.take(8);
        Ok(products.take(8) / 8.0)
    });
    let count = PIECE.as_secs_f64() / warm.as_ref().map_or(1.0, |seconds| *seconds);
    let mut count = (count.round().max(1.0) as u32).to_le_bytes();
    comm.broadcast(&mut count);
    let count = u32::from_le_bytes(count).max(1);
    comm.barrier();
    warm?;
    within(PROBE_LIMIT, move || {
        let products = Products::new(device);
        let mut pieces: Vec<f64> = (0..PIECES).map(|_| products.take(count)).collect();
        let mean = pieces.iter().sum::<f64>() / PIECES as f64;
        let squares = pieces.iter().map(|piece| (piece - mean).powi(2));
        let varies = (squares.sum::<f64>() / (PIECES - 1) as f64).sqrt() / mean;
        pieces.sort_by(f64::total_cmp);
        let piece = pieces[PIECES / 2];
        Ok(Pace {
            piece,
            product: piece / f64::from(count),
            varies,
        })
    })
}

struct Products {
    device: Device,
    matrix: Tensor,
}

impl Products {
    fn new(device: Device) -> Self {
        let matrix = Tensor::ones([SIZE, SIZE], (Kind::Float, device));
        Self { device, matrix }
    }

    /// Seconds of so many.
    fn take(&self, count: u32) -> f64 {
        let began = Instant::now();
        no_grad(|| {
            for _ in 0..count {
                let _ = std::hint::black_box(self.matrix.matmul(&self.matrix));
            }
        });
        if let Device::Cuda(gpu) = self.device {
            Cuda::synchronize(gpu as i64);
        }
        began.elapsed().as_secs_f64()
    }
}

/// A rank whose device did not answer is told of elsewhere.
pub(super) fn judge(paces: &[Result<Pace, String>], hosts: &[&str], crowded: bool) -> Option<Line> {
    let known = || {
        let all = paces.iter().enumerate();
        all.filter_map(|(rank, pace)| Some((rank, pace.as_ref().ok()?)))
    };
    let (slowest, worst) = known().max_by(|a, b| a.1.product.total_cmp(&b.1.product))?;
    let mut products: Vec<f64> = known().map(|(_, pace)| pace.product).collect();
    products.sort_by(f64::total_cmp);
    let times = worst.product / products[(products.len() - 1) / 2];
    let varies = known().map(|(_, pace)| pace.varies).fold(0.0, f64::max);
    let mut found = format!(
        "pieces of {} vary by up to {:.1} %",
        duration(worst.piece),
        100.0 * varies
    );
    if paces.len() > 1 {
        found += &format!(
            "; slowest {}: {times:.2} x the middle rank's time",
            who(&[slowest], hosts)
        );
    }
    if crowded {
        found += "; ranks share cores, so times say little";
    }
    Some(if times > SLOW && !crowded {
        let advice = "all ranks wait for it: see top there for other jobs, the clock of the CPU or GPU, or leave the host out";
        Line::warn("pace", found, advice)
    } else {
        Line::ok("pace", found)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{comm::Solo, doctor::Mark};

    #[test]
    fn a_slow_rank_is_named_unless_ranks_share_cores() {
        let pace = |product: f64| {
            Ok(Pace {
                piece: 10.0 * product,
                product,
                varies: 0.02,
            })
        };
        let paces = [pace(1e-3), pace(2e-3), pace(1e-3)];
        let hosts = ["a", "b", "b"];
        let line = judge(&paces, &hosts, false).unwrap();
        assert_eq!(line.mark, Mark::Warn);
        assert!(
            line.found
                .contains("vary by up to 2.0 %; slowest rank 1 on b: 2.00 x"),
            "{line:?}"
        );
        assert_eq!(judge(&paces, &hosts, true).unwrap().mark, Mark::Ok);
        assert!(judge(&[Err("no device".into())], &["a"], false).is_none());
    }

    #[test]
    fn work_takes_time() {
        let pace = probe(&Solo, Some(Device::Cpu)).unwrap();
        assert!(pace.product > 0.0 && pace.piece >= pace.product, "{pace:?}");
        assert!(probe(&Solo, None).is_err());
    }
}
