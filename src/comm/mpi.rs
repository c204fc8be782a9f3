//! Ranks under any MPI library, through host memory.

use std::{
    cell::{Cell, RefCell},
    io::Write,
    ops::Range,
    process, thread,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use mpi::{
    Threading,
    collective::SystemOperation,
    datatype::PartitionMut,
    environment::{self, Universe},
    topology::{Color, SimpleCommunicator},
    traits::*,
};

use super::{
    Comm,
    watch::{Place, Watch, set_place, within},
};

/// A host name is cut at so many bytes when ranks tell each other where they are.
const HOST_BYTES: usize = 64;
const CLOCK: i32 = 7003;
/// For the last line of a rank to go through the launcher: MPICH's drops at an abort what it has not passed on, which
/// was the line of one abort in nine.
const PASSED_ON: Duration = Duration::from_millis(100);
/// Of so many exchanges the fastest tells best how far two clocks are apart.
const EXCHANGES: usize = 20;
/// Between two looks whether all have met: nobody is in a hurry.
const MEETING: Duration = Duration::from_millis(20);

/// All ranks of the job, or a group of them.
pub struct Mpi {
    world: SimpleCommunicator,
    local_rank: usize,
    local_size: usize,
    host: String,
    watch: Watch,
    /// Collectives so far: the same on all ranks that have come as far.
    count: Cell<u64>,
    levels: Option<Levels>,
    // The last field, hence the last dropped: it calls MPI_Finalize, after which no communicator may be freed. A group
    // has none, and lives within the life of the whole.
    _universe: Option<Universe>,
}

/// Ranks of one node, and one rank of each node: a sum then crosses the network once a node, not once a rank.
struct Levels {
    node: SimpleCommunicator,
    leaders: Option<SimpleCommunicator>,
    of_node: RefCell<Vec<f32>>,
}

impl Mpi {
    /// Starts MPI. From here on a panic on any rank has to abort the whole job: `Universe` would otherwise call
    /// MPI_Finalize while unwinding and wait for ranks that sit in a collective.
    pub fn start(stall_timeout: Duration) -> Result<Self> {
        let (universe, threading) = environment::initialize_with_threading(Threading::Funneled)
            .expect("MPI is started once");
        ensure!(
            threading >= Threading::Funneled,
            "the MPI library grants only {threading:?}; this program reads data in a second thread and needs Funneled"
        );
        let world = universe.world();
        let local = world.split_shared(world.rank());
        let host = environment::processor_name().unwrap_or_else(|_| "unknown host".into());
        let hosts = hosts(&world, &host);
        Ok(Self {
            watch: Watch::new(universe.world(), hosts, 0, stall_timeout)?,
            local_rank: local.rank() as usize,
            local_size: local.size() as usize,
            host,
            count: Cell::new(0),
            levels: Levels::where_they_pay(&world, &local),
            world,
            _universe: Some(universe),
        })
    }

    /// Sums in two levels, over nodes of so many neighbouring ranks; or, with none, in one.
    pub fn sum_by_nodes_of(&mut self, ranks: Option<usize>) {
        let rank = self.rank();
        self.levels = ranks.map(|ranks| Levels::new(&self.world, rank / ranks));
    }

    /// Every collective: all ranks come, then MPI moves the data.
    fn collective<T>(&self, call: impl FnOnce() -> T) -> T {
        self.count.set(self.count.get() + 1);
        if self.size() > 1 {
            self.watch.arrive(self.count.get());
        }
        self.watch.blocking(call)
    }
}

impl Levels {
    /// On several nodes of which one has several of these ranks.
    fn where_they_pay(world: &SimpleCommunicator, local: &SimpleCommunicator) -> Option<Self> {
        // A node is known by the first of its ranks.
        let mut first = [world.rank(); 1];
        local.process_at_rank(0).broadcast_into(&mut first);
        let (own, mut nodes) = (i32::from(local.rank() == 0), 0);
        world.all_reduce_into(&own, &mut nodes, SystemOperation::sum());
        let pays = nodes > 1 && nodes < world.size();
        pays.then(|| Self::new(world, first[0] as usize))
    }

    /// `node` is the same number for the ranks of one node.
    fn new(world: &SimpleCommunicator, node: usize) -> Self {
        let of_node = world.split_by_color(Color::with_value(node as i32));
        let of_node = of_node.expect("every rank has a node");
        let leaders = world.split_by_color(match of_node.rank() {
            0 => Color::with_value(0),
            _ => Color::undefined(),
        });
        Self {
            node: of_node,
            leaders,
            of_node: RefCell::default(),
        }
    }
}

/// Says what ended the job, and ends all ranks.
pub fn end_job(rank: usize, host: &str, cause: &str) -> ! {
    say(rank, host, cause);
    end_all()
}

/// In one piece: mpirun mixes what several ranks write in parts.
pub fn say(rank: usize, host: &str, cause: &str) {
    say_alone(&format!("rank {rank} on {host}: {}{cause}", within()));
}

/// Where there is one rank.
pub fn say_alone(cause: &str) {
    let _ = std::io::stderr().write_all(format!("error: {cause}\n").as_bytes());
}

pub fn end_all() -> ! {
    if environment::is_initialized() && !environment::is_finalized() {
        thread::sleep(PASSED_ON);
        SimpleCommunicator::world().abort(1)
    }
    process::exit(1)
}

/// The bytes of each rank that travel in each round: no more than `most` at once, as MPI counts them in 31 bits.
fn rounds(counts: &[usize], most: usize) -> impl Iterator<Item = Vec<Range<usize>>> {
    let piece = most / counts.len();
    let longest = counts.iter().copied().max().unwrap_or(0);
    (0..longest.div_ceil(piece)).map(move |round| {
        let place = |at: usize, count: usize| (at * piece).min(count);
        let of = |&count: &usize| place(round, count)..place(round + 1, count);
        counts.iter().map(of).collect()
    })
}

/// The host of every rank.
fn hosts(world: &SimpleCommunicator, own: &str) -> Vec<String> {
    let mut name = [0u8; HOST_BYTES];
    let bytes = &own.as_bytes()[..own.len().min(HOST_BYTES)];
    name[..bytes.len()].copy_from_slice(bytes);
    let mut names = vec![0u8; HOST_BYTES * world.size() as usize];
    world.all_gather_into(&name[..], &mut names[..]);
    let text = |name: &[u8]| {
        String::from_utf8_lossy(name)
            .trim_end_matches('\0')
            .to_string()
    };
    names.chunks(HOST_BYTES).map(text).collect()
}

impl Comm for Mpi {
    fn rank(&self) -> usize {
        self.world.rank() as usize
    }
    fn size(&self) -> usize {
        self.world.size() as usize
    }
    fn local_rank(&self) -> usize {
        self.local_rank
    }
    fn local_size(&self) -> usize {
        self.local_size
    }
    fn host(&self) -> &str {
        &self.host
    }

    fn note(&self, what: &'static str, step: u64) {
        set_place(Place { what, step });
    }

    fn sum_into(&self, own: &[f32], sums: &mut [f32]) {
        let sum = SystemOperation::sum();
        self.collective(|| match &self.levels {
            None => self.world.all_reduce_into(own, sums, sum),
            Some(levels) => {
                let first = levels.node.process_at_rank(0);
                match &levels.leaders {
                    Some(leaders) => {
                        let mut of_node = levels.of_node.borrow_mut();
                        of_node.resize(own.len(), 0.0);
                        first.reduce_into_root(own, &mut of_node[..], sum);
                        leaders.all_reduce_into(&of_node[..], sums, sum);
                    }
                    None => first.reduce_into(own, sum),
                }
                first.broadcast_into(sums);
            }
        });
    }

    fn sum_f64(&self, values: &mut [f64]) {
        let own = values.to_vec();
        let sum = SystemOperation::sum();
        self.collective(|| self.world.all_reduce_into(&own[..], values, sum));
    }

    fn sum_u64(&self, values: &mut [u64]) {
        let own = values.to_vec();
        let sum = SystemOperation::sum();
        self.collective(|| self.world.all_reduce_into(&own[..], values, sum));
    }

    fn broadcast(&self, bytes: &mut [u8]) {
        // An empty message is an error to Open MPI: its address is no address.
        if !bytes.is_empty() {
            self.collective(|| self.world.process_at_rank(0).broadcast_into(bytes));
        }
    }

    fn gather(&self, bytes: &[u8]) -> Vec<Vec<u8>> {
        let root = self.world.process_at_rank(0);
        let mut counts = vec![0u64; self.size()];
        let count = bytes.len() as u64;
        self.collective(|| self.world.all_gather_into(&count, &mut counts[..]));
        let counts: Vec<usize> = counts.into_iter().map(|count| count as usize).collect();
        let mut gathered: Vec<Vec<u8>> = match self.rank() {
            0 => counts
                .iter()
                .map(|&count| Vec::with_capacity(count))
                .collect(),
            _ => Vec::new(),
        };
        for places in rounds(&counts, i32::MAX as usize) {
            let own = &bytes[places[self.rank()].clone()];
            // An empty slice of bytes lies at address 1, which is MPI_IN_PLACE to Open MPI.
            let own = if own.is_empty() { &[0u8; 1][..0] } else { own };
            if self.rank() != 0 {
                self.collective(|| root.gather_varcount_into(own));
                continue;
            }
            let sizes: Vec<i32> = places.iter().map(|of| of.len() as i32).collect();
            let starts: Vec<i32> = sizes
                .iter()
                .scan(0, |next, &size| {
                    let start = *next;
                    *next += size;
                    Some(start)
                })
                .collect();
            let total: i32 = sizes.iter().sum();
            let mut all = vec![0u8; total.max(1) as usize];
            let mut parts = PartitionMut::new(&mut all[..], sizes, &starts[..]);
            self.collective(|| root.gather_varcount_into_root(own, &mut parts));
            let mut rest = &all[..];
            for (of_rank, place) in gathered.iter_mut().zip(places) {
                let (own, others) = rest.split_at(place.len());
                rest = others;
                of_rank.extend_from_slice(own);
            }
        }
        gathered
    }

    fn barrier(&self) {
        self.collective(|| self.world.barrier());
    }

    fn meet(&self) {
        let mut all_are_here = self.world.immediate_barrier();
        while let Err(pending) = all_are_here.test() {
            all_are_here = pending;
            thread::sleep(MEETING);
        }
    }

    fn split(&self, ranks: usize) -> Result<Box<dyn Comm + '_>> {
        let first = self.rank() / ranks * ranks;
        let color = Color::with_value(first as i32);
        let group = self.collective(|| {
            let key = self.world.rank();
            self.world.split_by_color_with_key(color, key)
        });
        let world = group.expect("every rank has a group");
        let local = world.split_shared(world.rank());
        let (hosts, timeout) = (hosts(&world, &self.host), self.watch.timeout);
        Ok(Box::new(Self {
            watch: Watch::new(world.duplicate(), hosts, self.watch.first + first, timeout)?,
            local_rank: self.local_rank,
            local_size: self.local_size,
            host: self.host.clone(),
            count: Cell::new(0),
            levels: Levels::where_they_pay(&world, &local),
            world,
            _universe: None,
        }))
    }

    fn watched(&self, call: &mut dyn FnMut()) {
        self.watch.blocking(call);
    }

    /// Rank 0 answers each rank in turn with its own time; the shortest exchange bounds the error by half of itself.
    fn clock_offset(&self, start: Instant) -> f64 {
        let now = || start.elapsed().as_secs_f64();
        let (root, mut best) = (self.world.process_at_rank(0), (f64::INFINITY, 0.0));
        for rank in 1..self.size() {
            self.barrier();
            let other = self.world.process_at_rank(rank as i32);
            self.watch.blocking(|| {
                for _ in 0..EXCHANGES {
                    if self.rank() == 0 {
                        other.receive_with_tag::<u8>(CLOCK);
                        other.send_with_tag(&now(), CLOCK);
                    } else if self.rank() == rank {
                        let asked = now();
                        root.send_with_tag(&0u8, CLOCK);
                        let (theirs, _) = root.receive_with_tag::<f64>(CLOCK);
                        let took = now() - asked;
                        if took < best.0 {
                            best = (took, theirs - (asked + took / 2.0));
                        }
                    }
                }
            });
        }
        best.1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_bytes_travel_once_and_never_too_many_at_once() {
        let counts = [7, 0, 25];
        let found: Vec<_> = rounds(&counts, 32).collect();
        assert_eq!(
            found,
            [
                [0..7, 0..0, 0..10],
                [7..7, 0..0, 10..20],
                [7..7, 0..0, 20..25]
            ]
        );
        assert_eq!(rounds(&counts, 96).count(), 1);
        assert_eq!(rounds(&[0, 0], 96).count(), 0);
    }
}
