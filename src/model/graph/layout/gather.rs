//! Copies of flat numbers in another order, with zeros among them: how they are listed, made anew and brought back.

use tch::{Kind, Tensor};

use super::Layout;

/// Copies of a tensor begin at a multiple of so many numbers: cuDNN's kernels for tensor cores want 16 bytes.
const ALIGNED: usize = 8;

/// Numbers that a tensor of so many takes up among the copies.
pub fn room(numbers: usize) -> usize {
    numbers.next_multiple_of(ALIGNED)
}

/// Where each channel of a layer's output stands: the channel of the plain graph, or none where it is padding.
pub type Channels = Vec<Option<i64>>;

/// Copies of some flat numbers in another order, with zeros among them.
#[derive(Debug)]
pub struct Copies {
    /// For each copy, its place in the flat numbers, which a zero follows [N].
    pub from: Tensor,
    /// [N]
    pub values: Tensor,
    /// For each of the flat numbers it holds, (place there, place here).
    pub places: Vec<(i64, i64)>,
}

/// A list of such copies as it grows.
#[derive(Default)]
pub struct Gather {
    from: Vec<i64>,
    /// Sizes and strides of the tensors, one after the other, and where each starts.
    views: Vec<(Vec<i64>, Vec<i64>, i64)>,
}

impl Gather {
    pub fn vector(&mut self, of: &Tensor, flat: &Tensor, channels: &Channels) {
        let (start, zero) = (place(of, flat), flat.numel() as i64);
        let size = channels.len() as i64;
        let begin = self.begin(zero);
        self.views.push((vec![size], vec![1], begin));
        let from = channels
            .iter()
            .map(|channel| channel.map_or(zero, |channel| start + channel));
        self.from.extend(from);
    }

    /// Where the next tensor's copies begin; zeros fill up what the last one left.
    fn begin(&mut self, zero: i64) -> i64 {
        self.from.resize(room(self.from.len()), zero);
        self.from.len() as i64
    }

    /// A weight [F, S, K] with the channels of its first two dimensions.
    pub fn weight(&mut self, of: &Tensor, flat: &Tensor, both: [&Channels; 2], layout: Layout) {
        let (start, zero, size) = (place(of, flat), flat.numel() as i64, of.size());
        let at = |first: Option<i64>, second: Option<i64>, k: i64| match (first, second) {
            (Some(first), Some(second)) => start + (first * size[1] + second) * size[2] + k,
            _ => zero,
        };
        let (f, s, k) = (both[0].len() as i64, both[1].len() as i64, size[2]);
        let begin = self.begin(zero);
        for &first in both[0] {
            match layout {
                Layout::Plain => {
                    for &second in both[1] {
                        self.from.extend((0..k).map(|k| at(first, second, k)));
                    }
                }
                Layout::ChannelsLast => {
                    for k in 0..k {
                        self.from
                            .extend(both[1].iter().map(|&second| at(first, second, k)));
                    }
                }
            }
        }
        self.views.push(match layout {
            Layout::Plain => (vec![f, s, k], vec![s * k, k, 1], begin),
            Layout::ChannelsLast => (vec![f, s, 1, k], vec![s * k, 1, s * k, s], begin),
        });
    }

    /// The copies, and the tensors that view them in order.
    pub fn finish(mut self, flat: &Tensor, kind: Kind) -> (Copies, Vec<Tensor>) {
        self.begin(flat.numel() as i64);
        let values = Tensor::zeros([self.from.len() as i64], (kind, flat.device()));
        let view = |(size, stride, start): (Vec<i64>, Vec<i64>, i64)| {
            values.as_strided(size, stride, start).detach()
        };
        let views = self.views.into_iter().map(view).collect();
        let here = self.from.iter().enumerate();
        let places = here.filter(|(_, from)| **from < flat.numel() as i64);
        let copies = Copies {
            places: places.map(|(here, &from)| (from, here as i64)).collect(),
            from: Tensor::from_slice(&self.from).to_device(flat.device()),
            values,
        };
        (copies, views)
    }
}

impl Copies {
    pub fn refresh(&self, flat: &Tensor) {
        if self.values.numel() > 0 {
            let zero = flat.new_zeros([1], (flat.kind(), flat.device()));
            let new = Tensor::cat(&[flat, &zero], 0).index_select(0, &self.from);
            self.values.shallow_clone().copy_(&new);
        }
    }
}

/// Where a variable begins in the flat tensor that it is a view of.
fn place(of: &Tensor, flat: &Tensor) -> i64 {
    let bytes = of.data_ptr().addr() - flat.data_ptr().addr();
    (bytes / flat.kind().elt_size_in_bytes()) as i64
}

/// (place in `flat`, place among the copies) -> for each of `flat`, the latter.
pub fn inverse(places: impl Iterator<Item = (i64, i64)>, flat: &Tensor) -> Tensor {
    let mut back = vec![-1; flat.numel()];
    for (there, here) in places {
        back[there as usize] = here;
    }
    assert!(
        back.iter().all(|&here| here >= 0),
        "every number has a copy"
    );
    Tensor::from_slice(&back).to_device(flat.device())
}
