//! The sum over ranks as training makes it, timed against what copying as many bytes takes here.

use std::time::{Duration, Instant};

use anyhow::Result;
use serde::{Deserialize, Serialize};

use super::{
    Line, bytes,
    cores::oversubscribed,
    duration, gather,
    node::{Node, by_host},
};
use crate::{
    comm::{Comm, decide},
    model::Arch,
};

/// Bytes whose time is bandwidth alone.
const LARGE: usize = 200_000_000;
/// Two buffers of the sum, and about as much inside the MPI library.
const BUFFERS: u64 = 4;
/// How long bytes are copied for the floor.
const COPYING: Duration = Duration::from_millis(60);
/// Times the floor, above which something is wrong (no shared memory, a slow network in place of the fast one).
const SLOW: f64 = 5.0;
/// Bytes/s between hosts, below which the network is an office's, not a cluster's.
const SLOW_WIRE: f64 = 1e9;

/// Of one rank: seconds of a sum, and bytes/s of a copy of the same size while all ranks copy.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Trial {
    pub bytes: usize,
    pub seconds: f64,
    copied: f64,
}

/// On rank 0 also what was measured, where there is more than one rank.
pub(super) fn check(
    comm: &dyn Comm,
    nodes: &[Node],
    reduced: usize,
    arch: Arch,
) -> Result<(Vec<Line>, Option<Seen>)> {
    if comm.size() == 1 {
        let line = Line::ok("allreduce", "one rank: nothing to reduce");
        return Ok((vec![line], None));
    }
    let crowded = decide(comm, || oversubscribed(nodes));
    // Enough for all ranks of the scarcest host, with as much to spare.
    let roomy = decide(comm, || {
        by_host(nodes).iter().all(|(_, ranks)| {
            let needed = BUFFERS * LARGE as u64 * ranks.len() as u64;
            nodes[ranks[0]]
                .memory
                .is_some_and(|memory| memory > 2 * needed)
        })
    });
    let latency = trial(comm, 4);
    // A model that counts has no gradient.
    let gradient = trial(comm, reduced.max(4));
    let large = roomy.then(|| trial(comm, LARGE));
    let all: Vec<(Trial, Trial, Option<Trial>)> = gather(comm, &(latency, gradient, large))?;
    // The last rank to be done, and the slowest to copy.
    let worst = |trials: Vec<Trial>| {
        trials.into_iter().reduce(|a, b| Trial {
            bytes: a.bytes,
            seconds: a.seconds.max(b.seconds),
            copied: a.copied.min(b.copied),
        })
    };
    let (Some(latency), Some(gradient)) = (
        worst(all.iter().map(|of| of.0).collect()),
        worst(all.iter().map(|of| of.1).collect()),
    ) else {
        return Ok((Vec::new(), None));
    };
    let seen = Seen {
        ranks: comm.size(),
        hosts: by_host(nodes).len(),
        crowded,
        latency: latency.seconds,
        gradient,
        large: worst(all.iter().filter_map(|of| of.2).collect()),
    };
    Ok((seen.judge(arch.name()), Some(seen)))
}

/// The median of several sums, and the rate of copies of the same size.
fn trial(comm: &dyn Comm, bytes: usize) -> Trial {
    let own = vec![1f32; bytes.div_ceil(4)];
    let mut sums = vec![0f32; own.len()];
    comm.barrier();
    let (began, mut copies) = (Instant::now(), 0);
    while copies < 2 || began.elapsed() < COPYING {
        sums.copy_from_slice(std::hint::black_box(&own));
        copies += 1;
    }
    let copied = (copies * bytes) as f64 / began.elapsed().as_secs_f64();
    let once = |sums: &mut [f32]| {
        comm.barrier();
        let began = Instant::now();
        comm.sum_into(&own, sums);
        began.elapsed().as_secs_f64()
    };
    // The first sum makes connections and touches pages.
    once(&mut sums);
    let first = once(&mut sums);
    let repeats = match decide(comm, || first > 0.05) {
        true => 3,
        false => 21,
    };
    let mut seconds: Vec<f64> = (0..repeats).map(|_| once(&mut sums)).collect();
    seconds.sort_by(f64::total_cmp);
    Trial {
        bytes,
        seconds: seconds[repeats / 2],
        copied,
    }
}

/// Seconds of sums over the ranks, as the last rank to be done sees them.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Seen {
    ranks: usize,
    hosts: usize,
    crowded: bool,
    /// Of four bytes.
    pub latency: f64,
    pub gradient: Trial,
    large: Option<Trial>,
}

impl Seen {
    /// Seconds that moving a sum's bytes takes at the rate of a copy.
    fn floor(&self, trial: Trial) -> f64 {
        travelled(self.ranks) * trial.bytes as f64 / trial.copied
    }

