//! The data file as every rank sees it: opened, compared, and read at random; and the model that fits it.

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use tch::{Device, nn::VarStore};
use tfbind_prep::schema::DataFile;

use super::{Line, PROBE_LIMIT, alike, some, who, within};
use crate::{
    comm::Comm,
    data::{Draw, Windows},
    model::{Arch, Io, Options},
    sampler::SplitMix,
};

/// How long every rank reads.
const READING: Duration = Duration::from_millis(500);
/// Bases a second that one rank's U-Net trains on: 64 windows of 10,240 in 83 ms on an A100 (NTHU 2022); 34 windows on a
/// core with AVX-512 (`make bench-step`). Reading below that holds up training.
const GPU_PACE: f64 = 7_900_000.0;
const CPU_PACE: f64 = 350_000.0;

/// `None` without --data.
type Read = Option<Result<Reading, String>>;

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Reading {
    /// What must be the same on every host: splits and their sizes, recipe.
    content: String,
    io: Io,
    windows_per_s: f64,
    bytes_per_s: f64,
}

/// Sizes of a model in bytes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sizes {
    /// Summed over the ranks in every step: gradients and running statistics.
    pub reduced: usize,
    /// Weights, running statistics and two moments.
    pub checkpoint: usize,
}

impl Sizes {
    /// Rank 0's.
    pub fn share(self, comm: &dyn Comm) -> Self {
        let mut both = [self.reduced as u64, self.checkpoint as u64].map(u64::to_le_bytes);
        comm.broadcast(both.as_flattened_mut());
        let [reduced, checkpoint] = both.map(|bytes| u64::from_le_bytes(bytes) as usize);
        Self {
            reduced,
            checkpoint,
        }
    }
}

/// Asked before a file is opened: one that hangs holds the library.
pub fn library() -> Line {
    let (major, minor, patch) = hdf5::library_version();
    Line::ok("hdf5", format!("{major}.{minor}.{patch}"))
}

pub fn probe(path: PathBuf, rank: usize) -> Result<Reading, String> {
    within(PROBE_LIMIT, move || {
        let file = DataFile::open(&path)?;
        let splits = file.splits();
        let first = splits
            .first()
            .with_context(|| format!("{}: no splits", path.display()))?;
        let sizes = splits
            .iter()
            .map(|name| Ok(format!("{name} {}", file.split(name)?.len())))
            .collect::<Result<Vec<_>>>()?;
        let header = file.header();
        let tracks: Vec<&str> = header.tracks.iter().map(String::as_str).collect();
        let content = format!(
            "{}: {} windows of {} bases, signal {}, recipe {:.8}",
            path.display(),
            sizes.join(", "),
            header.length,
            some(&tracks),
            header.recipe_hash
        );
        let windows = Windows::open(&path, first)?;
        let (mut random, mut read, mut bytes) = (SplitMix::keyed(&[rank as u64]), 0, 0);
        let began = Instant::now();
        while began.elapsed() < READING {
            let rows = windows.num_rows() as u64;
            let draws: Vec<Draw> = (0..8)
                .map(|_| Draw::from(random.below(rows) as u32))
                .collect();
            let rows = windows.read(&draws)?;
            read += rows.len();
            bytes += rows.seq.len() + 2 * rows.signal.len() + rows.label.len();
        }
        let seconds = began.elapsed().as_secs_f64();
        Ok(Reading {
            content,
            io: windows.io(),
            windows_per_s: read as f64 / seconds,
            bytes_per_s: bytes as f64 / seconds,
        })
    })
}

