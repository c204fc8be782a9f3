use std::fmt;
use std::str::FromStr;

use rand::Rng;
use rand_distr::{Distribution, Normal};
use serde::{Serialize, Serializer};

/// Where in a sequence a motif may lie; all of it, not its start alone.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Position {
    Anywhere,
    /// Inside so many central bases.
    Centre(usize),
    /// Outside so many central bases, left or right with the same probability.
    Outside(usize),
    /// Its middle around the sequence's, with a standard deviation and an offset in bases.
    Normal(f64, f64),
}

impl Position {
    /// Whether a motif of `width` bases finds a place in `length`.
    pub fn check(self, length: usize, width: usize) -> Result<(), String> {
        let room = match self {
            Self::Anywhere => length,
            Self::Centre(bases) if bases > length => 0,
            Self::Centre(bases) => bases,
            Self::Outside(bases) => length.saturating_sub(bases) / 2,
            // Both ends of the range are left out: see `draw`.
            Self::Normal(..) => length.saturating_sub(2),
        };
        if width <= room {
            return Ok(());
        }
        Err(format!(
            "position {self}: no place for {width} bases in a sequence of {length}"
        ))
    }

    /// A start in `length` bases for `width` of them; none where the draw falls outside.
    pub fn draw(self, length: usize, width: usize, rng: &mut impl Rng) -> Option<usize> {
        let mut within = |room: usize| rng.random_range(0..=room - width);
        match self {
            Self::Anywhere => Some(within(length)),
            Self::Centre(bases) => Some(length / 2 - bases / 2 + within(bases)),
            Self::Outside(bases) => {
                // The left side is the longer one where one has to be.
                let left = (length - bases).div_ceil(2);
                Some(if rng.random_bool(0.5) {
                    rng.random_range(0..=left - width)
                } else {
                    let right = length - bases - left;
                    left + bases + rng.random_range(0..=right - width)
                })
            }
            Self::Normal(deviation, offset) => {
                let last = (length - width) as f64;
                let normal =
                    Normal::new(last / 2.0 + offset, deviation).expect("checked when read");
                let start = normal.sample(rng).trunc();
                (0.0 < start && start < last).then_some(start as usize)
            }
        }
    }
}

impl FromStr for Position {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!(
                "`{text}` is not a position: anywhere, centre:BASES, outside:BASES, \
                 normal:DEVIATION or normal:DEVIATION:OFFSET"
            )
        };
        let bases = |text: &str| text.parse().map_err(|_| wrong());
        let number = |text: &str| match text.parse::<f64>() {
            Ok(number) if number.is_finite() => Ok(number),
            _ => Err(wrong()),
        };
        match text.split(':').collect::<Vec<_>>()[..] {
            ["anywhere"] => Ok(Self::Anywhere),
            ["centre", text] => Ok(Self::Centre(bases(text)?)),
            ["outside", text] => Ok(Self::Outside(bases(text)?)),
            ["normal", ref rest @ ..] if (1..=2).contains(&rest.len()) => {
                let deviation = number(rest[0])?;
                let offset = rest.get(1).map_or(Ok(0.0), |text| number(text))?;
                match deviation > 0.0 {
                    true => Ok(Self::Normal(deviation, offset)),
                    false => Err(wrong()),
                }
            }
            _ => Err(wrong()),
        }
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Anywhere => write!(f, "anywhere"),
            Self::Centre(bases) => write!(f, "centre:{bases}"),
            Self::Outside(bases) => write!(f, "outside:{bases}"),
            Self::Normal(deviation, offset) => write!(f, "normal:{deviation}:{offset}"),
        }
    }
}

impl Serialize for Position {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    use super::*;

    /// Starts of 20,000 draws in 101 bases for 10 of them.
    fn draws(position: &str) -> Vec<usize> {
        let position: Position = position.parse().unwrap();
        let mut rng = ChaCha8Rng::seed_from_u64(3);
        let draws = (0..20_000).filter_map(|_| position.draw(101, 10, &mut rng));
        draws.collect()
    }

    /// Every start of `expected` comes up, none other does, and each about as often as the next.
    fn is_uniform_over(starts: &[usize], expected: impl Iterator<Item = usize>) {
        let expected: Vec<_> = expected.collect();
        let mut counts = [0usize; 101];
        starts.iter().for_each(|&start| counts[start] += 1);
        let inside: usize = expected.iter().map(|&start| counts[start]).sum();
        assert_eq!(inside, starts.len());
        let mean = starts.len() as f64 / expected.len() as f64;
        for start in expected {
            assert!(
                (counts[start] as f64 - mean).abs() < 5.0 * mean.sqrt(),
                "{start}"
            );
        }
    }

    #[test]
    fn uniform_positions_reach_both_ends_and_no_further() {
        is_uniform_over(&draws("anywhere"), 0..=91);
        // The centre starts at 101/2 - 31/2 = 35.
        is_uniform_over(&draws("centre:31"), 35..=56);
        // Left of 31 central bases are 35, right of them 35.
        is_uniform_over(&draws("outside:31"), (0..=25).chain(66..=91));
    }

    #[test]
    fn an_odd_rest_gives_the_left_side_one_base_more() {
        let position = Position::Outside(30);
        let mut rng = ChaCha8Rng::seed_from_u64(3);
        let starts: Vec<_> = (0..20_000)
            .filter_map(|_| position.draw(101, 30, &mut rng))
            .collect();
        assert_eq!(starts.iter().filter(|&&start| start < 50).max(), Some(&6));
        assert_eq!(starts.iter().filter(|&&start| start > 50).min(), Some(&66));
        assert_eq!(starts.iter().max(), Some(&71));
    }

    #[test]
    fn normal_positions_have_their_mean_and_deviation() {
        let starts = draws("normal:8:5");
        let mean = starts.iter().sum::<usize>() as f64 / starts.len() as f64;
        // Truncation takes half a base.
        assert!((mean - (45.5 + 5.0 - 0.5)).abs() < 0.3, "{mean}");
        let variance = starts
            .iter()
            .map(|&start| (start as f64 - mean).powi(2))
            .sum::<f64>();
        let deviation = (variance / starts.len() as f64).sqrt();
        assert!((deviation - 8.0).abs() < 0.3, "{deviation}");
        assert!(draws("normal:1:500").is_empty());
    }

    #[test]
    fn what_has_no_place_is_said() {
        assert!(Position::Centre(31).check(101, 31).is_ok());
        for (position, width) in [
            (Position::Anywhere, 102),
            (Position::Centre(31), 32),
            (Position::Centre(102), 10),
            (Position::Outside(31), 36),
        ] {
            let error = position.check(101, width).unwrap_err();
            assert!(error.contains(&width.to_string()), "{error}");
        }
        for text in [
            "center:3",
            "centre",
            "normal:0",
            "normal:1:2:3",
            "outside:-1",
        ] {
            assert!(text.parse::<Position>().is_err(), "{text}");
        }
        assert_eq!(
            "normal:30".parse::<Position>().unwrap().to_string(),
            "normal:30:0"
        );
    }
}
