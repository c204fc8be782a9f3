//! From compact rows to what a model reads, on the device: one-hot bases, signal, labels. The rows travel as they lie in
//! the file (40 KB a window of 10,240 bases with a track, in place of 205 KB), or lie on the GPU already.

use std::{
    ops::Range,
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
};

use anyhow::{Context, Result};
use tch::{Device, Kind, Tensor};

use crate::{
    data::{Draw, Rows, Windows},
    model::{Io, Layout},
};

/// What a model's input is to be.
#[derive(Clone, Copy, Debug)]
pub struct Form {
    pub io: Io,
    pub layout: Layout,
    pub kind: Kind,
}

/// Rows on the device as they lie in the file.
pub struct Compact {
    /// [B, L] u8, A C G T N = 0..4
    seq: Tensor,
    /// [B, S, L] f16
    signal: Tensor,
    /// [B, T, M] i8
    pub label: Tensor,
}

/// A whole split on the device, margins included.
#[derive(Debug)]
pub struct Resident {
    /// seq [N, W] u8, signal [N, S, W] f16, label [N, T, M] i8. Behind a lock, for tch lets a tensor go from thread to
    /// thread but not be shared.
    tensors: Mutex<[Tensor; 3]>,
    length: i64,
    margin: i64,
    per_base: bool,
}

impl Form {
    pub fn plain(io: Io) -> Self {
        Self {
            io,
            layout: Layout::Plain,
            kind: Kind::Float,
        }
    }

    /// [B, 4 + S, L], or [B, C, 1, L] with the channels last and padded. N is zero in all four bases.
    pub fn input(self, compact: &Compact) -> Tensor {
        let bases = Tensor::arange(4, (Kind::Uint8, compact.seq.device()));
        let (tracks, channels) = (self.io.channels - 4, self.io.channels);
        match self.layout {
            Layout::Plain => {
                let one_hot = compact.seq.unsqueeze(1).eq_tensor(&bases.view([1, 4, 1]));
                let one_hot = one_hot.to_kind(self.kind);
                if tracks == 0 {
                    return one_hot;
                }
                Tensor::cat(&[one_hot, compact.signal.to_kind(self.kind)], 1)
            }
            Layout::ChannelsLast => {
                let one_hot = compact.seq.unsqueeze(2).eq_tensor(&bases.view([1, 1, 4]));
                let mut parts = vec![one_hot.to_kind(self.kind)];
                if tracks > 0 {
                    parts.push(compact.signal.permute([0, 2, 1]).to_kind(self.kind));
                }
                let padding = self.layout.padded(channels) - channels;
                if padding > 0 {
                    let size = [compact.seq.size()[0], compact.seq.size()[1], padding];
                    parts.push(parts[0].new_zeros(size, (self.kind, compact.seq.device())));
                }
                // [B, L, C] -> [B, C, 1, L]
                Tensor::cat(&parts, 2).unsqueeze(1).permute([0, 3, 1, 2])
            }
        }
    }
}

impl Rows {
    /// What travels to the device: the rows, or where they are drawn from on it [B, 3]. To a GPU it goes by page-locked
    /// memory, which libtorch keeps and gives out again only when its copy is done: the host waits for none of it.
    pub fn send(&self, io: Io, device: Device) -> Vec<Tensor> {
        let batch = self.len() as i64;
        let labels = if io.per_base { io.length } else { 1 };
        let host = match &self.resident {
            Some(_) => {
                let numbers = self.draws.iter().flat_map(|draw| {
                    assert!(!draw.between, "training draws no window between two rows");
                    let turned = i64::from(draw.reverse_complement);
                    [i64::from(draw.row), draw.shift, turned]
                });
                vec![Tensor::from_slice(&numbers.collect::<Vec<_>>()).view([batch, 3])]
            }
            None => vec![
                Tensor::from_slice(&self.seq).view([batch, io.length]),
                Tensor::from_slice(&self.signal).view([batch, io.channels - 4, io.length]),
                Tensor::from_slice(&self.label).view([batch, io.targets, labels]),
            ],
        };
        match device {
            Device::Cuda(_) => host
                .into_iter()
                .map(|part| {
                    let locked = part.pin_memory(device);
                    locked.internal_to_copy((part.kind(), device), true)
                })
                .collect(),
            _ => host,
        }
    }

