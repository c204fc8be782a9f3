//! Cores: where ranks may run, and whether they are in each other's way.

use super::{
    Line, alike,
    node::{Node, by_host},
    numbered, ranges, some, who,
};

/// Cores that the ranks of a host may use together.
fn usable(nodes: &[Node], ranks: &[usize]) -> Vec<usize> {
    let mut cores: Vec<usize> = ranks
        .iter()
        .flat_map(|&rank| nodes[rank].allowed.iter().copied())
        .collect();
    cores.sort_unstable();
    cores.dedup();
    cores
}

/// Cores' worth of time that the ranks of a host get together; 0 where it could not be seen.
pub fn granted(nodes: &[Node], ranks: &[usize]) -> f64 {
    let granted = nodes[ranks[0]].quota.unwrap_or(f64::INFINITY);
    (usable(nodes, ranks).len() as f64).min(granted)
}

/// Whether ranks wait for cores, so that times say little.
pub fn oversubscribed(nodes: &[Node]) -> bool {
    by_host(nodes).iter().any(|(_, ranks)| {
        let cores = granted(nodes, ranks);
        cores > 0.0 && ranks.len() as f64 > cores
    })
}

/// A line for all hosts that look alike.
pub fn placement(nodes: &[Node]) -> Vec<Line> {
    let hosts = by_host(nodes);
    let looks = alike(
        hosts
            .iter()
            .map(|(_, ranks)| (ranks.len(), of_host(nodes, ranks, hosts.len() == 1))),
    );
    let mut lines: Vec<Line> = Vec::new();
    for ((count, (found, advice)), indices) in looks {
        let names: Vec<&str> = indices.iter().map(|&i| hosts[i].0).collect();
        let found = match indices[..] {
            [one] => format!("{}: {}, {found}", names[0], numbered("rank", &hosts[one].1)),
            _ => format!(
                "{} hosts ({}): {count} ranks each, {found}",
                names.len(),
                some(&names)
            ),
        };
        lines.push(match advice {
            None => Line::ok("cores", found),
            Some(advice) => Line::warn("cores", found, advice),
        });
    }
    let counts = || hosts.iter().map(|(_, ranks)| ranks.len());
    if let (Some(least), Some(most)) = (counts().min(), counts().max())
        && least < most
    {
        let found = format!("hosts run {least} to {most} ranks: the fullest sets the pace");
        // MPICH takes Open MPI's --map-by ppr too, and passes over it in silence.
        let advice = format!(
            "give every host as many: mpirun --map-by ppr:{most}:node (MPICH: -ppn {most})"
        );
        lines.push(Line::warn("cores", found, advice));
    }
    lines
}

/// What one host grants its ranks, and what to do if that is bad. Numbers of cores would make hosts that are alike look
/// different.
fn of_host(nodes: &[Node], ranks: &[usize], numbers: bool) -> (String, Option<String>) {
    let usable = usable(nodes, ranks);
    let (count, first) = (usable.len(), &nodes[ranks[0]]);
    if count == 0 {
        let advice = "/proc/self/status holds no Cpus_allowed_list here: binding could not be seen";
        return ("cores unknown".into(), Some(advice.into()));
    }
    let own = || ranks.iter().map(|&rank| nodes[rank].allowed.len());
    let (least, most) = (own().min().unwrap_or(0), own().max().unwrap_or(0));
    let bound = match (least, most) {
        _ if ranks.iter().all(|&rank| nodes[rank].allowed == usable) && least > 1 => {
            "not bound to single cores".to_string()
        }
        (1, 1) => "bound to 1 core each".into(),
        (least, most) if least == most => format!("bound to {least} cores each"),
        (least, most) => format!("bound to {least} to {most} cores each"),
    };
    let threads: usize = ranks.iter().map(|&rank| nodes[rank].threads).sum();
    let found = format!(
        "{} of {} cores{}, {bound}, {}",
        count,
        first.cores.max(count),
        match numbers {
            true => format!(" ({})", ranges(&usable)),
            false => String::new(),
        },
        if threads == ranks.len() {
            "1 thread each".to_string()
        } else {
            format!("{threads} threads in all")
        },
    );
    let alone = ranks.iter().map(|&rank| &nodes[rank].allowed);
    let alone = alike(alone.filter(|allowed| allowed.len() == 1));
    let shared = alone.iter().find(|(_, sharing)| sharing.len() > 1);
    if let Some((core, sharing)) = shared.filter(|_| first.cores > count || ranks.len() <= count) {
        let found = format!(
            "{found}: {} ranks are bound to core {} alone",
            sharing.len(),
            core[0]
        );
        let advice = "mpirun --bind-to none or --map-by core; where two jobs share a node, --bind-to none for both";
        return (found, Some(advice.into()));
    }
    if ranks.len() > count {
        let found = format!("{found}: more ranks than cores");
        let advice = format!("start at most {count} on such a host, or ask for more cores");
        return (found, Some(advice));
    }
    if let Some(granted) = first.quota.filter(|&granted| granted < count as f64) {
        let found = format!("{found}: the cgroup grants the time of {granted:.1} cores");
        let each = (granted as usize / ranks.len()).max(1);
        let advice =
            format!("ask for more cores of the container or job, or give train --threads {each}");
        return (found, Some(advice));
    }
    if threads > count {
        let found = format!("{found}: more threads than cores");
        let advice = format!("give train --threads {}", (count / ranks.len()).max(1));
        return (found, Some(advice));
    }
    (found, None)
}

