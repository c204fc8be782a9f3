//! Where the time of each step goes, on every rank: always measured, summed up at the end, drawn on request.

use std::{
    fmt::Write,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::Result;
use serde_json::json;
use tch::{Cuda, Device};

use crate::{
    checkpoint::write_atomically,
    comm::{Comm, gather_f32, gather_lines},
    sampler::SplitMix,
};

/// What a rank does in a step, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Waiting for the loader
    Data,
    /// Rows become a tensor on the device
    Input,
    Forward,
    Backward,
    /// For the slowest rank to come to the sum
    Wait,
    /// Summing gradients
    Transfer,
    Optimizer,
    /// After some steps
    Evaluation,
    Checkpoint,
    /// Log and bookkeeping
    Rest,
}

/// With their names in tables and traces.
pub const PHASES: [(Phase, &str); 10] = [
    (Phase::Data, "data"),
    (Phase::Input, "input"),
    (Phase::Forward, "forward"),
    (Phase::Backward, "backward"),
    (Phase::Wait, "wait"),
    (Phase::Transfer, "transfer"),
    (Phase::Optimizer, "optimizer"),
    (Phase::Evaluation, "evaluation"),
    (Phase::Checkpoint, "checkpoint"),
    (Phase::Rest, "rest"),
];
const NUM: usize = PHASES.len();

/// Steps a rank remembers; of more it keeps a fair sample (reservoir sampling, Vitter 1985).
const REMEMBERED: usize = 4096;
/// Steps drawn by --trace: viewers grow slow above some 100,000 bars.
const TRACED: u64 = 1000;
/// On a GPU the host runs ahead of the device: only one step in so many waits for it and is timed, unless traced.
const GPU_EVERY: u64 = 16;

struct Bar {
    phase: Phase,
    step: u64,
    start: Duration,
    end: Duration,
}

pub struct Timeline {
    device: Device,
    start: Instant,
    last: Instant,
    step: u64,
    /// Steps begun by this process.
    begun: u64,
    timed: u64,
    of_step: [f32; NUM],
    totals: [f64; NUM],
    steps: Vec<[f32; NUM]>,
    random: SplitMix,
    trace: Option<Trace>,
}

struct Trace {
    bars: Vec<Bar>,
    /// Seconds to rank 0's clock at the start; at the end it is asked again, as clocks drift.
    offset: f64,
}

impl Timeline {
    /// A collective when `traced`.
    pub fn new(comm: &dyn Comm, device: Device, traced: bool) -> Self {
        let start = Instant::now();
        let trace = traced.then(|| Trace {
            bars: Vec::new(),
            offset: comm.clock_offset(start),
        });
        Self {
            device,
            start,
            last: Instant::now(),
            step: 0,
            begun: 0,
            timed: 0,
            of_step: [0.0; NUM],
            totals: [0.0; NUM],
            steps: Vec::new(),
            random: SplitMix::keyed(&[comm.rank() as u64]),
            trace,
        }
    }

    /// A step begins; the time since the last one's end was the rest of that.
    pub fn begin(&mut self, step: u64) {
        if self.begun > 0 {
            self.lap(Phase::Rest);
            self.keep();
        }
        (self.step, self.begun) = (step, self.begun + 1);
        self.last = Instant::now();
    }

    /// The time since the last lap belonged to `phase`.
    pub fn lap(&mut self, phase: Phase) {
        if !self.times() {
            return;
        }
        if let Device::Cuda(gpu) = self.device {
            Cuda::synchronize(gpu as i64);
        }
        let now = Instant::now();
        self.of_step[phase as usize] += (now - self.last).as_secs_f32();
        if let Some(trace) = self.trace.as_mut().filter(|_| self.begun <= TRACED) {
            let (start, end) = (self.last - self.start, now - self.start);
            let step = self.step;
            trace.bars.push(Bar {
                phase,
                step,
                start,
                end,
            });
        }
        self.last = now;
    }

