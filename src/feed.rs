//! From compact rows to what a model reads, on the device: one-hot bases, signal, labels. The rows travel as they lie in
//! the file (40 KB a window of 10,240 bases with a track, in place of 205 KB), or lie on the GPU already.

mod resident;
#[cfg(test)]
mod tests;

pub use resident::{Filling, Resident};

use std::sync::Arc;

use tch::{Device, Kind, Tensor};

use crate::{
    data::{Draw, Rows},
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
                    // Tensor::pin_memory warns at every call that it need not be told the device.
                    let locked = part.internal_pin_memory(device);
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
