//! What a step should take on N ranks, from what one rank takes and what `doctor` measures of sums and of equal work.
//!
//! ```text
//! step(N) = compute(windows) x sharing + jitter + sums
//! jitter  = compute x varies x E[max of N]          every rank waits for the slowest
//! sums    = 2 log2(N) latency + 2 (N-1)/N bytes / bandwidth         the gradient (Rabenseifner's algorithm)
//!         + log2(N) latency, for the loss and each statistic        a few bytes (recursive doubling)
//! ```
//! Thakur, Rabenseifner, Gropp 2005, "Optimization of collective communication operations in MPICH", section 4.5. Over
//! several hosts the gradient is summed on each and then between them, so both parts are paid.

use std::thread;

use anyhow::{Context, Result};
use serde::Serialize;

use super::{
    Mode,
    jitter::largest_of,
    measure::{Spread, Timed},
    study::{Job, Study},
    wire::{Sums, Wire},
};
use crate::{comm::TransportChoice, device::DeviceChoice, doctor::Measured};

/// Equal work that varies by more is disturbed.
const UNQUIET: f64 = 0.2;

/// Where the ranks of a forecast are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// On as many hosts of this kind as give each rank what the first had
    Enough,
    /// On the hosts at hand, where ranks beyond the cores take turns
    Here,
}

#[derive(Clone, Copy, Debug, Serialize)]
pub struct Forecast {
    pub ranks: usize,
    pub hosts: usize,
    pub samples_per_s: f64,
    /// Of a rank beside one of the first number of ranks.
    pub efficiency: f64,
    pub compute_s: f64,
    pub jitter_s: f64,
    pub sums_s: f64,
}

#[derive(Debug, Serialize)]
pub struct Model {
    first: usize,
    /// Seconds of a step on one rank that waits for none: a part that is always there, and one a window.
    pub fixed_s: f64,
    pub per_window_s: f64,
    /// Of the fewer windows.
    pub least_per_window_s: f64,
    /// Ranks that a host takes without sharing a core or GPU, and all hosts at hand.
    pub per_host: usize,
    pub here: usize,
    pub bytes: f64,
    pub inside: Wire,
    pub between: Wire,
    /// Time of equal work beside so many ranks, as a multiple of that beside the first number.
    pub sharing: Vec<(usize, f64)>,
    /// Standard deviations as shares of the mean: of pieces of so many seconds on a rank, and of ranks.
    pub piece_s: f64,
    pub varies: f64,
    pub ranks_vary: f64,
    /// Sums of a few bytes in a step, weak and strong.
    pub small_sums: [usize; 2],
    /// What a reader of the prediction should know.
    pub notes: Vec<String>,
}

impl Model {
    pub fn fit(study: &Study, machine: &[Measured], timed: &[(Job, Vec<Timed>)]) -> Result<Self> {
        let (first, mut notes) = (study.args.ranks[0], Vec::new());
        let seen: Vec<(usize, &Measured)> = study.args.ranks.iter().copied().zip(machine).collect();
        let alone: Vec<_> = seen.iter().copied().filter(|(_, of)| !of.crowded).collect();
        let (widest, broad) = *alone.last().unwrap_or(&seen[0]);

        let (per_host, hosts) = capacity(study, widest, broad);
        let sums = Sums::of(&alone, &seen, &mut notes)?;
        let between = study.args.wire.or(sums.between).unwrap_or_else(|| {
            notes.push("the network between hosts was not measured: taken as fast as inside this one (--wire)".into());
            sums.inside
        });
        if broad.gpus && study.settings.transport != Some(TransportChoice::Mpi) {
            notes.push("doctor times MPI's sum; NCCL's between GPUs is faster".into());
        }
        let products = products(seen[0].1)?;
        let base = Spread::of(&products).mean;
        let sharing = alone
            .iter()
            .map(|(ranks, of)| Ok((*ranks, Spread::of(&self::products(of)?).mean / base)))
            .collect::<Result<Vec<_>>>()?;
        let paces = || broad.paces.iter().flatten();
        let mean = |of: fn(&crate::doctor::pace::Pace) -> f64| {
            Spread::of(&paces().map(of).collect::<Vec<_>>()).mean
        };
        let ranks = Spread::of(&self::products(broad)?);
        let [weak, strong] = [Mode::Weak, Mode::Strong].map(|mode| study.statistics(mode));
        let mut model = Self {
            first,
            fixed_s: 0.0,
            per_window_s: 0.0,
            least_per_window_s: 0.0,
            per_host,
            here: per_host * hosts,
            bytes: sums.bytes,
            inside: sums.inside,
            between,
            sharing,
            piece_s: mean(|pace| pace.piece),
            varies: mean(|pace| pace.varies),
            ranks_vary: ranks.sd.unwrap_or(0.0) / ranks.mean,
            small_sums: [1 + weak?, 1 + strong?],
            notes,
        };
        if model.varies > UNQUIET {
            model.notes.push(format!(
                "equal work varied by {:.0} %: other work ran here, and neither times nor prediction say much",
                100.0 * model.varies
            ));
        }
        model.calibrate(timed);
        Ok(model)
    }

