//! Sums over ranks: what they take, and latency and bandwidth from what `doctor` timed.

use std::str::FromStr;

use anyhow::{Context, Result};
use serde::Serialize;

use crate::doctor::Measured;

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

/// Of each byte of a gradient, how many cross.
fn travelled(parts: usize) -> f64 {
    2.0 * (parts - 1) as f64 / parts as f64
}

/// From the widest runs on one host and on several.
pub struct Sums {
    pub inside: Wire,
    /// None: one host.
    pub between: Option<Wire>,
    /// Of a gradient.
    pub bytes: f64,
}

impl Sums {
    pub fn of(
        alone: &[(usize, &Measured)],
        all: &[(usize, &Measured)],
        notes: &mut Vec<String>,
    ) -> Result<Self> {
        let timed = |of: &[(usize, &Measured)]| -> Vec<(usize, usize, f64, f64, f64)> {
            of.iter()
                .filter_map(|(ranks, machine)| {
                    let seen = machine.allreduce.as_ref()?;
                    let mut hosts = machine.hosts.clone();
                    hosts.sort_unstable();
                    hosts.dedup();
                    let (bytes, seconds) = (seen.gradient.bytes as f64, seen.gradient.seconds);
                    Some((*ranks, hosts.len(), seen.latency, bytes, seconds))
                })
                .collect()
        };
        let mut known = timed(alone);
        if known.is_empty() {
            notes.push(
                "sums were timed while ranks shared cores: they are slower than they need be"
                    .into(),
            );
            known = timed(all);
            known.truncate(1);
        }
        let of_one_host = known.iter().rev().find(|of| of.1 == 1);
        let of_hosts = known.iter().rev().find(|of| of.1 > 1);
        let fit = |&(ranks, _, small, bytes, gradient): &(usize, usize, f64, f64, f64)| {
            Wire::fit(ranks, small, bytes, gradient)
        };
        let any = known.last().context("doctor timed no sum")?;
        let inside = fit(of_one_host.unwrap_or(any));
        let between = of_hosts.map(|of| match of_one_host {
            None => fit(of),
            Some(_) => {
                let &(ranks, hosts, small, bytes, gradient) = of;
                let own = ranks.div_ceil(hosts);
                let (floor, moved) = (inside.small(hosts), inside.gradient(hosts, bytes));
                // Never faster than inside a host.
                let small = (small - inside.small(own)).max(floor);
                let gradient = (gradient - inside.gradient(own, bytes)).max(moved);
                Wire::fit(hosts, small, bytes, gradient)
            }
        });
        Ok(Self {
            inside,
            between,
            bytes: any.3,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
