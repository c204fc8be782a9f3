//! Hosts: what the kernel and the control groups grant their ranks, and how much memory is left.

use std::{
    fs,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use super::{Line, alike, bytes};
use crate::{comm::Comm, device};

/// Open MPI keeps the ranks' common buffers there; containers often give 64 MB for all.
const SHM_OF_A_RANK: u64 = 64_000_000;
/// libtorch alone takes about 0.4 GB, a batch of 64 windows more.
const MEMORY_OF_A_RANK: u64 = 1_000_000_000;

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Node {
    pub host: String,
    /// Cores that the kernel lets this rank use, ascending.
    pub allowed: Vec<usize>,
    /// Cores of the host.
    pub cores: usize,
    /// Cores' worth of time that the cgroup grants.
    pub quota: Option<f64>,
    /// That this rank would compute with.
    pub threads: usize,
    /// Bytes that this host can still give to its ranks.
    pub memory: Option<u64>,
    shm: Option<u64>,
}

pub fn probe(comm: &dyn Comm) -> Node {
    let text = |path: &str| fs::read_to_string(path).ok();
    let allowed = text("/proc/self/status").and_then(|status| allowed_cores(&status));
    let groups = groups(&text("/proc/self/cgroup").unwrap_or_default());
    let read = |folder: &PathBuf, name: &str| fs::read_to_string(folder.join(name)).ok();
    let quotas = groups.iter().filter_map(|folder| {
        let old = || {
            Some(format!(
                "{} {}",
                read(folder, "cpu.cfs_quota_us")?,
                read(folder, "cpu.cfs_period_us")?
            ))
        };
        quota(&read(folder, "cpu.max").or_else(old)?)
    });
    let left = groups.iter().filter_map(|folder| {
        let number = |name| read(folder, name)?.trim().parse::<u64>().ok();
        let (limit, used) = match number("memory.max") {
            Some(limit) => (limit, number("memory.current")?),
            None => (
                number("memory.limit_in_bytes")?,
                number("memory.usage_in_bytes")?,
            ),
        };
        // Pages of files count as used, but are given back when needed.
        let stat = read(folder, "memory.stat").unwrap_or_default();
        let files = stat
            .lines()
            .find_map(|line| line.strip_prefix("inactive_file ")?.parse().ok());
        Some(limit.saturating_sub(used.saturating_sub(files.unwrap_or(0))))
    });
    let available = text("/proc/meminfo").and_then(|text| available(&text));
    let shm = nix::sys::statvfs::statvfs("/dev/shm").ok();
    Node {
        host: comm.host().to_string(),
        cores: device::host_cores().unwrap_or_default(),
        allowed: allowed.unwrap_or_default(),
        quota: quotas.reduce(f64::min),
        threads: device::share_of_cores(comm.local_size()).unwrap_or(1),
        memory: left.chain(available).min(),
        shm: shm.map(|of| of.blocks_available() * of.fragment_size()),
    }
}

/// `Cpus_allowed_list:\t0-3,8` of /proc/self/status.
fn allowed_cores(status: &str) -> Option<Vec<usize>> {
    let list = status
        .lines()
        .find_map(|line| line.strip_prefix("Cpus_allowed_list:"))?;
    let mut cores = Vec::new();
    for run in list.trim().split(',') {
        let (first, last) = run.split_once('-').unwrap_or((run, run));
        cores.extend(first.parse::<usize>().ok()?..=last.parse().ok()?);
    }
    Some(cores)
}

/// Folders of the control groups of this process and of all above them, of either version.
fn groups(cgroup: &str) -> Vec<PathBuf> {
    let mut folders = Vec::new();
    for line in cgroup.lines() {
        let Some((_, rest)) = line.split_once(':') else {
            continue;
        };
        let Some((controllers, path)) = rest.split_once(':') else {
            continue;
        };
        let root = Path::new("/sys/fs/cgroup");
        let root = match controllers {
            "" => root.to_path_buf(),
            _ if controllers
                .split(',')
                .any(|of| of == "cpu" || of == "memory") =>
            {
                root.join(controllers)
            }
            _ => continue,
        };
        let own = root.join(path.trim_start_matches('/'));
        folders.extend(
            own.ancestors()
                .take_while(|folder| folder.starts_with(&root))
                .map(Path::to_path_buf),
        );
    }
    folders
}

/// `200000 100000` of cpu.max: microseconds of each period; `max` or -1 is no limit.
fn quota(cpu_max: &str) -> Option<f64> {
    let mut words = cpu_max.split_whitespace();
    let time: f64 = words.next()?.parse().ok()?;
    let period: f64 = words.next()?.parse().ok()?;
    (time > 0.0 && period > 0.0).then_some(time / period)
}

/// Bytes of `MemAvailable:   12345 kB`.
fn available(meminfo: &str) -> Option<u64> {
    let line = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kilobytes: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kilobytes * 1024)
}

