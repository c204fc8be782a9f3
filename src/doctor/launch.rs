//! MPI: which library, whether it is the launcher's, and whether the hosts' clocks agree.

use std::{
    env,
    time::{SystemTime, UNIX_EPOCH},
};

use mpi::{Threading, environment};
use serde::{Deserialize, Serialize};

use super::{Line, alike, duration, who};
use crate::{
    comm::{Comm, RANKS, SLURM_RANK},
    gpu::in_this_process,
};

/// Numbers of processes as launchers tell them. Slurm's comes last: an mpirun inside salloc inherits it.
const SIZES: [&str; 4] = [
    "OMPI_COMM_WORLD_SIZE",
    "PMI_SIZE",
    "MV2_COMM_WORLD_SIZE",
    "SLURM_NTASKS",
];
/// Seconds by which the clocks of hosts may differ: file times and logs are compared by the second.
const CLOCK_SLACK: f64 = 1.0;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Launch {
    /// Empty where MPI was not started.
    library: String,
    standard: (i32, i32),
    threads: String,
    funneled: bool,
    path: Option<String>,
    told: Option<Told>,
}

/// What the environment says: so many processes, or a rank that only so many have.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Told {
    variable: String,
    ranks: usize,
}

pub fn probe() -> Launch {
    let started = environment::is_initialized();
    let threading = started.then(environment::threading_support);
    let library = match environment::library_version() {
        Ok(version) if started => short(&version),
        _ => String::new(),
    };
    Launch {
        library,
        standard: environment::version(),
        threads: threading.map_or_else(String::new, |level| format!("{level:?}")),
        funneled: threading.is_some_and(|level| level >= Threading::Funneled),
        path: in_this_process("libmpi.so")
            .or_else(|| in_this_process("libmpi"))
            .map(|path| path.display().to_string()),
        told: told(|name| env::var(name).ok()),
    }
}

/// Whether this process prints: rank 0, and of processes that a foreign launcher left alone the first.
pub fn speaks(comm: &dyn Comm) -> bool {
    let variable = |name: &str| env::var(name).ok();
    let alone = told(variable).is_some_and(|told| told.ranks > comm.size());
    comm.rank() == 0 && !(alone && later(variable).is_some())
}

fn told(variable: impl Fn(&str) -> Option<String> + Copy) -> Option<Told> {
    let size = SIZES.iter().find_map(|name| {
        Some(Told {
            variable: name.to_string(),
            ranks: variable(name)?.trim().parse().ok()?,
        })
    });
    size.or_else(|| later(variable))
}

/// A rank above 0. Open MPI itself gives PMIX_RANK=0 to a process without a launcher.
fn later(variable: impl Fn(&str) -> Option<String>) -> Option<Told> {
    RANKS.into_iter().chain([SLURM_RANK]).find_map(|name| {
        let rank: usize = variable(name)?.trim().parse().ok()?;
        (rank > 0).then(|| Told {
            variable: name.to_string(),
            ranks: rank + 1,
        })
    })
}

pub fn judge(launches: &[Launch], size: usize) -> Vec<Line> {
    let Some(first) = launches.first() else {
        return Vec::new();
    };
    if first.library.is_empty() {
        let advice = "start the program itself, or mpirun it";
        return vec![Line::warn("mpi", "MPI was not started", advice)];
    }
    let path = first.path.as_deref().unwrap_or("path unknown");
    let count = match (size, &first.told) {
        (1, None) => "one process, no launcher".into(),
        (1, Some(_)) => "1 rank".into(),
        (size, _) => format!("{size} ranks"),
    };
    let (major, minor) = first.standard;
    let found = format!(
        "{} (MPI {major}.{minor}, {path}), {count}, threads {}",
        first.library, first.threads
    );
    let mut lines = Vec::new();
    if let Some(told) = first.told.as_ref().filter(|told| told.ranks > size) {
        lines.push(Line::fail(
            "mpi",
            format!(
                "{found}, yet {} speaks of {}: each process trains alone",
                told.variable, told.ranks
            ),
            format!(
                "start with the mpirun or srun of {} (mpirun --version tells whose it is; srun: --mpi=pmix or pmi2); a \
                 single process on purpose: unset {}",
                first.library, told.variable
            ),
        ));
    } else if launches.iter().any(|of| of.library != first.library) {
        let names = alike(launches.iter().map(|of| of.library.as_str()));
        let names: Vec<&str> = names.into_iter().map(|(name, _)| name).collect();
        let found = format!("hosts load different libraries: {}", names.join("; "));
        lines.push(Line::fail(
            "mpi",
            found,
            "load the same module on every host",
        ));
    } else if !first.funneled {
        let advice =
            "data is read in a second thread, which needs Funneled: use an MPI built with threads";
        lines.push(Line::fail("mpi", found, advice));
    } else {
        lines.push(Line::ok("mpi", found));
    }
    lines
}