    /// From the steps on the first number of ranks, less what they waited there: the prediction begins where they were
    /// measured.
    fn calibrate(&mut self, timed: &[(Job, Vec<Timed>)]) {
        let of_first = timed.iter().filter(|(job, _)| job.ranks == self.first);
        let mut sizes: Vec<(f64, f64)> = of_first
            .map(|(job, runs)| {
                let speeds: Vec<f64> = runs[1..].iter().map(|run| run.samples_per_s).collect();
                let step = job.global_batch as f64 / Spread::of(&speeds).mean;
                let step = step - self.sums(job.mode, self.first);
                let jitter = self.jitter(job.mode, self.first, step) / step;
                (job.windows as f64, step / (1.0 + jitter))
            })
            .collect();
        sizes.sort_by(|a, b| a.0.total_cmp(&b.0));
        let ((few, short), (many, long)) = (sizes[0], sizes[sizes.len() - 1]);
        self.per_window_s = match many > few {
            true => (long - short) / (many - few),
            false => long / many,
        };
        self.fixed_s = long - self.per_window_s * many;
        self.least_per_window_s = short / few;
    }

    /// A line through both sizes. Where it would cost less than nothing without windows (many overflow the caches), a
    /// window below the fewer costs what it does there.
    fn compute(&self, windows: usize) -> f64 {
        let line = self.fixed_s + self.per_window_s * windows as f64;
        match self.fixed_s < 0.0 {
            true => line.max(self.least_per_window_s * windows as f64),
            false => line,
        }
    }

    pub fn forecast(&self, job: &Job, place: Place) -> Forecast {
        let one = |job: &Job, place| {
            let [compute, jitter, sums] = self.step(job, place);
            let samples_per_s = job.global_batch as f64 / (compute + jitter + sums);
            (samples_per_s, [compute, jitter, sums])
        };
        let (samples_per_s, [compute_s, jitter_s, sums_s]) = one(job, place);
        let (of_first, _) = one(&job.on(self.first), Place::Enough);
        let times = job.ranks as f64 / self.first as f64;
        Forecast {
            ranks: job.ranks,
            hosts: job.ranks.div_ceil(self.per_host),
            samples_per_s,
            efficiency: samples_per_s / (of_first * times),
            compute_s,
            jitter_s,
            sums_s,
        }
    }

    /// Seconds of computing, of waiting for the slowest, of sums.
    fn step(&self, job: &Job, place: Place) -> [f64; 3] {
        let (mode, ranks) = (job.mode, job.ranks);
        let sharing = self.sharing.iter().rev().find(|of| of.0 <= ranks);
        let turns = match place {
            Place::Enough => 1.0,
            Place::Here => (ranks as f64 / self.here as f64).max(1.0),
        };
        let compute = self.compute(job.windows) * sharing.map_or(1.0, |of| of.1) * turns;
        // Ranks that take turns even each other out.
        let jitter = match turns > 1.0 {
            true => 0.0,
            false => self.jitter(mode, ranks, compute),
        };
        [compute, jitter, self.sums(mode, ranks)]
    }

    fn sums(&self, mode: Mode, ranks: usize) -> f64 {
        let inside = ranks.min(self.per_host);
        let hosts = ranks.div_ceil(self.per_host);
        let small = self.inside.small(inside) + self.between.small(hosts);
        self.inside.gradient(inside, self.bytes)
            + self.between.gradient(hosts, self.bytes)
            + self.small_sums[mode as usize] as f64 * small
    }

    /// Seconds that the slowest of the ranks is late in a step. What varies from piece to piece evens out over a longer
    /// step, but ranks meet at every sum; shorter than a piece nothing is known. What makes a rank slower than others
    /// stays.
    fn jitter(&self, mode: Mode, ranks: usize, compute: f64) -> f64 {
        let between_sums = compute / self.small_sums[mode as usize] as f64;
        let evened = self.varies.powi(2) * (self.piece_s / between_sums).min(1.0);
        compute * (evened + self.ranks_vary.powi(2)).sqrt() * largest_of(ranks)
    }
}

/// Ranks that a host takes, and the hosts at hand.
fn capacity(study: &Study, ranks: usize, machine: &Measured) -> (usize, usize) {
    let hosts = machine.num_hosts();
    let on_cpu = study.settings.device == Some(DeviceChoice::Cpu) || !machine.gpus;
    if !on_cpu {
        return (ranks.div_ceil(hosts), hosts);
    }
    // Ranks that are bound see their own cores only; this process sees all that it was given on the first host.
    let own = thread::available_parallelism().map_or(1, |cores| cores.get());
    let cores = own.max(machine.cores as usize);
    let threads = study.settings.threads.unwrap_or(1);
    ((cores / threads).max(1), hosts)
}