pub fn judge(reads: &[Read], path: Option<&Path>, hosts: &[&str], gpus: bool) -> Vec<Line> {
    if reads.is_empty() {
        return Vec::new();
    }
    let Some(path) = path else {
        return vec![Line::ok("data", "not looked at: no --data")];
    };
    let mut lines = Vec::new();
    let reads: Vec<&Result<Reading, String>> = reads.iter().flatten().collect();
    for (err, ranks) in alike(reads.iter().map(|read| read.as_ref().err())) {
        let Some(err) = err else { continue };
        let advice = match err {
            _ if err.contains("lock") => {
                "the file system has no locks: export HDF5_USE_FILE_LOCKING=FALSE (mpirun -x)"
            }
            _ if err.contains("no answer") => {
                "the file system hangs: try ls there, ask its keepers"
            }
            _ if ranks.len() < reads.len() => {
                "put the file where every host sees it, or copy it to the same path on all"
            }
            _ => "name the file that tfbind-prep make wrote; tfbind-prep inspect looks at one",
        };
        let named = match err.contains(&path.display().to_string()) {
            true => String::new(),
            false => format!("{}: ", path.display()),
        };
        let found = format!("{}: {named}{err}", who(&ranks, hosts));
        lines.push(Line::fail("data", found, advice));
    }
    let good: Vec<&Reading> = reads.iter().filter_map(|read| read.as_ref().ok()).collect();
    let contents = alike(good.iter().map(|read| read.content.as_str()));
    if !lines.is_empty() || contents.is_empty() {
        return lines;
    }
    if let [(_, a), (_, b), ..] = &contents[..] {
        let found = format!(
            "{} and {} see different files: {} / {}",
            who(a, hosts),
            who(b, hosts),
            contents[0].0,
            contents[1].0
        );
        lines.push(Line::fail(
            "data",
            found,
            "copy the same file to every host",
        ));
        return lines;
    }
    lines.push(Line::ok("data", contents[0].0));
    let slowest = (0..good.len())
        .min_by(|&a, &b| good[a].windows_per_s.total_cmp(&good[b].windows_per_s))
        .expect("there is one");
    let read = good[slowest];
    let found = format!(
        "{:.0} random windows/s, {:.1} MB/s, slowest {}",
        read.windows_per_s,
        read.bytes_per_s / 1e6,
        some(&[who(&[slowest], hosts).as_str()])
    );
    let pace = if gpus { GPU_PACE } else { CPU_PACE };
    lines.push(if read.windows_per_s * (read.io.length as f64) < pace {
        let advice = "reading will hold up training: copy the file to the node's own disc ($TMPDIR, $PBS_JOBFS)";
        Line::warn("reading", found, advice)
    } else {
        Line::ok("reading", found)
    });
    lines
}

/// Of the model for the data file's windows; for the published ones (10,240 bases, one track) without a file. A file
/// that the model cannot take is said.
pub fn sizes(arch: Arch, read: Option<&Read>) -> (Sizes, Option<Line>) {
    let published = arch.paper().io;
    let io = match read {
        Some(Some(Ok(read))) => read.io,
        _ => published,
    };
    let of = |io| -> Result<Sizes> {
        let store = VarStore::new(Device::Cpu);
        arch.build(&store.root(), io, Options::default())?;
        let (mut trained, mut all) = (0, 0);
        for tensor in store.variables().values() {
            all += tensor.numel();
            trained += if tensor.requires_grad() {
                tensor.numel()
            } else {
                0
            };
        }
        Ok(Sizes {
            reduced: 4 * all,
            checkpoint: 4 * (all + 2 * trained),
        })
    };
    match of(io) {
        Ok(sizes) => (sizes, None),
        Err(err) => {
            let advice = "choose another --arch, or make windows that fit it";
            let line = Line::fail("model", format!("{err:#}"), advice);
            (of(published).unwrap_or_default(), Some(line))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Mark;

    fn good(content: &str, windows_per_s: f64) -> Read {
        Some(Ok(Reading {
            content: content.into(),
            io: Io {
                channels: 5,
                length: 10_240,
                targets: 1,
                per_base: true,
                classes: 1,
            },
            windows_per_s,
            bytes_per_s: 1e6,
        }))
    }

    fn text(reads: &[Read]) -> String {
        let lines = judge(reads, Some(Path::new("d.h5")), &["a", "b"], true);
        lines.iter().map(|line| line.text() + "\n").collect()
    }

    #[test]
    fn a_file_that_one_host_lacks_fails_by_name() {
        let text = text(&[good("x", 900.0), Some(Err("no such file".into()))]);
        assert!(
            text.contains("FAIL data       rank 1 on b: d.h5: no such file  -> put the file"),
            "{text}"
        );
    }

    #[test]
    fn different_copies_fail_and_slow_reading_warns() {
        let different = text(&[good("x", 900.0), good("y", 900.0)]);
        assert!(
            different.contains("FAIL data       rank 0 on a and rank 1 on b see different"),
            "{different}"
        );
        let slow = text(&[good("x", 900.0), good("x", 20.0)]);
        assert!(
            slow.contains("warn reading    20 random windows/s") && slow.contains("rank 1 on b"),
            "{slow}"
        );
    }

    #[test]
    fn a_model_has_sizes_and_refuses_windows_it_cannot_take() {
        let (sizes, line) = sizes(Arch::Unet, None);
        assert_eq!(
            (sizes.reduced, sizes.checkpoint),
            (4 * 475_969, 4 * (475_969 + 2 * 474_017))
        );
        assert!(line.is_none());
        let Some(Ok(mut reading)) = good("x", 1.0) else {
            unreachable!()
        };
        reading.io.length = 1_001;
        let (small, line) = super::sizes(Arch::Unet, Some(&Some(Ok(reading))));
        assert_eq!(line.map(|line| line.mark), Some(Mark::Fail));
        assert_eq!(small.reduced, sizes.reduced);
    }
}