    /// Seconds of this rank in a phase so far; on a GPU estimated from the steps that were timed.
    pub fn seconds(&self, phase: Phase) -> f64 {
        let sum = self.totals[phase as usize] + f64::from(self.of_step[phase as usize]);
        let under_way = u64::from(self.of_step.iter().any(|&seconds| seconds > 0.0));
        sum * self.begun as f64 / (self.timed + under_way).max(1) as f64
    }

    fn times(&self) -> bool {
        let traced = self.trace.is_some() && self.begun <= TRACED;
        self.device == Device::Cpu || traced || self.begun % GPU_EVERY == 1
    }

    fn keep(&mut self) {
        let step = std::mem::take(&mut self.of_step);
        if !self.times() {
            return;
        }
        self.timed += 1;
        for (total, seconds) in self.totals.iter_mut().zip(step) {
            *total += f64::from(seconds);
        }
        if self.steps.len() < REMEMBERED {
            self.steps.push(step);
        } else if let Some(kept) = self.steps.get_mut(self.random.below(self.timed) as usize) {
            *kept = step;
        }
    }

    /// Ends the last step. On rank 0 the table of all ranks; empty elsewhere, and where no step was timed.
    pub fn finish(&mut self, comm: &dyn Comm) -> String {
        if self.begun > 0 {
            self.lap(Phase::Rest);
            self.keep();
        }
        let all = gather_f32(comm, self.steps.as_flattened());
        let totals = gather_f32(comm, &self.totals.map(|total| total as f32));
        let hosts = gather_lines(comm, comm.host());
        if all.iter().all(Vec::is_empty) {
            return String::new();
        }
        table(&all, &totals, &hosts)
    }

    /// Writes the bars of all ranks for Perfetto, chrome://tracing or speedscope; times are rank 0's.
    pub fn write_trace(&mut self, comm: &dyn Comm, path: &Path) -> Result<()> {
        let Some(trace) = self.trace.take() else {
            return Ok(());
        };
        let (end, now) = (comm.clock_offset(self.start), self.start.elapsed());
        let drift = (end - trace.offset) / now.as_secs_f64();
        let aligned = |at: Duration| {
            let own = at.as_secs_f64();
            (own + trace.offset + drift * own) * 1e6
        };
        let mut lines = String::new();
        for bar in &trace.bars {
            // Whole microseconds: where bars end and begin at once, rounded decimals overlap, and viewers drop them.
            let (start, end) = (aligned(bar.start).round(), aligned(bar.end).round());
            writeln!(
                lines,
                r#"{{"name":"{}","ph":"X","pid":0,"tid":{},"ts":{start:.0},"dur":{:.0},"args":{{"step":{}}}}},"#,
                PHASES[bar.phase as usize].1,
                comm.rank(),
                end - start,
                bar.step
            )?;
        }
        let name = json!({"name": "thread_name", "ph": "M", "pid": 0, "tid": comm.rank(),
            "args": {"name": format!("rank {} on {}", comm.rank(), comm.host())}});
        lines += &format!("{name},\n");
        let parts = comm.gather(lines.as_bytes());
        if comm.rank() != 0 {
            return Ok(());
        }
        let mut text = b"{\"displayTimeUnit\":\"ms\",\"traceEvents\":[\n".to_vec();
        text.extend(parts.concat());
        let process = json!({"name": "process_name", "ph": "M", "pid": 0, "args": {"name": "tfbind-mpi train"}});
        text.extend(format!("{process}\n]}}\n").bytes());
        write_atomically(path, &text)?;
        if self.begun > TRACED {
            println!("trace: the first {TRACED} steps");
        }
        Ok(())
    }
}