fn products(machine: &Measured) -> Result<Vec<f64>> {
    let paces = machine.paces.iter();
    let all: Vec<f64> = paces.flatten().map(|pace| pace.product).collect();
    let some = !all.is_empty();
    some.then_some(all)
        .context("doctor timed no work on any rank")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn model() -> Model {
        Model {
            first: 1,
            fixed_s: 0.01,
            per_window_s: 0.01,
            least_per_window_s: 0.01,
            per_host: 4,
            here: 4,
            bytes: 2e6,
            inside: Wire {
                latency: 1e-6,
                bandwidth: 8e9,
            },
            between: Wire {
                latency: 4e-6,
                bandwidth: 2e9,
            },
            sharing: vec![(1, 1.0), (4, 1.1)],
            piece_s: 0.01,
            varies: 0.02,
            ranks_vary: 0.0,
            small_sums: [1, 41],
            notes: Vec::new(),
        }
    }

    #[test]
    fn sums_over_hosts_pay_both_networks() {
        let model = model();
        let close = |a: f64, b: f64| assert!((a / b - 1.0).abs() < 1e-12, "{a} {b}");
        assert_eq!(model.sums(Mode::Weak, 1), 0.0);
        close(
            model.sums(Mode::Weak, 4),
            3.0 * 2.0 * 1e-6 + 1.5 * 2e6 / 8e9,
        );
        let between = 3.0 * 4e-6 + 1.0 * 2e6 / 2e9;
        close(
            model.sums(Mode::Weak, 8),
            model.sums(Mode::Weak, 4) + between,
        );
        let statistics = 40.0 * (2.0 * 1e-6 + 4e-6);
        close(
            model.sums(Mode::Strong, 8),
            model.sums(Mode::Weak, 8) + statistics,
        );
    }

    #[test]
    fn ranks_beyond_the_cores_take_turns() {
        let model = model();
        let one = Job {
            mode: Mode::Weak,
            ranks: 1,
            windows: 8,
            global_batch: 8,
        };
        let of = |ranks, place| model.forecast(&one.on(ranks), place);
        let (enough, here) = (of(8, Place::Enough), of(8, Place::Here));
        assert_eq!((enough.hosts, here.jitter_s), (2, 0.0));
        assert!((here.compute_s / enough.compute_s - 2.0).abs() < 1e-12);
        // 0.09 s beside three others, which slow each other by a tenth.
        assert!((enough.compute_s - 0.099).abs() < 1e-12, "{enough:?}");
        assert_eq!(of(1, Place::Enough).efficiency, 1.0);
        assert!(enough.efficiency < 0.09 / 0.099, "{enough:?}");
    }

    #[test]
    fn what_varies_in_a_piece_evens_out_in_a_step() {
        let mut model = model();
        let cv = |model: &Model, compute| model.jitter(Mode::Weak, 2, compute) / compute;
        assert!((cv(&model, 0.01) / cv(&model, 0.04) - 2.0).abs() < 1e-12);
        (model.varies, model.ranks_vary) = (0.0, 0.1);
        assert_eq!(cv(&model, 0.01), cv(&model, 0.04));
    }

    #[test]
    fn two_sizes_tell_what_a_window_costs() {
        let run = |samples_per_s| Timed {
            samples_per_s,
            step_s: 0.0,
            phases: None,
        };
        let job = |mode, windows| Job {
            mode,
            ranks: 1,
            windows,
            global_batch: windows,
        };
        // The first is traced and says nothing; the others' mean counts.
        let runs = |speed: f64| vec![run(9e9), run(0.9 * speed), run(1.1 * speed)];
        let mut model = model();
        let near = |a: f64, b: f64| assert!((a - b).abs() < 1e-12, "{a} {b}");
        let mut timed = [
            (job(Mode::Weak, 8), runs(8.0 / 0.5)),
            (job(Mode::Strong, 32), runs(32.0 / 1.7)),
        ];
        model.calibrate(&timed);
        near(model.compute(8), 0.5);
        near(model.compute(16), 0.9);
        near(model.compute(1), 0.15);
        // Many windows cost more than in proportion, fewer do not cost less than nothing.
        timed[1].1 = runs(32.0 / 4.0);
        model.calibrate(&timed);
        near(model.compute(32), 4.0);
        near(model.compute(8), 0.5);
        near(model.compute(1), 0.0625);
        model.calibrate(&timed[..1]);
        near(model.compute(16), 1.0);
    }
}
