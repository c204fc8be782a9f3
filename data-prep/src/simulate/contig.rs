//! One simulated contig: its letters, its sites and its signal.

use bigtools::Value;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, Normal, Poisson};

use super::SimulateOptions;
use crate::motif::{Motif, reverse_complement};

const GC: f64 = 0.42;
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

pub struct Site {
    pub start: u64,
    pub forward: bool,
    /// As read along the strand of the motif.
    pub sequence: Vec<u8>,
    pub open: bool,
    /// Where the protein is seen, if it binds.
    pub peak: Option<Peak>,
}

struct OpenRegion {
    centre: u64,
    width: u64,
    height: f64,
    empty: bool,
}

pub struct SimulatedContig {
    pub letters: Vec<u8>,
    pub sites: Vec<Site>,
    regions: Vec<OpenRegion>,
    unknown: u64,
    signal_rng: ChaCha8Rng,
}

impl SimulatedContig {
    /// The contig of this index; the same whenever it is asked for.
    pub fn new(options: &SimulateOptions, motif: &Motif, index: usize) -> Self {
        let stream = |number: usize| {
            let mut rng = ChaCha8Rng::seed_from_u64(options.seed);
            rng.set_stream(number as u64);
            rng
        };
        let (mut rng, signal_rng) = (stream(2 * index), stream(2 * index + 1));
        let length = options.contig_length;
        let mut contig = Self {
            letters: (0..length).map(|_| base(&mut rng)).collect(),
            sites: Vec::new(),
            regions: Vec::new(),
            unknown: length / 40,
            signal_rng,
        };
        contig.plant(options.site_spacing, motif, &mut rng);
        contig.soften(&mut rng);
        contig.letters[..contig.unknown as usize].fill(b'N');
        contig
    }

    /// Slots come in pairs, one with an open site, one with a closed one and an empty open region.
    fn plant(&mut self, spacing: u64, motif: &Motif, rng: &mut ChaCha8Rng) {
        let first = self.unknown.next_multiple_of(spacing);
        let slots = (self.letters.len() as u64 - first) / spacing;
        let mut open = false;
        for slot in 0..slots / 2 * 2 {
            open = if slot % 2 == 0 {
                rng.random_bool(0.5)
            } else {
                !open
            };
            let slot = first + slot * spacing;
            // Far enough apart for open regions never to touch.
            let centre = slot + rng.random_range(spacing / 5..spacing * 7 / 20);
            self.plant_site(centre, open, motif, rng);
            if open {
                self.open_region(centre, false, rng);
            } else {
                let centre = slot + rng.random_range(spacing * 13 / 20..spacing * 4 / 5);
                self.open_region(centre, true, rng);
            }
        }
    }

    fn plant_site(&mut self, centre: u64, open: bool, motif: &Motif, rng: &mut ChaCha8Rng) {
        let sequence = motif.sample(rng);
        let forward = rng.random_bool(0.5);
        let start = centre - motif.len() as u64 / 2;
        let letters = if forward {
            sequence.clone()
        } else {
            reverse_complement(&sequence)
        };
        self.letters[start as usize..][..letters.len()].copy_from_slice(&letters);
        let bound = rng.random_bool(if open { BOUND_IF_OPEN } else { BOUND_IF_CLOSED });
        let peak = bound.then(|| peak(centre, rng));
        self.sites.push(Site {
            start,
            forward,
            sequence,
            open,
            peak,
        });
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

    /// Lower-case stretches, as repeats are shown.
    fn soften(&mut self, rng: &mut ChaCha8Rng) {
        let mut at = 0;
        while at < self.letters.len() {
            at += rng.random_range(200..1800);
            let end = (at + rng.random_range(150..900)).min(self.letters.len());
            if at < end {
                self.letters[at..end].make_ascii_lowercase();
            }
            at = end;
        }
    }

    pub fn empty_regions(&self) -> u64 {
        self.regions.iter().filter(|region| region.empty).count() as u64
    }

    /// Counts of cuts in runs of equal values; none where the sequence is N.
    pub fn signal(mut self) -> Vec<Value> {
        let mut runs: Vec<Value> = Vec::new();
        let mut next_region = 0;
        let mut start = self.unknown;
        while start < self.letters.len() as u64 {
            let end = (start + BIN).min(self.letters.len() as u64);
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

fn base(rng: &mut ChaCha8Rng) -> u8 {
    let pair = if rng.random_bool(GC) { b"GC" } else { b"AT" };
    pair[usize::from(rng.random_bool(0.5))]
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
