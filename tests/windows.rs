//! Models of one label a window: against Keras and PyTorch (tests/golden), over ranks, and from others' weights.

pub mod golden;
mod imported;
mod recipes;

use std::{fs, path::PathBuf};

use half::f16;
use serde_json::Value;
use tch::{Device, Kind};
use tfbind_mpi::{
    data::{Draw, Rows},
    engine::{Build, EngineChoice, Net},
    model::{Arch, Io, Options},
    scaling::{random_header, random_window},
};
use tfbind_prep::schema::{DataWriter, Header, Task};

use crate::{common::Run, golden::golden};

/// Shortest that all models read, and some more.
const LENGTH: usize = 200;

fn read(name: &str) -> Value {
    serde_json::from_slice(&fs::read(golden(name)).unwrap()).unwrap()
}

pub fn numbers(value: &Value) -> Vec<f64> {
    let all = value.as_array().unwrap().iter();
    all.map(|one| one.as_f64().unwrap()).collect()
}

fn arch(name: &str) -> Arch {
    let mut all = Arch::ALL.iter();
    *all.find(|arch| arch.name() == name).unwrap()
}

fn net(arch: Arch, io: Io, options: Options, kind: Kind) -> Net {
    let build = Build {
        arch,
        options,
        io,
        device: Device::Cpu,
        engine: EngineChoice::Libtorch,
        kind,
        seed: 0,
        prior: None,
    };
    build.net().unwrap()
}

fn rows(case: &Value, windows: usize, label: Vec<i8>) -> Rows {
    let signal = case.get("signal").map(numbers).unwrap_or_default();
    Rows {
        draws: (0..windows as u32).map(Draw::from).collect(),
        seq: numbers(&case["seq"]).into_iter().map(|n| n as u8).collect(),
        signal: signal.into_iter().map(f16::from_f64).collect(),
        label,
        repeat: vec![false; windows],
        resident: None,
    }
}

/// A file of windows with `targets` labels each, of the windows as they are or of their reverse complements.
fn write_windows(run: &Run, name: &str, length: usize, targets: usize, turned: bool) -> PathBuf {
    let header = Header {
        task: Task::PerWindow,
        tracks: Vec::new(),
        targets: (0..targets).map(|target| format!("t{target}")).collect(),
        groups: vec![String::new(); targets],
        ..random_header(length)
    };
    let path = run.path(name);
    let mut writer = DataWriter::create(&path, &header, true).unwrap();
    writer.set_bin(length / 4).unwrap();
    for (split, windows) in [("train", 26), ("valid", 8), ("test", 9)] {
        for row in 0..windows {
            let mut window = random_window((1000 * split.len() + row) as i64, length);
            window.signal.clear();
            window.label = (0..targets)
                .map(|target| i8::from((row + target) % 3 == 0))
                .collect();
            if row == 4 {
                window.label[0] = -1;
            }
            if turned {
                window.seq.reverse();
                window
                    .seq
                    .iter_mut()
                    .filter(|base| **base < 4)
                    .for_each(|base| *base = 3 - *base);
            }
            writer.push(split, &window).unwrap();
        }
    }
    writer.finish().unwrap();
    path
}

/// Narrow where it can be, as published in all else.
fn arguments(arch: Arch) -> Vec<&'static str> {
    let narrow = ["deepsea", "danq", "danq-jaspar", "basset"].contains(&arch.name());
    let width = if narrow {
        &["--width", "0.03"][..]
    } else {
        &[]
    };
    [&["--arch", arch.name()], width].concat()
}