    /// Bytes/s between hosts, as the large sum leaves them.
    fn wire(&self) -> Option<f64> {
        let large = self.large.filter(|_| self.hosts > 1)?;
        Some(travelled(self.hosts) * large.bytes as f64 / large.seconds)
    }

    fn judge(&self, arch: &str) -> Vec<Line> {
        let mut floor = self.latency + self.floor(self.gradient);
        if let Some(wire) = self.wire() {
            floor += travelled(self.hosts) * self.gradient.bytes as f64 / wire;
        }
        let times = self.gradient.seconds / floor;
        let measured = format!(
            "{} of {arch}'s gradient in {}, {times:.1} x the floor (4 bytes: {}; copies: {}/s a rank)",
            bytes(self.gradient.bytes as f64),
            duration(self.gradient.seconds),
            duration(self.latency),
            bytes(self.gradient.copied),
        );
        // With several hosts and no large sum the floor lacks the network.
        let known = self.hosts == 1 || self.large.is_some();
        let mut lines = vec![if self.crowded {
            Line::ok(
                "allreduce",
                format!("{measured}; ranks share cores, so times say little"),
            )
        } else if known && times > SLOW {
            let advice = if self.hosts == 1 {
                "shared memory is not used (container without ptrace or /dev/shm?): mpirun --bind-to core, with Open MPI --mca btl vader,self"
            } else {
                "see that mpirun takes the fast network: ucx_info -d, with Open MPI --mca pml ucx; and one core for every rank"
            };
            Line::warn("allreduce", measured, advice)
        } else {
            Line::ok("allreduce", measured)
        }];
        let Some(large) = self.large else {
            let found = format!(
                "{} not tried: too little memory is free",
                bytes(LARGE as f64)
            );
            lines.push(Line::ok("bandwidth", found));
            return lines;
        };
        let mut found = format!(
            "{} in {}, {:.1} x the floor of copies",
            bytes(large.bytes as f64),
            duration(large.seconds),
            large.seconds / self.floor(large)
        );
        let Some(wire) = self.wire() else {
            lines.push(Line::ok("bandwidth", found));
            return lines;
        };
        found = format!(
            "{found}; wire ~{:.1} GB/s between {} hosts",
            wire / 1e9,
            self.hosts
        );
        lines.push(if wire < SLOW_WIRE && !self.crowded {
            let advice = "no faster than Ethernet: with Open MPI --mca pml ucx for InfiniBand, --mca btl_tcp_if_include for the right card";
            Line::warn("bandwidth", found, advice)
        } else {
            Line::ok("bandwidth", found)
        });
        lines
    }
}

/// How many times a sum over so many parts sends each byte: a ring 2 (N - 1) / N times.
pub fn travelled(parts: usize) -> f64 {
    2.0 * (parts - 1) as f64 / parts as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Mark;

    /// 2 MB at 2 GB/s: the floor at two ranks is 1 ms.
    fn seen(seconds: f64, hosts: usize, large: Option<f64>) -> Seen {
        let trial = |bytes, seconds| Trial {
            bytes,
            seconds,
            copied: 2e9,
        };
        Seen {
            ranks: 2,
            hosts,
            crowded: false,
            latency: 1e-6,
            gradient: trial(2_000_000, seconds),
            large: large.map(|seconds| trial(LARGE, seconds)),
        }
    }

    fn marks(seen: &Seen) -> Vec<Mark> {
        seen.judge("unet").iter().map(|line| line.mark).collect()
    }

    #[test]
    fn a_slow_sum_warns_unless_ranks_share_cores() {
        assert_eq!(marks(&seen(0.002, 1, Some(0.2))), [Mark::Ok, Mark::Ok]);
        let mut slow = seen(0.006, 1, None);
        assert_eq!(marks(&slow), [Mark::Warn, Mark::Ok]);
        assert!(
            slow.judge("unet")[0]
                .found
                .contains("2.0 MB of unet's gradient in 6.0 ms, 6.0 x the floor")
        );
        slow.crowded = true;
        assert_eq!(marks(&slow), [Mark::Ok, Mark::Ok]);
    }

    #[test]
    fn between_hosts_the_network_sets_the_floor() {
        let fast = seen(0.002, 2, Some(0.02));
        let lines = fast.judge("unet");
        assert!(
            lines[1].found.contains("wire ~10.0 GB/s between 2 hosts"),
            "{lines:?}"
        );
        assert_eq!(marks(&fast), [Mark::Ok, Mark::Ok]);
        assert_eq!(marks(&seen(0.02, 2, Some(2.0))), [Mark::Ok, Mark::Warn]);
        assert_eq!(
            marks(&seen(0.02, 2, None))[0],
            Mark::Ok,
            "no floor is known"
        );
    }
}