    /// The rows from what was sent.
    pub fn compact(&self, sent: &[Tensor]) -> Compact {
        match &self.resident {
            Some(resident) => resident.gather(&sent[0]),
            None => Compact {
                seq: sent[0].shallow_clone(),
                signal: sent[1].shallow_clone(),
                label: sent[2].shallow_clone(),
            },
        }
    }

    /// Rows that lie on the device.
    pub fn drawn(draws: Vec<Draw>, resident: Arc<Resident>) -> Self {
        Self {
            draws,
            resident: Some(resident),
            ..Self::default()
        }
    }
}

impl Resident {
    /// Of a split with `rows` windows.
    pub fn bytes(windows: &Windows) -> u64 {
        let header = &windows.header;
        let (tracks, targets) = (header.tracks.len(), header.targets.len());
        let row = header.width() * (1 + 2 * tracks) + targets * header.label_len();
        (row * windows.num_rows()) as u64
    }

    /// None if `stop` is set before all rows are read.
    pub fn load(windows: &Windows, device: Device, stop: &AtomicBool) -> Result<Option<Self>> {
        /// Rows read at a time: some 10 MB.
        const CHUNK: usize = 256;
        let (header, rows) = (&windows.header, windows.num_rows());
        let (width, labels) = (header.width() as i64, header.label_len() as i64);
        let (tracks, targets) = (header.tracks.len() as i64, header.targets.len() as i64);
        let sizes = [
            (vec![width], Kind::Uint8),
            (vec![tracks, width], Kind::Half),
            (vec![targets, labels], Kind::Int8),
        ];
        let [seq, signal, label] = sizes.map(|(size, kind)| {
            let size: Vec<i64> = [rows as i64].into_iter().chain(size).collect();
            Tensor::f_empty(size, (kind, device))
        });
        let whole = [seq?, signal?, label?];
        for first in (0..rows).step_by(CHUNK) {
            if stop.load(Ordering::Relaxed) {
                return Ok(None);
            }
            let range: Range<usize> = first..(first + CHUNK).min(rows);
            let (at, count) = (first as i64, range.len() as i64);
            let read = windows.read_whole(range)?;
            let parts = [
                Tensor::from_slice(&read.seq),
                Tensor::from_slice(&read.signal),
                Tensor::from_slice(&read.label),
            ];
            for (part, whole) in parts.iter().zip(&whole) {
                let mut place = whole.narrow(0, at, count);
                place.copy_(&part.view_as(&place));
            }
        }
        Ok(Some(Self {
            tensors: Mutex::new(whole),
            length: header.length as i64,
            margin: header.margin as i64,
            per_base: windows.io().per_base,
        }))
    }

    /// As `Windows::read` cuts rows, for draws [B, 3] of row, shift and whether to take the reverse complement.
    fn gather(&self, draws: &Tensor) -> Compact {
        let tensors = self.tensors.lock().expect("no panic while held");
        let [seq, signal, label] = &*tensors;
        let (length, device) = (self.length, seq.device());
        let part = |i| draws.select(1, i);
        let (row, shift, turned) = (part(0), part(1).unsqueeze(1), part(2).ne(0).unsqueeze(1));
        // Place in the window that each place of the output shows [B, L].
        let forward = Tensor::arange(length, (Kind::Int64, device)).unsqueeze(0);
        let shown = forward.where_self(&turned.logical_not(), &((length - 1) - &forward));
        let columns = &shown + &shift + self.margin;
        let code = seq.index_select(0, &row).gather(1, &columns, false);
        let complement = (3i64 - &code).where_self(&code.lt(4), &code);
        let of = |rows: &Tensor, columns: &Tensor| {
            let size = [rows.size()[0], rows.size()[1], length];
            rows.gather(2, &columns.unsqueeze(1).expand(size, false), false)
        };
        let label = label.index_select(0, &row);
        let label = match self.per_base {
            false => label,
            true => {
                // Bases that a shift brings in from the margin have no label.
                let inside = &shown + &shift;
                let unknown = inside.lt(0).logical_or(&inside.ge(length));
                let label = of(&label, &inside.clamp(0, length - 1));
                label.masked_fill(&unknown.unsqueeze(1), -1)
            }
        };
        Compact {
            seq: complement.where_self(&turned, &code),
            signal: of(&signal.index_select(0, &row), &columns),
            label,
        }
    }
}

