//! genome.svg: signal, labels and predictions along a stretch of the genome.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use tfbind_prep::schema::{Locus, PredictionFile};

use super::svg::{BLUE, GREEN, ORANGE, Panel, Svg};
use crate::data::{Draw, Windows};

/// Neighbouring windows that are drawn cover about so many bases.
const VIEW: usize = 20_000;
const MOST_TARGETS: usize = 4;

/// Neighbouring windows, or one where none has a neighbour.
struct Stretch {
    first: usize,
    windows: usize,
}

/// The stretch of the split that holds most positives, and the name of the model that predicted `path`; none where
/// labels are classes.
pub fn draw(windows: &Windows, data: &Path, path: &Path) -> Result<Option<(String, String)>> {
    if windows.io().classes > 1 {
        return Ok(None);
    }
    let predictions = PredictionFile::open(path)
        .context("drawing needs predictions: run `tfbind-mpi predict` first")?;
    let (header, loci) = (&windows.header, windows.loci()?);
    let of = predictions.header();
    ensure!(
        (&of.targets, of.label_len()) == (&header.targets, header.label_len()),
        "{}: predicts {:?} (labels a window: {}), {} holds {:?} ({}); run `tfbind-mpi predict` on it again",
        path.display(),
        of.targets,
        of.label_len(),
        data.display(),
        header.targets,
        header.label_len()
    );
    // Bases that a window's labels speak for, in its middle; windows of such labels overlap.
    let bases = windows.bin.unwrap_or(header.length);
    let margin = (header.length - bases) / 2;
    let positives = |row: u32| -> Result<usize> {
        let label = windows.read(&[Draw::from(row)])?.label;
        Ok(label.iter().filter(|&&label| label > 0).count())
    };
    let positives: Vec<usize> = (0..loci.len() as u32)
        .map(positives)
        .collect::<Result<_>>()?;
    let stretch = richest(&positives, &loci, bases);
    let shown = stretch.first..stretch.first + stretch.windows;
    let rows: Vec<Draw> = shown.clone().map(|row| Draw::from(row as u32)).collect();
    let shown_rows = windows.read(&rows)?;
    let loci = &loci[shown];
    let start = (loci[0].start + margin as i64) as f64;

    let (tracks, targets) = (header.tracks.len(), header.targets.len());
    let drawn = targets.min(MOST_TARGETS);
    let label_len = header.label_len();
    // Bases of a label.
    let scale = bases as f64 / label_len as f64;
    let mut svg = Svg::new(25.0 + (85 * tracks + 150 * drawn) as f64);
    let x = (start, start + (stretch.windows * bases) as f64);
    let mut top = 25.0;
    let mut next = |y: (f64, f64), height: f64| {
        let panel = Panel {
            top,
            height,
            x,
            y,
            log: false,
        };
        top += height + 25.0;
        panel
    };
    for (track, name) in header.tracks.iter().enumerate() {
        let signal = shown_rows.signal.chunks_exact(header.length);
        let values = signal.skip(track).step_by(tracks);
        let values = values.flat_map(|row| &row[margin..][..bases]);
        let points: Vec<_> = values
            .enumerate()
            .map(|(i, value)| (start + i as f64, f64::from(value.to_f32())))
            .collect();
        let highest = points.iter().map(|point| point.1).fold(1e-3, f64::max);
        let panel = next((0.0, highest), 60.0);
        let title = format!("{name} (normalised: {})", header.normalise);
        svg.frame(&panel, &title);
        svg.area(&panel, &points, GREEN);
    }
    let predicted = predictions.loci()?;
    let at = |locus: &Locus, i: usize| (locus.start + margin as i64) as f64 + i as f64 * scale;
    for (target, name) in header.targets.iter().take(drawn).enumerate() {
        let panel = next((0.0, 1.0), 25.0);
        svg.frame(&panel, &format!("{name}: bound (label)"));
        let labels = shown_rows.label.chunks_exact(label_len);
        for (locus, label) in loci.iter().zip(labels.skip(target).step_by(targets)) {
            for run in runs(label) {
                svg.span(&panel, at(locus, run.0), at(locus, run.1), ORANGE);
            }
        }
        let panel = next((0.0, 1.0), 75.0);
        svg.frame(&panel, &format!("{name}: predicted probability"));
        for locus in loci {
            let row = predicted.iter().position(|of| of == locus);
            let row = row.with_context(|| format!("{}: made from other data", path.display()))?;
            let values = predictions.read_rows(row..row + 1)?;
            let values = values[target * label_len..][..label_len].iter().enumerate();
            let points: Vec<_> = values
                .flat_map(|(i, &p)| [i, i + 1].map(|edge| (at(locus, edge), f64::from(p))))
                .collect();
            svg.area(&panel, &points, BLUE);
        }
        let ends = (format!("{}", x.0), format!("{}", x.1));
        let contig = &header.contigs[loci[0].contig as usize].name;
        svg.x_axis(&panel, contig, (&ends.0, &ends.1));
    }
    Ok(Some((svg.finish(), of.model.clone())))
}

/// Few positives leave room to see what else the model reacts to; many show more sites. Of the neighbouring windows that
/// cover [`VIEW`], the richest; where no windows are such neighbours, of half as many, and so on.
fn richest(positives: &[usize], loci: &[Locus], bases: usize) -> Stretch {
    let touch = |pair: &[Locus]| {
        pair[0].contig == pair[1].contig && pair[0].start + bases as i64 == pair[1].start
    };
    let sum = |first: usize, windows: usize| positives[first..][..windows].iter().sum::<usize>();
    let mut windows = VIEW.div_ceil(bases).min(loci.len());
    loop {
        let first = (0..=loci.len() - windows)
            .filter(|&first| loci[first..][..windows].windows(2).all(touch))
            .max_by_key(|&first| sum(first, windows));
        match first {
            Some(first) => return Stretch { first, windows },
            // A window alone has no neighbour to lack.
            None => windows = windows.div_ceil(2),
        }
    }
}

/// Runs of positives as half-open ranges.
fn runs(label: &[i8]) -> Vec<(usize, usize)> {
    let mut runs: Vec<(usize, usize)> = Vec::new();
    for i in (0..label.len()).filter(|&i| label[i] > 0) {
        match runs.last_mut() {
            Some(run) if run.1 == i => run.1 = i + 1,
            _ => runs.push((i, i + 1)),
        }
    }
    runs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_richest_neighbours_are_shown_and_of_lone_windows_one() {
        let locus = |contig, start| Locus {
            contig,
            start,
            strand: 1,
        };
        let chosen = |positives: &[usize], loci: &[Locus]| {
            let Stretch { first, windows } = richest(positives, loci, 8000);
            (first, windows)
        };
        let row = [0, 8000, 16_000, 24_000, 48_000].map(|start| locus(0, start));
        assert_eq!(chosen(&[1, 0, 0, 2, 9], &row), (1, 3));
        // A pair and two alone.
        let pair = [locus(0, 0), locus(1, 0), locus(1, 8000), locus(2, 0)];
        assert_eq!(chosen(&[5, 0, 1, 7], &pair), (1, 2));
        let alone = [0, 1, 2].map(|contig| locus(contig, 0));
        assert_eq!(chosen(&[0, 1, 0], &alone), (1, 1));
    }
}