/// Of a phase: median and 95th percentile of all steps of all ranks, its share of the ranks' time, and the rank whose
/// median is highest.
fn table(all: &[Vec<f32>], totals: &[Vec<f32>], hosts: &[String]) -> String {
    let steps: Vec<&[[f32; NUM]]> = all.iter().map(|rank| rank.as_chunks::<NUM>().0).collect();
    let sum = |phase: usize| totals.iter().map(|of| f64::from(of[phase])).sum::<f64>();
    let whole: f64 = (0..NUM).map(sum).sum();
    let mut out = format!(
        "{:>10}  {:>10}  {:>10}  {:>6}  {}\n",
        "phase", "median_ms", "p95_ms", "share", "slowest rank (its median_ms)"
    );
    let slowest = |value: &dyn Fn(&[f32; NUM]) -> f32| {
        let medians = steps.iter().enumerate().map(|(rank, steps)| {
            let mut values: Vec<f32> = steps.iter().map(value).collect();
            (rank, quantile(&mut values, 0.5))
        });
        medians
            .max_by(|a, b| a.1.total_cmp(&b.1))
            .expect("there is a rank")
    };
    for (phase, name) in PHASES {
        let phase = phase as usize;
        let mut pooled: Vec<f32> = steps
            .iter()
            .flat_map(|of| of.iter().map(|s| s[phase]))
            .collect();
        let (rank, worst) = slowest(&|step| step[phase]);
        writeln!(
            out,
            "{name:>10}  {:>10.3}  {:>10.3}  {:>5.1}%  {rank} ({:.3})",
            1e3 * quantile(&mut pooled, 0.5),
            1e3 * quantile(&mut pooled, 0.95),
            100.0 * sum(phase) / whole,
            1e3 * worst
        )
        .expect("writing to a string");
    }
    let computes = |s: &[f32; NUM]| {
        let own = [Phase::Data, Phase::Input, Phase::Forward, Phase::Backward];
        own.iter().map(|&phase| s[phase as usize]).sum::<f32>()
    };
    let (rank, worst) = slowest(&computes);
    let mut pooled: Vec<f32> = steps
        .iter()
        .flat_map(|of| of.iter().map(computes))
        .collect();
    let lost = 100.0 * sum(Phase::Wait as usize) / whole;
    out + &format!(
        "slowest_rank {rank} on {}: {:.3} ms from data to backward, median of all {:.3}\nlost_to_waiting {lost:.2} %\n",
        hosts[rank],
        1e3 * worst,
        1e3 * quantile(&mut pooled, 0.5)
    )
}

fn quantile(values: &mut [f32], q: f64) -> f32 {
    if values.is_empty() {
        return 0.0;
    }
    let at = ((values.len() - 1) as f64 * q).round() as usize;
    *values.select_nth_unstable_by(at, f32::total_cmp).1
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::comm::Solo;

    #[test]
    fn each_lap_lands_in_its_phase_and_costs_little() {
        let mut timeline = Timeline::new(&Solo, Device::Cpu, false);
        for step in 1..=3 {
            timeline.begin(step);
            timeline.lap(Phase::Data);
            std::thread::sleep(Duration::from_millis(5));
            timeline.lap(Phase::Forward);
        }
        let table = timeline.finish(&Solo);
        let forward = table.lines().find(|line| line.contains("forward")).unwrap();
        let median: f64 = forward.split_whitespace().nth(1).unwrap().parse().unwrap();
        assert!((5.0..50.0).contains(&median), "{table}");
        assert_eq!(timeline.steps.len(), 3);

        // Less than 1 % of a step of 1 ms, far shorter than any real one.
        let mut timeline = Timeline::new(&Solo, Device::Cpu, false);
        let began = Instant::now();
        for step in 0..10_000 {
            timeline.begin(step);
            for (phase, _) in PHASES {
                timeline.lap(phase);
            }
        }
        assert_eq!(timeline.steps.len(), REMEMBERED);
        let of_a_step = began.elapsed() / 10_000;
        assert!(of_a_step < Duration::from_micros(10), "{of_a_step:?}");
    }

    #[test]
    fn the_table_names_the_slow_rank() {
        let step = |backward: f32, wait: f32| {
            let mut phases = [0.0; NUM];
            (phases[3], phases[4]) = (backward, wait);
            phases
        };
        let ranks = vec![[step(0.1, 0.1); 4].concat(), [step(0.2, 0.0); 4].concat()];
        let totals = vec![step(0.4, 0.4).to_vec(), step(0.8, 0.0).to_vec()];
        let text = table(&ranks, &totals, &["a".into(), "b".into()]);
        assert!(text.contains("slowest_rank 1 on b: 200.000 ms"), "{text}");
        assert!(text.contains("lost_to_waiting 25.00 %"), "{text}");
    }
}
