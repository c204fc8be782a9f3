//! Kinds of kill: when the signal is sent, and to whom.

use std::{fmt, time::Duration};

use tfbind_mpi::sampler::SplitMix;

/// When the signal is sent.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Moment {
    StartUp,
    Step,
    Evaluation,
    Writing,
}

/// Who gets it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Victims {
    Rank(usize),
    Ranks,
    Everyone,
}

pub struct Kill {
    pub moment: Moment,
    pub victims: Victims,
    /// A checkpoint was being written: its partial file stayed.
    pub cut_a_checkpoint: bool,
    pub took: Duration,
    pub hung: bool,
}

impl Moment {
    pub fn draw(random: &mut SplitMix) -> Self {
        match random.below(12) {
            0..4 => Moment::Writing,
            4..6 => Moment::StartUp,
            6..8 => Moment::Evaluation,
            _ => Moment::Step,
        }
    }
}

impl fmt::Display for Moment {
    fn fmt(&self, out: &mut fmt::Formatter) -> fmt::Result {
        out.write_str(match self {
            Moment::StartUp => "start-up",
            Moment::Step => "step",
            Moment::Evaluation => "evaluation",
            Moment::Writing => "writing",
        })
    }
}

impl Victims {
    /// A checkpoint is written by rank 0.
    pub fn draw(random: &mut SplitMix, ranks: usize, moment: Moment) -> Self {
        let mut one_in = |n: u64| random.below(n) == 0;
        match (ranks, moment) {
            (1, _) | (_, Moment::Writing) if one_in(2) => Victims::Rank(0),
            (1, _) | (_, Moment::Writing) => Victims::Everyone,
            _ if one_in(2) => Victims::Rank(random.below(ranks as u64) as usize),
            _ if one_in(2) => Victims::Ranks,
            _ => Victims::Everyone,
        }
    }

    /// None is the rank of mpirun.
    pub fn include(self, rank: Option<usize>) -> bool {
        match self {
            Victims::Rank(victim) => rank == Some(victim),
            Victims::Ranks => rank.is_some(),
            Victims::Everyone => true,
        }
    }

    /// The row of the table; the whole job is the ranks and mpirun, or the process and its daemon.
    pub fn kind(self) -> &'static str {
        match self {
            Victims::Rank(_) => "one rank",
            Victims::Ranks => "all ranks",
            Victims::Everyone => "whole job",
        }
    }
}

impl fmt::Display for Kill {
    fn fmt(&self, out: &mut fmt::Formatter) -> fmt::Result {
        match self.victims {
            Victims::Rank(rank) => write!(out, "rank {rank}")?,
            victims => out.write_str(victims.kind())?,
        }
        let cut = if self.cut_a_checkpoint { "*" } else { "" };
        write!(out, " in {}{cut}", self.moment)
    }
}
