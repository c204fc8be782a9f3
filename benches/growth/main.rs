//! How time and peak memory grow: with the batch, the window's length, the network's width, the windows in the file and
//! the ranks. `benches/growth.sh` builds what this calls. A table, a picture, and for each curve the fitted exponent
//! beside the one that cannot be helped.

mod cells;
mod sparse;

use std::{fs, path::PathBuf};

use anyhow::{Context, Result, ensure};
use clap::Parser;
use tfbind_mpi::report::svg::{BLUE, GREEN, ORANGE, Panel, Svg, decades, plain};

use cells::{Axis, Point, Value};

/// What a fitted exponent may exceed the allowed one by: noise, and caches that get too small.
const TOLERANCE: f64 = 0.1;

#[derive(Parser)]
pub struct Arguments {
    /// The bench `step`, built
    #[arg(long)]
    step: PathBuf,
    /// tfbind-mpi
    #[arg(long)]
    train: PathBuf,
    /// HDF5 file of a few windows of 1,024 bases, whose train split is made longer without writing windows
    #[arg(long)]
    data: PathBuf,
    /// Folder for growth.csv and growth.svg
    #[arg(long)]
    out: PathBuf,
    /// Passed on to `step`
    #[arg(long, default_value = "auto")]
    engine: String,
    #[arg(long, default_value_t = 5)]
    repeats: usize,
    /// Curves to draw: batch, length, width, windows, ranks
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "batch,length,width,windows,ranks"
    )]
    only: Vec<String>,
    /// Leave the largest sizes out: so many of each curve
    #[arg(long, default_value_t = 0)]
    fewer: usize,
    /// Added by cargo
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    fs::create_dir_all(&arguments.out)?;
    for name in &arguments.only {
        ensure!(
            Axis::ALL.iter().any(|axis| axis.name == name),
            "--only {name}: no such curve; batch, length, width, windows or ranks"
        );
    }
    let mut csv = String::from("axis,size,ms,peak_mb\n");
    let (mut curves, mut grow_too_fast) = (Vec::new(), 0);
    for axis in Axis::ALL
        .iter()
        .filter(|axis| arguments.only.iter().any(|of| of == axis.name))
    {
        println!(
            "{:<8} {:>10} {:>12} {:>10}   {}",
            axis.name, "", "ms", "peak_mb", axis.of
        );
        let mut points = Vec::new();
        let sizes = &axis.sizes[..axis.sizes.len().saturating_sub(arguments.fewer).max(2)];
        for &size in sizes {
            let point = axis
                .measure(&arguments, size)
                .with_context(|| format!("{} {size}", axis.name))?;
            println!("{:<8} {size:>10} {:>12.3} {:>10.1}", "", point.ms, point.mb);
            csv += &format!("{},{size},{:.3},{:.1}\n", axis.name, point.ms, point.mb);
            points.push(point);
        }
        for value in [Value::Time, Value::Memory] {
            let (fitted, allowed) = (exponent(&points, value), axis.allowed(value));
            let verdict = if fitted <= allowed + TOLERANCE {
                "as it must"
            } else {
                grow_too_fast += 1;
                "FASTER than it must"
            };
            let linear = if fitted > 1.0 + TOLERANCE {
                ", faster than linear"
            } else {
                ""
            };
            println!(
                "{:<8} {value} ~ {}^{fitted:.2}{linear}; allowed {allowed}: {verdict}",
                "", axis.name
            );
        }
        curves.push((axis, points));
    }
    fs::write(arguments.out.join("growth.csv"), csv)?;
    fs::write(arguments.out.join("growth.svg"), picture(&curves))?;
    println!(
        "written {0}/growth.csv {0}/growth.svg",
        arguments.out.display()
    );
    println!(
        "growth: {grow_too_fast} of {} curves grow faster than they must",
        2 * curves.len()
    );
    Ok(())
}

/// Least squares through the logarithms of the larger half: at small sizes what is constant hides the growth.
fn exponent(points: &[Point], value: Value) -> f64 {
    let half = points.len() / 2;
    let logs: Vec<(f64, f64)> = points[half.min(points.len() - 2)..]
        .iter()
        .map(|point| (point.size.ln(), point.of(value).max(1e-9).ln()))
        .collect();
    let count = logs.len() as f64;
    let mean = |of: &dyn Fn(&(f64, f64)) -> f64| logs.iter().map(of).sum::<f64>() / count;
    let (x, y) = (mean(&|log| log.0), mean(&|log| log.1));
    let along: f64 = logs.iter().map(|log| (log.0 - x) * (log.1 - y)).sum();
    along / logs.iter().map(|log| (log.0 - x).powi(2)).sum::<f64>()
}

/// Both scales logarithmic: a power is a straight line. Dashed: what cannot be helped, through the largest size.
fn picture(curves: &[(&Axis, Vec<Point>)]) -> String {
    const STEP: f64 = 190.0;
    let mut svg = Svg::new(2.0 * STEP * curves.len() as f64);
    let mut top = 25.0;
    for (axis, points) in curves {
        for (value, colour) in [(Value::Time, BLUE), (Value::Memory, ORANGE)] {
            let (first, last) = (&points[0], &points[points.len() - 1]);
            let all = points.iter().map(|point| point.of(value));
            let ends = all.fold((f64::INFINITY, 0.0_f64), |(low, high), y| {
                (low.min(y), high.max(y))
            });
            // A tenfold scale at least: a level curve is to look level.
            let margin = (10.0 * ends.0 / ends.1).max(1.5).sqrt();
            let panel = Panel {
                top,
                height: STEP - 55.0,
                x: (first.size.ln(), last.size.ln()),
                y: (ends.0 / margin, ends.1 * margin),
                log: true,
            };
            for (level, name) in decades(panel.y) {
                svg.level(&panel, level, &name);
            }
            let sizes = points
                .iter()
                .map(|point| (point.size.ln(), plain(point.size)));
            svg.ticks(&panel, &sizes.collect::<Vec<_>>());
            let allowed = axis.allowed(value);
            svg.outline(
                &panel,
                &format!(
                    "{value} ~ {}^{:.2}, allowed {allowed} (dashed): {}",
                    axis.name,
                    exponent(points, value),
                    axis.of
                ),
            );
            let at = |size: f64| (size.ln(), last.of(value) * (size / last.size).powf(allowed));
            let lowest = last.size * (panel.y.0 / last.of(value)).powf(1.0 / allowed);
            svg.dashes(
                &panel,
                [at(first.size.max(lowest)), at(last.size)],
                GREEN,
                1.5,
                "6 4",
            );
            let measured = || {
                points
                    .iter()
                    .map(|point| (point.size.ln(), point.of(value)))
            };
            svg.line(&panel, measured(), colour, 2.0);
            for point in measured() {
                svg.dot(&panel, point, colour);
            }
            top += STEP;
        }
    }
    svg.finish()
}
