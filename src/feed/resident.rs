//! All rows of a split on the device, from which a batch is gathered there.

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

use super::Compact;
use crate::data::Windows;

/// A whole split on the device, margins included.
#[derive(Debug)]
pub struct Resident {
    /// seq [N, W] u8, signal [N, S, W] f16, label [N, T, M] i8. Behind a lock, for tch lets a tensor go from thread to
    /// thread but not be shared.
    tensors: Mutex<[Tensor; 3]>,
    length: i64,
    margin: i64,
    per_base: bool,
    /// On the other strand a label is this less what it is here, if it is another.
    mirror: Option<i64>,
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
            mirror: header.task.mirror().map(i64::from),
        }))
    }

    /// As `Windows::read` cuts rows, for draws [B, 3] of row, shift and whether to take the reverse complement.
    pub(super) fn gather(&self, draws: &Tensor) -> Compact {
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
            false => match self.mirror {
                None => label,
                Some(top) => (top - &label).where_self(&turned.unsqueeze(2), &label),
            },
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
