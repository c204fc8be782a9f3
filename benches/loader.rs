//! How fast a rank's loader reads windows in random order, as training asks for them.
//!
//!     cargo bench --bench loader -- --data DATA.h5 --consumes 70
//!
//! `--consumes`: windows that the fastest engine uses in a second; the loader should read ten times as many, as it
//! shares the rank's core with the engine. Read twice, the second time from the system's cache, as in a second epoch, or
//! from the program's own memory, where a split of up to 64 MiB stays.

use std::{path::PathBuf, sync::Arc, time::Instant};

use anyhow::{Result, ensure};
use clap::Parser;
use tfbind_mpi::{
    cli::positive,
    data::{Augment, Draw, Rows, Windows},
    loader::Loader,
    sampler::permutation,
};

/// Multiple of the consumption that is asked for.
const TARGET: f64 = 10.0;

#[derive(Parser)]
struct Arguments {
    /// HDF5 file of tfbind-prep
    #[arg(long)]
    data: PathBuf,
    #[arg(long, default_value = "train")]
    split: String,
    #[arg(long, default_value_t = 8, value_parser = positive())]
    batch: usize,
    /// Windows a pass; the split is gone through again if it has fewer
    #[arg(long, default_value_t = 4000, value_parser = positive())]
    windows: usize,
    #[arg(long, default_value_t = 5, value_parser = positive())]
    passes: usize,
    /// Windows a second of the fastest engine
    #[arg(long)]
    consumes: Option<f64>,
    /// Added by cargo
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let windows = Arc::new(Windows::open(&arguments.data, &arguments.split)?);
    let augment = Augment {
        seed: 1,
        reverse_complement: true,
        max_shift: windows.header.margin as i64,
    };
    let order = permutation(1, 0, windows.num_rows());
    let draws: Vec<Draw> = order
        .iter()
        .cycle()
        .take(arguments.windows)
        .map(|&row| augment.draw(0, row))
        .collect();
    let batches: Vec<Vec<Draw>> = draws
        .chunks(arguments.batch)
        .map(<[Draw]>::to_vec)
        .collect();

    let (mut speeds, mut sums) = (Vec::new(), Vec::new());
    for _ in 0..=arguments.passes {
        let mut loader = Loader::start(windows.clone(), batches.clone().into_iter())?;
        let (began, mut sum) = (Instant::now(), 0u64);
        for _ in 0..batches.len() {
            sum = sum
                .wrapping_mul(31)
                .wrapping_add(sum_of(&loader.next_rows()?));
        }
        speeds.push(draws.len() as f64 / began.elapsed().as_secs_f64());
        sums.push(sum);
    }
    ensure!(
        sums.iter().all(|sum| *sum == sums[0]),
        "two passes read other windows"
    );
    // Without the thread: what a window costs the core.
    let began = Instant::now();
    let direct = batches.iter().try_fold(0u64, |sum, batch| {
        let rows = windows.read(batch)?;
        anyhow::Ok(sum.wrapping_mul(31).wrapping_add(sum_of(&rows)))
    })?;
    let of_window = 1e3 * began.elapsed().as_secs_f64() / draws.len() as f64;
    ensure!(
        direct == sums[0],
        "the loader's windows are not those read directly"
    );

    let first = speeds.remove(0);
    speeds.sort_by(f64::total_cmp);
    let median = speeds[speeds.len() / 2];
    println!(
        "{} windows of {} bases, {} tracks, {} targets, batches of {}",
        draws.len(),
        windows.header.length,
        windows.header.tracks.len(),
        windows.header.targets.len(),
        arguments.batch
    );
    println!(
        "first pass {first:.0} samples/s; then median {median:.0} of {}, least {:.0}",
        speeds.len(),
        speeds[0]
    );
    println!("read_ms {of_window:.3} a window");
    if let Some(consumes) = arguments.consumes {
        let multiple = median / consumes;
        let met = if multiple >= TARGET { "met" } else { "not met" };
        println!(
            "loader: {median:.0} samples/s, {multiple:.1}x what the engine consumes ({consumes:.1}), >= {TARGET}x {met}"
        );
    }
    Ok(())
}

/// Of some bytes of each array, so that summing is no part of what is timed.
fn sum_of(rows: &Rows) -> u64 {
    let seq = rows.seq.iter().step_by(97).map(|&base| u64::from(base));
    let label = rows.label.iter().step_by(89).map(|&label| label as u64);
    let signal = rows
        .signal
        .iter()
        .step_by(101)
        .map(|of| u64::from(of.to_bits()));
    seq.chain(label)
        .chain(signal)
        .fold(0, |sum, value| sum.wrapping_mul(31).wrapping_add(value))
}