/// A split on its way to the device, in a thread of its own: until all of it is there, rows are read as they are drawn,
/// so that training starts at once.
pub struct Filling {
    place: Arc<OnceLock<Result<Arc<Resident>, String>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Filling {
    pub fn start(windows: Arc<Windows>, device: Device) -> Result<Self> {
        let (place, stop) = (Arc::new(OnceLock::new()), Arc::new(AtomicBool::new(false)));
        let (there, asked) = (place.clone(), stop.clone());
        let fill = move || {
            let loaded = Resident::load(&windows, device, &asked);
            if let Some(loaded) = loaded.transpose() {
                let _ = there.set(loaded.map(Arc::new).map_err(|err| format!("{err:#}")));
            }
        };
        let thread = thread::Builder::new().name("filling".into()).spawn(fill);
        Ok(Self {
            place,
            stop,
            thread: Some(thread.context("starting the thread that fills the GPU")?),
        })
    }

    /// For the loader: the rows once they are all there.
    pub fn place(&self) -> Arc<OnceLock<Result<Arc<Resident>, String>>> {
        self.place.clone()
    }
}

impl Drop for Filling {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::tests::windows;

    fn draws() -> Vec<Draw> {
        let draw = |row, shift, reverse_complement| Draw {
            row,
            between: false,
            shift,
            reverse_complement,
        };
        vec![
            draw(0, 0, false),
            draw(1, -2, false),
            draw(1, 1, true),
            draw(0, 2, true),
        ]
    }

    #[test]
    fn rows_on_the_device_are_those_of_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let windows = windows(folder.path());
        let io = windows.io();
        let never = AtomicBool::new(false);
        let resident = Resident::load(&windows, Device::Cpu, &never).unwrap();
        let drawn = Rows::drawn(draws(), Arc::new(resident.unwrap()));
        let read = windows.read(&draws()).unwrap();
        let both = |rows: &Rows| (rows.input(io, Device::Cpu), rows.labels(io, Device::Cpu));
        let (here, there) = (both(&read), both(&drawn));
        assert!(here.0.equal(&there.0) && here.1.equal(&there.1));
        let one = both(&drawn.one(2));
        assert!(one.0.equal(&here.0.narrow(0, 2, 1)) && one.1.equal(&here.1.narrow(0, 2, 1)));
        assert_eq!(Resident::bytes(&windows), 2 * (12 * 5 + 2 * 8));
    }

    #[test]
    fn channels_last_holds_the_same_and_zeros() {
        let folder = tempfile::tempdir().unwrap();
        let windows = windows(folder.path());
        let (io, rows) = (windows.io(), windows.read(&draws()).unwrap());
        let compact = rows.compact(&rows.send(io, Device::Cpu));
        let form = Form {
            layout: Layout::ChannelsLast,
            ..Form::plain(io)
        };
        let (plain, last) = (Form::plain(io).input(&compact), form.input(&compact));
        let [batch, length] = [rows.len() as i64, io.length];
        assert_eq!(last.size(), [batch, 8, 1, length]);
        assert_eq!(last.stride(), [8 * length, 1, 8 * length, 8]);
        let last = last.squeeze_dim(2);
        assert!(last.narrow(1, 0, io.channels).equal(&plain));
        let rest = last.narrow(1, io.channels, 8 - io.channels);
        assert_eq!(rest.abs().max().double_value(&[]), 0.0);
    }

    #[test]
    fn a_loader_goes_over_to_the_device() {
        let folder = tempfile::tempdir().unwrap();
        let windows = Arc::new(windows(folder.path()));
        let filling = Filling::start(windows, Device::Cpu).unwrap();
        let place = filling.place();
        let start = std::time::Instant::now();
        while place.get().is_none() {
            assert!(start.elapsed().as_secs() < 10);
            thread::yield_now();
        }
        assert!(place.get().unwrap().is_ok());
    }
}
