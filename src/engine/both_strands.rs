//! A model that is asked about both strands, as DeepSEA and DanQ are tested: the probability of a place is the mean of
//! those of the window and of its reverse complement.

use anyhow::{Result, bail};
use tch::Tensor;

use super::{Engine, Net};
use crate::{
    compute::Compute,
    data::Rows,
    flat::FlatTensors,
    model::{Io, SumOverRanks},
    timeline::Timeline,
};

struct BothStrands {
    engine: Box<dyn Engine>,
    io: Io,
    /// The other strand has a 0 where this one has a 1, as of a hidden base that is a purine.
    mirrored: bool,
}

impl Net {
    /// For labels of 0 and 1; `mirrored` where a label is 1 less itself on the other strand.
    pub fn on_both_strands(self, io: Io, mirrored: bool) -> Self {
        assert_eq!(
            io.classes, 1,
            "a class has another name on the other strand"
        );
        let engine = self.engine;
        Self {
            engine: Box::new(BothStrands {
                engine,
                io,
                mirrored,
            }),
            ..self
        }
    }
}

impl Engine for BothStrands {
    fn gradients(
        &mut self,
        rows: &Rows,
        timeline: &mut Timeline,
        sum: SumOverRanks,
    ) -> Result<(f64, f64)> {
        self.engine.gradients(rows, timeline, sum)
    }

    fn compute_as(&mut self, compute: &Compute, flat: &FlatTensors) -> Result<()> {
        self.engine.compute_as(compute, flat)
    }

    fn input_gradient(&self, _: &Tensor, _: &dyn Fn(&Tensor) -> Tensor) -> Result<Tensor> {
        bail!("--both-strands: relevance is of one strand")
    }

    fn logits(&mut self, rows: &Rows) -> Result<Vec<f32>> {
        let mut logits = self.engine.logits(rows)?;
        let mut turned = rows.reverse_complement(self.io);
        if self.mirrored {
            // What is counted is scored without its own label.
            let known = turned.label.iter_mut().filter(|label| **label >= 0);
            known.for_each(|label| *label = 1 - *label);
        }
        let mut others = self.engine.logits(&turned)?;
        if self.mirrored {
            others.iter_mut().for_each(|logit| *logit = -*logit);
        }
        let places = if self.io.per_base { self.io.length } else { 1 } as usize;
        let both = logits.chunks_mut(places).zip(others.chunks(places));
        for (own, other) in both.flat_map(|(own, other)| own.iter_mut().zip(other.iter().rev())) {
            *own = logit_of_mean(f64::from(*own), f64::from(*other)) as f32;
        }
        Ok(logits)
    }
}

/// Of the mean of two probabilities, each given as a logit.
fn logit_of_mean(a: f64, b: f64) -> f64 {
    // ln of the sum of two sigmoids; far below zero a sigmoid is its exponential.
    let sum = |a: f64, b: f64| {
        let ln = |z: f64| z.min(0.0) - (-z.abs()).exp().ln_1p();
        let (low, high) = (ln(a).min(ln(b)), ln(a).max(ln(b)));
        high + (low - high).exp().ln_1p()
    };
    sum(a, b) - sum(-a, -b)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tch::{Device, Kind};
    use tfbind_prep::schema::{Central, ContextWriter, Stretch, Task};

    use super::*;
    use crate::{
        comm::Solo,
        data::{Draw, Windows},
        engine::{Build, EngineChoice},
        model::{Arch, Options},
        sampler::SplitMix,
        scaling::random_header,
    };

    const FLANK: usize = 5;

    /// Windows around the bases of a random sequence in which a purine mostly follows a purine.
    fn windows(folder: &std::path::Path, central: Central) -> Arc<Windows> {
        let task = Task::Central(central);
        let header = tfbind_prep::schema::Header {
            task,
            length: 2 * FLANK + 1,
            tracks: Vec::new(),
            targets: vec![task.to_string()],
            groups: vec![String::new()],
            ..random_header(2 * FLANK + 1)
        };
        let path = folder.join(format!("{task}.h5"));
        let mut writer = ContextWriter::create(&path, &header).unwrap();
        let stretch = Stretch {
            contig: 0,
            start: 0,
            bases: 400,
        };
        writer.add_split("train", vec![stretch], None).unwrap();
        let mut random = SplitMix::keyed(&[5]);
        let mut codes = vec![0u8];
        while codes.len() < 400 {
            let last = codes[codes.len() - 1];
            codes.push(match random.below(3) {
                0 => random.below(4) as u8,
                _ => (last + 2) % 4,
            });
        }
        writer.append("train", &codes).unwrap();
        writer.finish().unwrap();
        Arc::new(Windows::open(&path, "train").unwrap())
    }

    /// What counted both strands says the same of a window and of its reverse complement, each in its own words.
    #[test]
    fn a_label_that_is_mirrored_is_mirrored_back() {
        let folder = tempfile::tempdir().unwrap();
        for central in [Central::Purine, Central::BasePair] {
            let windows = windows(folder.path(), central);
            let (io, mirror) = (windows.io(), windows.header.task.mirror());
            let draws: Vec<Draw> = (0..windows.num_rows() as u32).map(Draw::from).collect();
            let rows = windows.read(&draws).unwrap();
            let net = Build {
                arch: Arch::Kmer,
                options: Options {
                    mirror,
                    ..Options::default()
                },
                io,
                device: Device::Cpu,
                engine: EngineChoice::Auto,
                kind: Kind::Float,
                seed: 1,
                prior: None,
            };
            let mut net = net.net().unwrap();
            let mut timeline = Timeline::new(&Solo, Device::Cpu, false);
            net.engine.gradients(&rows, &mut timeline, &|_| {}).unwrap();
            let counter = net.engine.counter_mut().unwrap();
            let own = counter.take_own();
            counter.add(own);
            net.engine.leave_one_out();
            let plain = net.engine.logits(&rows).unwrap();
            let mut both = net.on_both_strands(io, mirror.is_some());
            let mean = both.engine.logits(&rows).unwrap();
            let sure = plain.iter().filter(|logit| logit.abs() > 0.5).count();
            assert!(sure > plain.len() / 2, "{central:?}: {plain:?}");
            for (one, mean) in plain.iter().zip(mean) {
                assert!((one - mean).abs() < 1e-5, "{central:?}: {one} {mean}");
            }
        }
    }

    #[test]
    fn the_mean_is_of_probabilities_and_holds_far_out() {
        let sigmoid = |z: f64| 1.0 / (1.0 + (-z).exp());
        for (a, b) in [(0.3, -2.0), (4.0, 4.0), (-9.0, 1.0)] {
            let mean: f64 = (sigmoid(a) + sigmoid(b)) / 2.0;
            assert!((logit_of_mean(a, b) - (mean / (1.0 - mean)).ln()).abs() < 1e-9);
        }
        assert!((logit_of_mean(-2000.0, -2000.0) + 2000.0).abs() < 1e-9);
        // One strand is certain, the other certain of the opposite.
        assert!(logit_of_mean(2000.0, -2000.0).abs() < 1e-9);
    }
}
