//! Bases scored together, as peaks of a few hundred bases are judged.

use clap::ValueEnum;

/// When a bin of many bases counts as positive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum BinLabel {
    /// Any base of it is
    Any,
    /// At least half of its bases are
    Half,
}

/// What a bin's score is made of its bases'.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum BinScore {
    /// The highest, as maxATAC has it
    Max,
    /// The mean, which a site at the very edge of a neighbour does not raise
    Mean,
}

/// Bins of bases.
#[derive(Clone, Copy, Debug)]
pub struct Bins {
    pub size: usize,
    pub score: BinScore,
    pub label: BinLabel,
}

impl Bins {
    pub fn apply(&self, logits: &[f32], labels: &[i8]) -> (Vec<f32>, Vec<i8>) {
        let mut bins = (Vec::new(), Vec::new());
        for (logits, labels) in logits.chunks(self.size).zip(labels.chunks(self.size)) {
            let known = || logits.iter().zip(labels).filter(|(_, label)| **label >= 0);
            let (count, positives) = (
                known().count(),
                known().filter(|(_, label)| **label > 0).count(),
            );
            let needed = if self.label == BinLabel::Any {
                1
            } else {
                count.div_ceil(2)
            };
            bins.1.push(if count == 0 {
                -1
            } else {
                i8::from(positives >= needed)
            });
            bins.0.push(match self.score {
                _ if count == 0 => 0.0,
                BinScore::Max => known()
                    .map(|(logit, _)| *logit)
                    .fold(f32::NEG_INFINITY, f32::max),
                BinScore::Mean => known().map(|(logit, _)| logit).sum::<f32>() / count as f32,
            });
        }
        bins
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bins_take_the_highest_score_and_follow_their_rule() {
        let logits = [0.1, 0.9, -1.0, -2.0, 0.0, 0.5];
        let labels = [0, 1, 0, -1, -1, -1];
        let bins = |size, score, label| Bins { size, score, label }.apply(&logits, &labels);
        let any = bins(2, BinScore::Max, BinLabel::Any);
        assert_eq!(
            any,
            (vec![0.9, -1.0, 0.0], vec![1, 0, -1]),
            "masked bases do not count"
        );
        let half = bins(3, BinScore::Mean, BinLabel::Half);
        assert_eq!(half, (vec![0.0, 0.0], vec![0, -1]));
    }
}
