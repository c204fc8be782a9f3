//! Mean relevance by its place in the window: how far a model sees.

use std::{fmt::Write, path::Path};

use anyhow::Result;

use crate::{
    checkpoint::write_atomically,
    report::svg::{BLUE, GREEN, ORANGE, Panel, Svg},
};

/// Points of a curve, of which each is the mean of its places.
const POINTS: usize = 400;
const HEIGHT: f64 = 110.0;
const GAP: f64 = 34.0;

pub struct Profile<'a> {
    parts: &'a [String],
    length: usize,
    /// Sums of the amount of relevance [parts, L].
    sums: Vec<f64>,
    windows: u64,
}

impl<'a> Profile<'a> {
    pub fn new(parts: &'a [String], length: usize) -> Self {
        Self {
            parts,
            length,
            sums: vec![0.0; parts.len() * length],
            windows: 0,
        }
    }

    /// Rows of [parts, L].
    pub fn add(&mut self, rows: &[f32]) {
        for row in rows.chunks_exact(self.sums.len()) {
            for (sum, value) in self.sums.iter_mut().zip(row) {
                *sum += f64::from(value.abs());
            }
            self.windows += 1;
        }
    }

    fn mean(&self, part: usize, at: usize) -> f64 {
        self.sums[part * self.length + at] / self.windows.max(1) as f64
    }

    /// Bases to the right of the middle.
    fn offset(&self, at: usize) -> i64 {
        at as i64 - (self.length / 2) as i64
    }

    /// STEM.tsv and STEM.svg.
    pub fn write(&self, stem: &Path, target: &str) -> Result<()> {
        let name = |ending: &str| {
            let mut name = stem.as_os_str().to_owned();
            name.push(ending);
            name
        };
        let (table, picture) = (name(".tsv"), name(".svg"));
        write_atomically(Path::new(&table), self.table().as_bytes())?;
        write_atomically(Path::new(&picture), self.picture(target).as_bytes())?;
        for file in [table, picture] {
            println!("by place in the window: {}", Path::new(&file).display());
        }
        Ok(())
    }

    fn table(&self) -> String {
        let mut text = format!("offset\t{}\n", self.parts.join("\t"));
        for at in 0..self.length {
            let _ = write!(text, "{}", self.offset(at));
            for part in 0..self.parts.len() {
                let _ = write!(text, "\t{:e}", self.mean(part, at));
            }
            text.push('\n');
        }
        text
    }

    fn picture(&self, target: &str) -> String {
        let mut svg = Svg::new(GAP + self.parts.len() as f64 * (HEIGHT + GAP) + 10.0);
        let step = self.length.div_ceil(POINTS);
        for (part, name) in self.parts.iter().enumerate() {
            let points: Vec<(f64, f64)> = (0..self.length)
                .step_by(step)
                .map(|from| {
                    let places = from..(from + step).min(self.length);
                    let count = places.len() as f64;
                    let sum: f64 = places.map(|at| self.mean(part, at)).sum();
                    (self.offset(from) as f64, sum / count)
                })
                .collect();
            let highest = points.iter().map(|point| point.1).fold(0.0, f64::max);
            let ends = (points[0].0, self.offset(self.length - 1) as f64);
            let panel = Panel {
                top: GAP + part as f64 * (HEIGHT + GAP),
                height: HEIGHT,
                x: ends,
                y: (0.0, highest.max(f64::MIN_POSITIVE)),
                log: false,
            };
            let title = format!(
                "{name}: mean relevance for {target}, {} windows",
                self.windows
            );
            svg.frame(&panel, &title);
            let colour = [BLUE, ORANGE, GREEN][part % 3];
            svg.area(&panel, &points, colour);
            let ends = [ends.0, ends.1].map(|end| format!("{end:+}"));
            svg.x_axis(&panel, "bases from the middle", (&ends[0], &ends[1]));
        }
        svg.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_averaged_place_by_place() {
        let parts = ["sequence".to_string(), "dnase".to_string()];
        let mut profile = Profile::new(&parts, 3);
        profile.add(&[1.0, -2.0, 0.0, 4.0, 0.0, 0.0, -3.0, 0.0, 0.0, 0.0, 0.0, 1.0]);
        let table = profile.table();
        let rows: Vec<&str> = table.lines().collect();
        assert_eq!(
            rows,
            [
                "offset\tsequence\tdnase",
                "-1\t2e0\t2e0",
                "0\t1e0\t0e0",
                "1\t0e0\t5e-1"
            ]
        );
    }
}
