//! What a cell type makes of a contig: which sites are open, which are bound, and its signal.

use bigtools::Value;
use rand::Rng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, Normal, Poisson};

use super::contig::{Plan, Site};

/// Mean cuts per base in closed chromatin.
const BACKGROUND: f64 = 0.4;
/// The signal is constant over bins of so many bases, as cut counts smoothed by reads are.
const BIN: u64 = 5;
const BOUND_IF_OPEN: f64 = 0.95;
const BOUND_IF_CLOSED: f64 = 0.02;

pub struct Peak {
    pub start: u64,
    pub end: u64,
    pub summit: u64,
    pub value: f64,
    pub score: u32,
}

struct OpenRegion {
    centre: u64,
    width: u64,
    height: f64,
    empty: bool,
}

/// A cell type: which sites are open and which bound, by their number.
pub struct Cell {
    pub open: Vec<bool>,
    /// Where the protein is seen, if it binds.
    pub peaks: Vec<Option<Peak>>,
    regions: Vec<OpenRegion>,
    signal_rng: ChaCha8Rng,
}

impl Cell {
    pub fn new(signal_rng: ChaCha8Rng) -> Self {
        Self {
            open: Vec::new(),
            peaks: Vec::new(),
            regions: Vec::new(),
            signal_rng,
        }
    }

    /// Sites come in pairs, one open, the other closed.
    pub fn next_open(&self, rng: &mut ChaCha8Rng) -> bool {
        match self.open[..] {
            [.., last] if self.open.len() % 2 == 1 => !last,
            _ => rng.random_bool(0.5),
        }
    }

    /// A closed site has an open region without a site beside it.
    pub fn add(&mut self, site: &Site, open: bool, plan: &Plan, rng: &mut ChaCha8Rng) {
        let bound = rng.random_bool(match open {
            true if plan.cofactor.is_some() && site.cofactor.is_none() => plan.bound_without,
            true => BOUND_IF_OPEN,
            false => BOUND_IF_CLOSED,
        });
        self.open.push(open);
        self.peaks.push(bound.then(|| peak(site.centre, rng)));
        let centre = if open {
            site.centre
        } else {
            site.slot + rng.random_range(plan.spacing * 13 / 20..plan.spacing * 4 / 5)
        };
        self.open_region(centre, !open, rng);
    }

    fn open_region(&mut self, centre: u64, empty: bool, rng: &mut ChaCha8Rng) {
        // A site does not sit exactly in the middle of the chromatin that it opens.
        let centre = centre.saturating_add_signed(rng.random_range(-40..=40));
        let width = rng.random_range(300..=800);
        let height = 5.0 * 8f64.powf(rng.random());
        self.regions.push(OpenRegion {
            centre,
            width,
            height,
            empty,
        });
    }

    pub fn empty_regions(&self) -> u64 {
        self.regions.iter().filter(|region| region.empty).count() as u64
    }

    /// Counts of cuts in runs of equal values, from `unknown` on.
    pub fn signal(mut self, unknown: u64, length: u64) -> Vec<Value> {
        let mut runs: Vec<Value> = Vec::new();
        let mut next_region = 0;
        let mut start = unknown;
        while start < length {
            let end = (start + BIN).min(length);
            while self
                .regions
                .get(next_region)
                .is_some_and(|region| region.centre + region.width < start)
            {
                next_region += 1;
            }
            let near = self.regions[next_region..].iter().take(2);
            let rate = BACKGROUND + near.map(|region| region.rate(start)).sum::<f64>();
            let poisson = Poisson::new(rate).expect("a positive rate");
            let value = poisson.sample(&mut self.signal_rng) as f32;
            match runs.last_mut() {
                Some(run) if run.value == value => run.end = end as u32,
                _ => runs.push(Value {
                    start: start as u32,
                    end: end as u32,
                    value,
                }),
            }
            start = end;
        }
        runs
    }
}

impl OpenRegion {
    /// A bell that has faded to a tenth at half the width.
    fn rate(&self, at: u64) -> f64 {
        let offset = (at as f64 - self.centre as f64) / (self.width as f64 / 2.0);
        self.height * (-10f64.ln() * offset * offset).exp()
    }
}

/// About 200 bases around a summit that misses the motif's middle by a few.
fn peak(centre: u64, rng: &mut ChaCha8Rng) -> Peak {
    let mut around = |mean: f64, deviation: f64| {
        let normal = Normal::new(mean, deviation).expect("a finite deviation");
        normal.sample(rng).round()
    };
    let summit = centre.saturating_add_signed(around(0.0, 3.0) as i64);
    let left = around(100.0, 15.0).clamp(40.0, 160.0) as u64;
    let right = around(100.0, 15.0).clamp(40.0, 160.0) as u64;
    let value = around(400.0, 120.0).clamp(50.0, 1000.0) / 10.0;
    let score = (value * 10.0) as u32;
    Peak {
        start: summit - left,
        end: summit + right,
        summit,
        value,
        score,
    }
}
