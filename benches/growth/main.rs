//! How time and peak memory grow: with the batch, the window's length, the network's width, the windows in the file and
//! the ranks. `benches/growth.sh` builds what this calls. A table, a picture, and for each curve the fitted exponent
//! beside the one that cannot be helped.

mod cells;
mod sparse;

use std::{fs, path::PathBuf};

use anyhow::{Context, Result};
use clap::Parser;
use tfbind_mpi::report::svg::{BLUE, ORANGE, Panel, Svg};

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

/// Both scales logarithmic: a power is a straight line.
fn picture(curves: &[(&Axis, Vec<Point>)]) -> String {
    const STEP: f64 = 130.0;
    let mut svg = Svg::new(2.0 * STEP * curves.len() as f64);
    let mut top = 25.0;
    for (axis, points) in curves {
        for (value, colour) in [(Value::Time, BLUE), (Value::Memory, ORANGE)] {
            let ends = |of: &dyn Fn(&Point) -> f64| {
                let all = || points.iter().map(of);
                (
                    all().fold(f64::INFINITY, f64::min),
                    all().fold(0.0, f64::max),
                )
            };
            let (x, y) = (ends(&|point| point.size), ends(&|point| point.of(value)));
            let panel = Panel {
                top,
                height: STEP - 50.0,
                x: (x.0.ln(), x.1.ln()),
                y: (0.9 * y.0, 1.1 * y.1),
                log: true,
            };
            let title = format!(
                "{value}: {}, exponent {:.2}",
                axis.of,
                exponent(points, value)
            );
            svg.frame(&panel, &title);
            let line = points
                .iter()
                .map(|point| (point.size.ln(), point.of(value)));
            svg.line(&panel, line, colour, 2.0);
            svg.x_axis(&panel, axis.name, (&x.0.to_string(), &x.1.to_string()));
            top += STEP;
        }
    }
    svg.finish()
}
