//! Sums over ranks: what they take, and latency and bandwidth from what `doctor` timed.

use std::str::FromStr;

use anyhow::{Context, Result};
use serde::Serialize;

use crate::doctor::{Measured, reduce::travelled};

/// Seconds of a message, and bytes/s.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Wire {
    pub latency: f64,
    pub bandwidth: f64,
}

impl FromStr for Wire {
    type Err = String;

    /// Microseconds and GB/s.
    fn from_str(text: &str) -> Result<Self, String> {
        let numbers = text.split_once(',').and_then(|(us, gb)| {
            let (us, gb) = (us.parse::<f64>().ok()?, gb.parse::<f64>().ok()?);
            (us > 0.0 && gb > 0.0).then_some((us * 1e-6, gb * 1e9))
        });
        let (latency, bandwidth) =
            numbers.ok_or("not MICROSECONDS,GB/S with two positive numbers")?;
        Ok(Self { latency, bandwidth })
    }
}

impl Wire {
    /// Seconds of a sum of a few bytes.
    pub fn small(self, parts: usize) -> f64 {
        (parts as f64).log2() * self.latency
    }

    pub fn gradient(self, parts: usize, bytes: f64) -> f64 {
        2.0 * self.small(parts) + travelled(parts) * bytes / self.bandwidth
    }

    /// From the seconds of both.
    fn fit(parts: usize, small: f64, bytes: f64, gradient: f64) -> Self {
        let latency = small / (parts as f64).log2();
        // Where latency would explain all of it, half is still left to the bytes.
        let moving = (gradient - 2.0 * small).max(gradient / 2.0);
        Self {
            latency,
            bandwidth: travelled(parts) * bytes / moving,
        }
    }
}

/// From the widest runs on one host and on several.
pub struct Sums {
    pub inside: Wire,
    /// None: one host.
    pub between: Option<Wire>,
    /// Of a gradient.
    pub bytes: f64,
}

/// As doctor timed them.
struct Trial {
    ranks: usize,
    hosts: usize,
    small: f64,
    bytes: f64,
    gradient: f64,
}

impl Trial {
    fn all(measured: &[(usize, &Measured)]) -> Vec<Self> {
        let trial = |&(ranks, machine): &(usize, &Measured)| {
            let seen = machine.allreduce.as_ref()?;
            Some(Self {
                ranks,
                hosts: machine.num_hosts(),
                small: seen.latency,
                bytes: seen.gradient.bytes as f64,
                gradient: seen.gradient.seconds,
            })
        };
        measured.iter().filter_map(trial).collect()
    }

    fn wire(&self) -> Wire {
        Wire::fit(self.ranks, self.small, self.bytes, self.gradient)
    }

    /// Between hosts, without what the sum on each host took; never faster than that.
    fn between(&self, inside: Wire) -> Wire {
        let (hosts, bytes) = (self.hosts, self.bytes);
        let own = self.ranks.div_ceil(hosts);
        let small = (self.small - inside.small(own)).max(inside.small(hosts));
        let gradient = self.gradient - inside.gradient(own, bytes);
        Wire::fit(
            hosts,
            small,
            bytes,
            gradient.max(inside.gradient(hosts, bytes)),
        )
    }
}

impl Sums {
    /// `alone`: of ranks with a core each.
    pub fn of(
        alone: &[(usize, &Measured)],
        all: &[(usize, &Measured)],
        notes: &mut Vec<String>,
    ) -> Result<Self> {
        let mut trials = Trial::all(alone);
        if trials.is_empty() {
            let note =
                "sums were timed while ranks shared cores: they are slower than they need be";
            notes.push(note.into());
            trials = Trial::all(all);
            trials.truncate(1);
        }
        let widest = trials.last().context("doctor timed no sum")?;
        let on_one = trials.iter().rev().find(|trial| trial.hosts == 1);
        let on_several = trials.iter().rev().find(|trial| trial.hosts > 1);
        let inside = on_one.unwrap_or(widest).wire();
        let between = on_several.map(|trial| match on_one {
            Some(_) => trial.between(inside),
            None => trial.wire(),
        });
        Ok(Self {
            inside,
            between,
            bytes: widest.bytes,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// 2 MB on ranks that stand on so many hosts.
    fn measured(ranks: usize, hosts: usize, small: f64, gradient: f64) -> Measured {
        let names: Vec<String> = (0..ranks).map(|rank| (rank % hosts).to_string()).collect();
        let trial = json!({"bytes": 2_000_000, "seconds": gradient, "copied": 1e9});
        let seen = json!({"ranks": ranks, "hosts": hosts, "crowded": false, "latency": small,
            "gradient": trial, "large": null});
        let json = json!({"hosts": names, "cores": 4.0, "crowded": false, "gpus": false,
            "allreduce": seen, "paces": []});
        serde_json::from_value(json).unwrap()
    }

    #[test]
    fn the_network_is_what_a_sum_over_hosts_takes_beyond_one_on_each() {
        let near = |a: Wire, b: Wire| {
            assert!((a.latency / b.latency - 1.0).abs() < 1e-9, "{a:?} {b:?}");
            assert!(
                (a.bandwidth / b.bandwidth - 1.0).abs() < 1e-9,
                "{a:?} {b:?}"
            );
        };
        let (latency, bandwidth) = (1e-6, 8e9);
        let inside = Wire { latency, bandwidth };
        let (latency, bandwidth) = (5e-6, 2e9);
        let network = Wire { latency, bandwidth };
        let one = measured(4, 1, inside.small(4), inside.gradient(4, 2e6));
        let both = |of: fn(Wire, usize) -> f64| of(inside, 4) + of(network, 2);
        let two = measured(8, 2, both(Wire::small), both(|of, n| of.gradient(n, 2e6)));
        let mut notes = Vec::new();
        let mut sums = |all: &[(usize, &Measured)]| Sums::of(all, all, &mut notes).unwrap();
        let found = sums(&[(4, &one), (8, &two)]);
        near(found.inside, inside);
        near(found.between.unwrap(), network);
        assert!(sums(&[(4, &one)]).between.is_none());
        assert!(notes.is_empty());
        Sums::of(&[], &[(4, &one)], &mut notes).unwrap();
        assert!(notes[0].contains("shared cores"));
    }

    #[test]
    fn a_wire_is_found_again_from_its_times() {
        let wire = Wire {
            latency: 2e-6,
            bandwidth: 1e10,
        };
        let found = Wire::fit(8, wire.small(8), 2e6, wire.gradient(8, 2e6));
        assert!(
            (found.latency / wire.latency - 1.0).abs() < 1e-12,
            "{found:?}"
        );
        assert!(
            (found.bandwidth / wire.bandwidth - 1.0).abs() < 1e-12,
            "{found:?}"
        );
        assert_eq!(
            "2,22".parse(),
            Ok(Wire {
                latency: 2e-6,
                bandwidth: 2.2e10
            })
        );
        assert!("2".parse::<Wire>().is_err() && "0,1".parse::<Wire>().is_err());
    }
}
