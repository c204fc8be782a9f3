//! Says in one screen what is wrong with a node or a cluster: a line a check, and after a fault what to do.
//!
//! Every rank probes and never stops at what it finds; rank 0 gathers the facts, judges them and speaks.

mod cores;
mod files;
mod gpu;
mod input;
mod launch;
mod node;
pub mod pace;
pub mod reduce;

use std::{
    fs::File,
    io::Write,
    process::ExitCode,
    sync::mpsc::{self, RecvTimeoutError},
    thread,
    time::Duration,
};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{
    cli::DoctorArgs,
    comm::{Comm, decide},
};

/// What --json holds: the times by which `bench scaling` predicts.
#[derive(Debug, Serialize, Deserialize)]
pub struct Measured {
    /// Of every rank.
    pub hosts: Vec<String>,
    /// Cores' worth of time that the ranks of the scarcest host get together; 0 where it could not be seen.
    pub cores: f64,
    /// Whether ranks wait for cores.
    pub crowded: bool,
    pub gpus: bool,
    /// None on one rank.
    pub allreduce: Option<reduce::Seen>,
    /// Of every rank.
    pub paces: Vec<Result<pace::Pace, String>>,
}

impl Measured {
    pub fn num_hosts(&self) -> usize {
        alike(&self.hosts).len()
    }
}

/// A probe that takes longer (a dead file server, a driver that hangs) is left alone and reported.
const PROBE_LIMIT: Duration = Duration::from_secs(60);