/// Hosts with their ranks, in order of the first.
pub fn by_host(nodes: &[Node]) -> Vec<(&str, Vec<usize>)> {
    alike(nodes.iter().map(|node| node.host.as_str()))
}

/// The scarcest host's memory.
pub fn memory(nodes: &[Node]) -> Vec<Line> {
    let hosts = by_host(nodes);
    let scarcest = |of: fn(&Node) -> Option<u64>| {
        let each = hosts.iter().filter_map(|(host, ranks)| {
            Some((
                of(&nodes[ranks[0]])? / ranks.len() as u64,
                *host,
                ranks.len(),
            ))
        });
        each.min()
    };
    let mut lines = Vec::new();
    lines.push(match scarcest(|node| node.memory) {
        None => Line::warn("memory", "could not be read", "see free -h on every host"),
        Some((each, host, ranks)) => {
            let found = format!(
                "{} available on {host}, {} a rank",
                bytes((each * ranks as u64) as f64),
                bytes(each as f64)
            );
            match each {
                MEMORY_OF_A_RANK.. => Line::ok("memory", found),
                _ => Line::warn(
                    "memory",
                    found,
                    "start fewer ranks on a host, or ask for more memory",
                ),
            }
        }
    });
    // A single rank shares nothing.
    if nodes.len() > 1 {
        lines.push(match scarcest(|node| node.shm) {
            None => Line::warn(
                "/dev/shm",
                "is not there",
                "mount it, or Open MPI may need --mca btl ^vader",
            ),
            Some((each, host, _)) => {
                let found = format!("{} a rank free on {host}", bytes(each as f64));
                let advice = "docker run --shm-size 1g (or --ipc host); else remove what fills it";
                match each {
                    SHM_OF_A_RANK.. => Line::ok("/dev/shm", found),
                    _ => Line::warn("/dev/shm", found, advice),
                }
            }
        });
    }
    lines
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use crate::doctor::Mark;

    pub fn node(host: &str, allowed: &[usize], threads: usize) -> Node {
        Node {
            host: host.into(),
            allowed: allowed.to_vec(),
            cores: 4,
            threads,
            memory: Some(16_000_000_000),
            shm: Some(8_000_000_000),
            quota: None,
        }
    }

    #[test]
    fn the_kernels_lists_are_understood() {
        let status = "Name:\tx\nCpus_allowed:\tf\nCpus_allowed_list:\t0-2,8,10-11\n";
        assert_eq!(allowed_cores(status), Some(vec![0, 1, 2, 8, 10, 11]));
        assert_eq!(allowed_cores("Cpus_allowed_list:\tx"), None);
        assert_eq!(quota("250000 100000\n"), Some(2.5));
        assert_eq!(quota("max 100000\n"), None);
        assert_eq!(quota("-1\n 100000\n"), None);
        assert_eq!(quota(""), None);
        assert_eq!(
            available("MemFree: 1 kB\nMemAvailable:   2048 kB\n"),
            Some(2 << 20)
        );
    }

    #[test]
    fn limits_of_all_control_groups_above_count() {
        let path = |name: &str| PathBuf::from(name);
        assert_eq!(
            groups("0::/job/step\n"),
            [
                path("/sys/fs/cgroup/job/step"),
                path("/sys/fs/cgroup/job"),
                path("/sys/fs/cgroup")
            ]
        );
        assert_eq!(
            groups("9:name=systemd:/x\n4:cpu,cpuacct:/\nbroken"),
            [path("/sys/fs/cgroup/cpu,cpuacct")]
        );
    }

    #[test]
    fn scarce_memory_is_said() {
        let mut nodes = vec![node("a", &[0], 1), node("b", &[0], 1)];
        assert!(memory(&nodes).iter().all(|line| line.mark == Mark::Ok));
        nodes[1].memory = Some(400_000_000);
        nodes[0].shm = Some(64 << 10);
        let lines = memory(&nodes);
        assert!(
            lines[0].mark == Mark::Warn && lines[0].found.contains("on b"),
            "{lines:?}"
        );
        assert!(
            lines[1].mark == Mark::Warn && lines[1].found.contains("on a"),
            "{lines:?}"
        );
    }
}
