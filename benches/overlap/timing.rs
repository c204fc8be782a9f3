//! Times every way of a step in turn and prints the table.

use std::{fs, time::Instant};

use mpi::{collective::SystemOperation, topology::SimpleCommunicator, traits::*};

use crate::step::{How, Trainer};

/// Milliseconds, each that of the slowest rank.
#[derive(Default)]
struct Times {
    took: Vec<f64>,
    /// Of these, how long the main thread was ready to run and had no core: other programs, or its own second thread.
    queued: Vec<f64>,
}

impl Times {
    fn add(&mut self, world: &SimpleCommunicator, mut work: impl FnMut()) {
        world.barrier();
        let (began, queued) = (Instant::now(), queued());
        work();
        let own = [began.elapsed().as_secs_f64() * 1e3, self::queued() - queued];
        let mut slowest = [0.0; 2];
        world.all_reduce_into(&own[..], &mut slowest[..], SystemOperation::max());
        self.took.push(slowest[0]);
        self.queued.push(slowest[1]);
    }

    fn row(&self, name: &str, over: &str, hidden: &str) -> String {
        format!(
            "| {name:40} | {:.0} | {:.0} | {over} | {hidden} | {:.0} |",
            quantile(&self.took, 0.5),
            quantile(&self.took, 0.95),
            quantile(&self.queued, 0.5)
        )
    }
}

/// Every way in turn, each round begun by another.
pub fn time(
    world: &SimpleCommunicator,
    trainer: &mut Trainer,
    ways: &[How],
    batch: i64,
    rounds: usize,
    said: &dyn Fn(String),
) {
    let mut steps: Vec<Times> = ways.iter().map(|_| Times::default()).collect();
    let (mut blocking, mut in_buckets) = (Times::default(), Times::default());
    let mut windows = Vec::new();
    // One more than asked for: the first warms up.
    for round in 0..=rounds {
        for turn in 0..ways.len() {
            let way = (round + turn) % ways.len();
            steps[way].add(world, || trainer.step(ways[way]));
        }
        blocking.add(world, || trainer.reduce());
        in_buckets.add(world, || trainer.reduce_in_buckets());
        windows.push(trainer.window.as_secs_f64() * 1e3);
    }
    for times in steps.iter_mut().chain([&mut blocking, &mut in_buckets]) {
        times.took.remove(0);
        times.queued.remove(0);
    }
    windows.remove(0);

    let exposed: Vec<f64> = steps
        .iter()
        .map(|step| {
            let pairs = step.took.iter().zip(&steps[0].took);
            quantile(
                &pairs.map(|(step, alone)| step - alone).collect::<Vec<_>>(),
                0.5,
            )
        })
        .collect();
    said(format!(
        "\n{} ranks, batch {batch} a rank, {rounds} rounds; ms, slowest rank. exposed: median of step - a, round by round; \
         hidden: 1 - exposed / exposed of b;\nno core: time a step's main thread waited for its core. In a step, {:.0} ms \
         of backward follow the linear layers: behind these 91 % of the sum can hide.\n",
        world.size(),
        quantile(&windows, 0.5)
    ));
    said(format!(
        "| {:40} | median | p95 | exposed | hidden | no core |",
        "step"
    ));
    said("|---|---|---|---|---|---|".into());
    for ((how, step), over) in ways.iter().zip(&steps).zip(&exposed) {
        let hidden = format!("{:.0} %", 100.0 * (1.0 - over / exposed[1]));
        let over = format!("{over:.0}");
        let name = how.to_string();
        said(match how {
            How::Alone => step.row(&name, "", ""),
            How::Simple | How::Segments => step.row(&name, &over, ""),
            _ => step.row(&name, &over, &hidden),
        });
    }
    said(blocking.row("allreduce of 211 MB alone, blocking", "", ""));
    said(in_buckets.row("the same, non-blocking, in buckets", "", ""));
    let lost = quantile(&steps[0].queued, 0.5) / quantile(&steps[0].took, 0.5);
    if lost > 0.02 {
        said(format!(
            "noisy: other programs took {:.0} % of step a",
            100.0 * lost
        ));
    }
}

/// Milliseconds that this thread has waited for a core (Linux; 0 where the kernel does not count them).
fn queued() -> f64 {
    let text = fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let nanoseconds = text
        .split_whitespace()
        .nth(1)
        .and_then(|word| word.parse::<f64>().ok());
    nanoseconds.unwrap_or(0.0) / 1e6
}

fn quantile(values: &[f64], share: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let place = (share * sorted.len() as f64).ceil() as usize;
    sorted[place.clamp(1, sorted.len()) - 1]
}