/// A rank with a GPU and one core: the thread that reads ahead competes with the one that starts kernels.
pub fn beside_gpus(nodes: &[Node], on_gpu: impl Fn(usize) -> bool) -> Option<Line> {
    let short: Vec<usize> = (0..nodes.len())
        .filter(|&rank| on_gpu(rank) && nodes[rank].allowed.len() == 1)
        .collect();
    let hosts: Vec<&str> = nodes.iter().map(|node| node.host.as_str()).collect();
    (!short.is_empty()).then(|| {
        let found = format!(
            "{}: a GPU, but one core for computing and for reading ahead",
            who(&short, &hosts)
        );
        let advice =
            "mpirun --bind-to none, or --map-by ppr:<GPUs>:node:PE=<cores of a GPU> (Open MPI)";
        Line::warn("cores", found, advice)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::{Mark, node::tests::node};

    #[test]
    fn bad_placements_are_told_apart() {
        let found = |nodes: &[Node]| {
            let lines = placement(nodes);
            lines.last().map(|line| (line.mark, line.text())).unwrap()
        };
        let (mark, text) = found(&[node("a", &[0], 1), node("a", &[1], 1)]);
        assert_eq!(mark, Mark::Ok, "{text}");
        assert!(
            text.contains("ranks 0-1, 2 of 4 cores (0-1), bound to 1 core each"),
            "{text}"
        );
        let (mark, text) = found(&[
            node("a", &[3], 1),
            node("a", &[3], 1),
            node("a", &[1, 2], 1),
        ]);
        assert_eq!(mark, Mark::Warn);
        assert!(text.contains("2 ranks are bound to core 3 alone"), "{text}");
        let (_, text) = found(&[node("a", &[0], 1), node("a", &[0], 1)]);
        assert!(text.contains("core 0 alone"), "{text}");
        let (_, text) = found(&[node("a", &[0, 1], 2), node("a", &[0, 1], 2)]);
        assert!(
            text.contains("more threads than cores  -> give train --threads 1"),
            "{text}"
        );
        let mut limited = node("a", &[0, 1, 2, 3], 1);
        limited.quota = Some(1.5);
        assert!(
            found(&[limited.clone()])
                .1
                .contains("grants the time of 1.5 cores")
        );
        assert!(oversubscribed(&[limited.clone(), limited]));
    }

    #[test]
    fn hosts_that_look_alike_share_a_line() {
        let hosts: Vec<String> = (0..40).map(|i| format!("n{}", i / 2)).collect();
        let mut nodes: Vec<Node> = hosts.iter().map(|host| node(host, &[0, 1], 1)).collect();
        let lines = placement(&nodes);
        assert_eq!(lines.len(), 1);
        assert!(
            lines[0]
                .found
                .starts_with("20 hosts (n0, n1, n2 and 17 more): 2 ranks each, 2 of 4"),
            "{lines:?}"
        );
        nodes.pop();
        assert!(placement(&nodes)[2].found.contains("1 to 2 ranks"));
    }

    #[test]
    fn a_gpu_needs_more_than_one_core() {
        let nodes = [node("a", &[0], 1), node("a", &[1, 2], 1)];
        assert!(beside_gpus(&nodes, |_| false).is_none());
        assert!(beside_gpus(&nodes, |rank| rank == 1).is_none());
        let line = beside_gpus(&nodes, |_| true).unwrap();
        assert!(line.found.starts_with("rank 0 on a"), "{line:?}");
    }
}