pub fn doctor(comm: &dyn Comm, args: DoctorArgs) -> Result<ExitCode> {
    let mut screen = Screen {
        speaks: launch::speaks(comm),
        counts: [0; 3],
    };
    comm.note("the facts about MPI and hosts", 0);
    let launches = gather(comm, &launch::probe())?;
    let nodes = gather(comm, &node::probe(comm))?;
    let hosts: Vec<&str> = nodes.iter().map(|node| node.host.as_str()).collect();
    screen.show(launch::judge(&launches, comm.size()));
    screen.show(cores::placement(&nodes));

    comm.note("the facts about GPUs and libtorch", 0);
    let own = gpu::probe(comm, args.device);
    let computes = gather(comm, &own)?;
    screen.show(gpu::judge(&computes, &hosts, args.device));

    screen.show(cores::beside_gpus(&nodes, |rank| computes[rank].on_gpu()));

    screen.show([input::library()]);
    comm.note("the read of --data", 0);
    let read = args
        .data
        .clone()
        .map(|path| input::probe(path, comm.rank()));
    let reads = gather(comm, &read)?;
    let gpus = computes.iter().any(|of| of.on_gpu());
    screen.show(input::judge(&reads, args.data.as_deref(), &hosts, gpus));

    // Sizes of the model for the data file's windows, or for the published ones.
    let (sizes, line) = match comm.rank() {
        0 => input::sizes(args.arch, reads.first()),
        _ => (input::Sizes::default(), None),
    };
    screen.show(line);
    let sizes = sizes.share(comm);
    comm.note("the trial allreduce", 0);
    let (lines, allreduce) = reduce::check(comm, &nodes, sizes.reduced, args.arch)?;
    screen.show(lines);
    comm.note("equal work on all ranks", 0);
    let paces = gather(comm, &pace::probe(comm, own.works_on()))?;
    let crowded = cores::oversubscribed(&nodes);
    screen.show(pace::judge(&paces, &hosts, crowded));

    comm.note("the wall clocks", 0);
    comm.barrier();
    let clocks = gather(comm, &launch::wall_clock())?;
    screen.show(launch::clocks(&clocks, &hosts));

    comm.note("the trial file in --run", 0);
    screen.show(files::check(comm, &args.run, sizes.checkpoint, &hosts)?);
    screen.show(node::memory(&nodes));
    screen.end();
    if let Some(path) = args.json.filter(|_| comm.rank() == 0) {
        let of_hosts = node::by_host(&nodes).into_iter();
        let cores = of_hosts.map(|(_, ranks)| cores::granted(&nodes, &ranks));
        let measured = Measured {
            hosts: hosts.iter().map(ToString::to_string).collect(),
            cores: cores.fold(f64::INFINITY, f64::min),
            crowded,
            gpus,
            allreduce,
            paces,
        };
        let written = File::create(&path).map_err(anyhow::Error::from);
        written
            .and_then(|file| Ok(serde_json::to_writer_pretty(file, &measured)?))
            .with_context(|| format!("writing {}", path.display()))?;
    }
    let failed = decide(comm, || screen.counts[2] > 0);
    Ok(ExitCode::from(u8::from(failed)))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mark {
    Ok,
    Warn,
    Fail,
}

#[derive(Debug)]
struct Line {
    mark: Mark,
    check: &'static str,
    found: String,
    /// What to do.
    advice: String,
}

impl Line {
    fn ok(check: &'static str, found: impl Into<String>) -> Self {
        Self {
            mark: Mark::Ok,
            check,
            found: found.into(),
            advice: String::new(),
        }
    }

    /// Works, but badly; or could not be looked at.
    fn warn(check: &'static str, found: impl Into<String>, advice: impl Into<String>) -> Self {
        Self {
            mark: Mark::Warn,
            advice: advice.into(),
            ..Self::ok(check, found)
        }
    }

    /// Will not work.
    fn fail(check: &'static str, found: impl Into<String>, advice: impl Into<String>) -> Self {
        Self {
            mark: Mark::Fail,
            ..Self::warn(check, found, advice)
        }
    }

    fn text(&self) -> String {
        let mark = match self.mark {
            Mark::Ok => "ok",
            Mark::Warn => "warn",
            Mark::Fail => "FAIL",
        };
        let found = self.found.replace('\n', " ");
        let arrow = if self.advice.is_empty() { "" } else { "  -> " };
        format!("{mark:<5}{:<11}{found}{arrow}{}", self.check, self.advice)
    }
}

struct Screen {
    speaks: bool,
    /// Ok, warnings, failures.
    counts: [usize; 3],
}

impl Screen {
    /// At once, so that whatever hangs is the check after the last line.
    fn show(&mut self, lines: impl IntoIterator<Item = Line>) {
        for line in lines {
            self.counts[line.mark as usize] += 1;
            if self.speaks {
                say(&line.text());
            }
        }
    }

    fn end(&self) {
        let [ok, warnings, failures] = self.counts;
        if self.speaks {
            say(&format!(
                "doctor: {ok} ok, {warnings} warnings, {failures} failures"
            ));
        }
    }
}

/// A reader such as `head` may have closed the pipe: it has seen enough.
fn say(line: &str) {
    let _ = writeln!(std::io::stdout(), "{line}");
}

/// The facts of all ranks, in order of rank, on rank 0; empty elsewhere.
fn gather<T: Serialize + DeserializeOwned>(comm: &dyn Comm, facts: &T) -> Result<Vec<T>> {
    let all = comm.gather(&serde_json::to_vec(facts)?);
    all.iter()
        .map(|bytes| Ok(serde_json::from_slice(bytes)?))
        .collect()
}

/// The probe's answer, or why there is none. It has a thread of its own: one that hangs must not hold the ranks.
fn within<T: Send + 'static>(
    limit: Duration,
    probe: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T, String> {
    let (sender, receiver) = mpsc::channel();
    let started = thread::Builder::new().spawn(move || {
        let _ = sender.send(probe());
    });
    if let Err(err) = started {
        return Err(format!("no thread could be started: {err}"));
    }
    match receiver.recv_timeout(limit) {
        Ok(answer) => answer.map_err(|err| format!("{err:#}")),
        Err(RecvTimeoutError::Timeout) => {
            Err(format!("no answer within {} s", limit.as_secs_f32()))
        }
        Err(RecvTimeoutError::Disconnected) => Err("the probe died".into()),
    }
}

/// Ranks that say the same, in order of the first of them.
fn alike<T: PartialEq>(said: impl IntoIterator<Item = T>) -> Vec<(T, Vec<usize>)> {
    let mut groups: Vec<(T, Vec<usize>)> = Vec::new();
    for (rank, said) in said.into_iter().enumerate() {
        match groups.iter_mut().find(|(known, _)| *known == said) {
            Some((_, ranks)) => ranks.push(rank),
            None => groups.push((said, vec![rank])),
        }
    }
    groups
}

/// `every rank`, or `ranks 0-3 on a, b and 2 more`.
fn who(ranks: &[usize], hosts: &[&str]) -> String {
    if ranks.len() == hosts.len() && ranks.len() > 1 {
        return "every rank".into();
    }
    let mut on: Vec<&str> = ranks.iter().map(|&rank| hosts[rank]).collect();
    on.dedup();
    format!("{} on {}", numbered("rank", ranks), some(&on))
}

/// `rank 3`, `ranks 0-3,8`
fn numbered(what: &str, numbers: &[usize]) -> String {
    let plural = if numbers.len() == 1 { "" } else { "s" };
    format!("{what}{plural} {}", ranges(numbers))
}

/// `0-3,8`; the numbers ascend.
fn ranges(numbers: &[usize]) -> String {
    let runs = numbers.chunk_by(|a, b| a + 1 == *b);
    let shown = runs.map(|run| match run {
        [first, .., last] => format!("{first}-{last}"),
        _ => run[0].to_string(),
    });
    shown.collect::<Vec<_>>().join(",")
}

/// The first three names, and how many more.
fn some(names: &[&str]) -> String {
    let more = match names.len().saturating_sub(3) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    format!("{}{more}", names[..names.len().min(3)].join(", "))
}

/// Decimal units, as vendors of discs and networks count.
fn bytes(count: f64) -> String {
    match count {
        1e9.. => format!("{:.1} GB", count / 1e9),
        1e6.. => format!("{:.1} MB", count / 1e6),
        _ => format!("{:.1} kB", count / 1e3),
    }
}

fn duration(seconds: f64) -> String {
    match seconds {
        1.0.. => format!("{seconds:.1} s"),
        1e-3.. => format!("{:.1} ms", seconds * 1e3),
        _ => format!("{:.1} us", seconds * 1e6),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_probe_that_hangs_or_fails_is_an_answer() {
        let slept = within(Duration::from_millis(20), || {
            thread::sleep(Duration::from_secs(5));
            Ok(1)
        });
        assert_eq!(slept, Err("no answer within 0.02 s".into()));
        let failed = within(PROBE_LIMIT, || -> Result<()> { anyhow::bail!("no disc") });
        assert_eq!(failed, Err("no disc".into()));
        assert_eq!(within(PROBE_LIMIT, || Ok(7)), Ok(7));
    }

    #[test]
    fn ranks_that_say_the_same_share_a_line() {
        assert_eq!(alike(["x", "y", "x"]), [("x", vec![0, 2]), ("y", vec![1])]);
        assert_eq!(who(&[0, 1], &["a", "b"]), "every rank");
        assert_eq!(
            who(&[1, 2, 4], &["a", "a", "b", "b", "c"]),
            "ranks 1-2,4 on a, b, c"
        );
        assert_eq!(who(&[0], &["a"]), "rank 0 on a");
        assert_eq!(some(&["a", "b", "c", "d", "e"]), "a, b, c and 2 more");
    }

    #[test]
    fn a_line_is_one_line() {
        let line = Line::fail("data", "not\nthere", "copy it");
        assert_eq!(line.text(), "FAIL data       not there  -> copy it");
        assert_eq!(bytes(1_903_876.0), "1.9 MB");
        assert_eq!(duration(0.000_26), "260.0 us");
    }
}