/// `Open MPI v4.1.4` of a line full of build details.
fn short(version: &str) -> String {
    let first = version.split(['\n', ',']).next().unwrap_or_default();
    let words = first.split_whitespace().filter(|word| *word != "Version:");
    words.collect::<Vec<_>>().join(" ")
}

/// Seconds since 1970.
pub fn wall_clock() -> f64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0.0, |since| since.as_secs_f64())
}

/// Of clocks read at the same moment.
pub fn clocks(clocks: &[f64], hosts: &[&str]) -> Option<Line> {
    let (first, last) = (
        (0..clocks.len()).min_by(|&a, &b| clocks[a].total_cmp(&clocks[b]))?,
        (0..clocks.len()).max_by(|&a, &b| clocks[a].total_cmp(&clocks[b]))?,
    );
    if hosts.iter().all(|host| *host == hosts[0]) {
        return Some(Line::ok("clock", "one host, one clock"));
    }
    let apart = clocks[last] - clocks[first];
    let found = format!("hosts are within {} of each other", duration(apart));
    if apart <= CLOCK_SLACK {
        return Some(Line::ok("clock", found));
    }
    let found = format!(
        "{} is {} behind {}",
        who(&[first], hosts),
        duration(apart),
        who(&[last], hosts)
    );
    let advice = "ask for NTP or chrony on these hosts: file times and logs will disagree";
    Some(Line::warn("clock", found, advice))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Mark;

    fn of(pairs: &[(&str, &str)]) -> Option<Told> {
        told(|name| {
            let pair = pairs.iter().find(|(known, _)| *known == name)?;
            Some(pair.1.to_string())
        })
    }

    #[test]
    fn processes_that_a_foreign_mpirun_left_alone_are_found() {
        let launch = |told| Launch {
            library: "Open MPI v4.1.4".into(),
            standard: (3, 1),
            threads: "Funneled".into(),
            funneled: true,
            path: None,
            told,
        };
        let mark = |pairs: &[(&str, &str)], size| judge(&[launch(of(pairs))], size)[0].mark;
        assert_eq!(mark(&[("PMI_SIZE", "4"), ("PMI_RANK", "0")], 1), Mark::Fail);
        assert_eq!(mark(&[("PMIX_RANK", "3")], 1), Mark::Fail);
        assert_eq!(mark(&[("SLURM_NTASKS", "8")], 1), Mark::Fail);
        assert_eq!(mark(&[("PMI_SIZE", "4")], 4), Mark::Ok);
        assert_eq!(mark(&[("PMIX_RANK", "0")], 1), Mark::Ok);
        assert_eq!(mark(&[], 1), Mark::Ok);
        let inside = [("SLURM_NTASKS", "8"), ("OMPI_COMM_WORLD_SIZE", "1")];
        assert_eq!(
            mark(&inside, 1),
            Mark::Ok,
            "mpirun -np 1 inside an allocation"
        );
        let line = &judge(&[launch(of(&[("PMI_SIZE", "4")]))], 1)[0];
        assert!(line.advice.contains("Open MPI v4.1.4"), "{line:?}");
    }

    #[test]
    fn too_little_threading_and_mixed_libraries_fail() {
        let mut launch = Launch {
            library: "MPICH 4.0".into(),
            standard: (4, 0),
            threads: "Single".into(),
            funneled: false,
            path: None,
            told: None,
        };
        assert_eq!(judge(&[launch.clone()], 1)[0].mark, Mark::Fail);
        launch.funneled = true;
        let other = Launch {
            library: "Open MPI v5.0".into(),
            ..launch.clone()
        };
        assert_eq!(judge(&[launch, other], 2)[0].mark, Mark::Fail);
    }

    #[test]
    fn a_library_is_called_by_its_first_words() {
        assert_eq!(
            short("Open MPI v4.1.4, package: Debian OpenMPI, ident: 4.1.4"),
            "Open MPI v4.1.4"
        );
        assert_eq!(
            short("MPICH Version:\t4.0.2\nMPICH Release date: x"),
            "MPICH 4.0.2"
        );
    }

    #[test]
    fn clocks_of_hosts_are_compared() {
        assert_eq!(clocks(&[5.0, 5.1], &["a", "b"]).unwrap().mark, Mark::Ok);
        let line = clocks(&[5.0, 8.5], &["a", "b"]).unwrap();
        assert_eq!(line.mark, Mark::Warn);
        assert_eq!(line.found, "rank 0 on a is 3.5 s behind rank 1 on b");
        assert_eq!(clocks(&[5.0, 5.1], &["a", "a"]).unwrap().mark, Mark::Ok);
        assert!(clocks(&[], &[]).is_none());
    }
}
