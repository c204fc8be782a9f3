//! One simulated contig: its letters and its sites.

use std::ops::RangeInclusive;

use bigtools::Value;
use rand::Rng;
use rand_chacha::ChaCha8Rng;

use super::cell::Cell;
use crate::motif::{Motif, reverse_complement};
use crate::simulate::{sequences::base, stream};

const GC: f64 = 0.42;
/// Bases between a site and the co-factor's.
const COFACTOR_GAP: RangeInclusive<u64> = 5..=30;

/// What holds for all contigs.
pub struct Plan {
    pub seed: u64,
    pub length: u64,
    pub spacing: u64,
    pub motif: Motif,
    pub cells: usize,
    pub cofactor: Option<Motif>,
    pub cofactor_share: f64,
    pub bound_without: f64,
}

pub struct Site {
    pub start: u64,
    pub forward: bool,
    /// As read along the strand of the motif.
    pub sequence: Vec<u8>,
    pub cofactor: Option<Cofactor>,
    pub centre: u64,
    /// Where the stretch that the site has to itself begins.
    pub slot: u64,
}

pub struct Cofactor {
    pub start: u64,
    pub forward: bool,
}

pub struct SimulatedContig {
    pub letters: Vec<u8>,
    pub sites: Vec<Site>,
    pub cells: Vec<Cell>,
    unknown: u64,
}

impl SimulatedContig {
    /// The contig of this index; the same whenever it is asked for.
    pub fn new(plan: &Plan, index: usize) -> Self {
        // The first cell type shares its numbers with the sequence; others and the co-factor have their own.
        let stream = |cell: usize, number: usize| {
            let high = (cell as u64) << 32;
            stream(plan.seed, high | (2 * index + number) as u64)
        };
        let (mut rng, mut cofactor_rng) = (stream(0, 0), stream(u32::MAX as usize, 0));
        let mut contig = Self {
            letters: (0..plan.length).map(|_| base(GC, &mut rng)).collect(),
            sites: Vec::new(),
            cells: Vec::new(),
            unknown: plan.length / 40,
        };
        let mut first = Cell::new(stream(0, 1));
        let start = contig.unknown.next_multiple_of(plan.spacing);
        let slots = (plan.length - start) / plan.spacing;
        for number in 0..slots / 2 * 2 {
            let open = first.next_open(&mut rng);
            let slot = start + number * plan.spacing;
            // Far enough apart for open regions never to touch.
            let centre = slot + rng.random_range(plan.spacing / 5..plan.spacing * 7 / 20);
            let mut site = contig.plant_site(slot, centre, &plan.motif, &mut rng);
            if let Some(motif) = &plan.cofactor
                && cofactor_rng.random_bool(plan.cofactor_share)
            {
                site.cofactor = Some(contig.plant_cofactor(&site, motif, &mut cofactor_rng));
            }
            first.add(&site, open, plan, &mut rng);
            contig.sites.push(site);
        }
        contig.soften(&mut rng);
        contig.letters[..contig.unknown as usize].fill(b'N');
        contig.cells.push(first);
        for number in 1..plan.cells {
            let (mut rng, mut cell) = (stream(number, 0), Cell::new(stream(number, 1)));
            for site in &contig.sites {
                let open = cell.next_open(&mut rng);
                cell.add(site, open, plan, &mut rng);
            }
            contig.cells.push(cell);
        }
        contig
    }

    fn plant_site(&mut self, slot: u64, centre: u64, motif: &Motif, rng: &mut ChaCha8Rng) -> Site {
        let sequence = motif.sample(rng);
        let forward = rng.random_bool(0.5);
        let start = centre - motif.len() as u64 / 2;
        self.write(start, &sequence, forward);
        Site {
            start,
            forward,
            sequence,
            cofactor: None,
            centre,
            slot,
        }
    }

    /// Left or right of the site, on either strand.
    fn plant_cofactor(&mut self, site: &Site, motif: &Motif, rng: &mut ChaCha8Rng) -> Cofactor {
        let sequence = motif.sample(rng);
        let forward = rng.random_bool(0.5);
        let gap = rng.random_range(COFACTOR_GAP);
        let start = if rng.random_bool(0.5) {
            site.start + site.sequence.len() as u64 + gap
        } else {
            site.start - gap - sequence.len() as u64
        };
        self.write(start, &sequence, forward);
        Cofactor { start, forward }
    }

    fn write(&mut self, start: u64, sequence: &[u8], forward: bool) {
        let letters = if forward {
            sequence.to_vec()
        } else {
            reverse_complement(sequence)
        };
        self.letters[start as usize..][..letters.len()].copy_from_slice(&letters);
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

    /// Counts of cuts in runs of equal values; none where the sequence is N.
    pub fn signal(mut self, cell: usize) -> Vec<Value> {
        let cell = self.cells.swap_remove(cell);
        cell.signal(self.unknown, self.letters.len() as u64)
    }
}
