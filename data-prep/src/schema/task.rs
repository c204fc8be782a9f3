//! What a label is of.

use std::fmt;
use std::str::FromStr;

use super::VERSION;

/// What a label is of: every base of a window, the window, or the window's central base, which the window hides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Task {
    PerBase,
    PerWindow,
    Central(Central),
}

/// What is asked about a hidden base.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Central {
    /// Which one it is: A C G T = 0..=3
    Base,
    /// Whether its pair is C-G (1) or A-T (0)
    BasePair,
    /// Whether it is A or G (1), or C or T (0)
    Purine,
}

impl Central {
    pub fn classes(self) -> usize {
        match self {
            Self::Base => 4,
            Self::BasePair | Self::Purine => 1,
        }
    }

    /// What its classes are called; of two, what label 1 is.
    pub fn class_names(self) -> &'static [&'static str] {
        match self {
            Self::Base => &["A", "C", "G", "T"],
            Self::BasePair => &["C-G"],
            Self::Purine => &["A or G"],
        }
    }

    /// Of a base 0..=3.
    pub fn label(self, base: u8) -> i8 {
        match self {
            Self::Base => base as i8,
            Self::BasePair => i8::from(matches!(base, 1 | 2)),
            Self::Purine => i8::from(matches!(base, 0 | 2)),
        }
    }

    fn mirror(self) -> Option<i8> {
        match self {
            Self::Base => Some(3),
            Self::BasePair => None,
            Self::Purine => Some(1),
        }
    }
}

impl Task {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::PerBase => "per-base",
            Self::PerWindow => "per-window",
            Self::Central(Central::Base) => "base",
            Self::Central(Central::BasePair) => "base-pair",
            Self::Central(Central::Purine) => "purine",
        }
    }

    /// Labels per window and target, for windows of `length` bases.
    pub fn label_len(self, length: usize) -> usize {
        match self {
            Self::PerBase => length,
            Self::PerWindow | Self::Central(_) => 1,
        }
    }

    /// 1 where a label is 0 or 1, else how many values it has.
    pub fn classes(self) -> usize {
        match self {
            Self::PerBase | Self::PerWindow => 1,
            Self::Central(central) => central.classes(),
        }
    }

    /// On the other strand a label is this less what it is here; none where it is the same.
    pub fn mirror(self) -> Option<i8> {
        match self {
            Self::PerBase | Self::PerWindow => None,
            Self::Central(central) => central.mirror(),
        }
    }

    /// The version of a file's schema that first knew the task.
    pub(super) fn version(self) -> u32 {
        match self {
            Self::PerBase | Self::PerWindow => 1,
            Self::Central(_) => VERSION,
        }
    }
}

impl fmt::Display for Task {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Task {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let all = [
            Self::PerBase,
            Self::PerWindow,
            Self::Central(Central::Base),
            Self::Central(Central::BasePair),
            Self::Central(Central::Purine),
        ];
        let found = all.into_iter().find(|task| task.as_str() == text);
        found.ok_or_else(|| {
            let words = all.map(Self::as_str).join(", ");
            format!("`{text}` is not a task: one of {words}")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_other_strand_has_the_label_of_the_complement() {
        for central in [Central::Base, Central::BasePair, Central::Purine] {
            for base in 0..4 {
                let (here, there) = (central.label(base), central.label(3 - base));
                assert_eq!(central.mirror().map_or(here, |top| top - here), there);
            }
        }
        let of = |central: Central| [0, 1, 2, 3].map(|base| central.label(base));
        assert_eq!(of(Central::Base), [0, 1, 2, 3]);
        assert_eq!(of(Central::BasePair), [0, 1, 1, 0]);
        assert_eq!(of(Central::Purine), [1, 0, 1, 0]);
    }
}
