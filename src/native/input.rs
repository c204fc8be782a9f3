//! What kernels read: rows through the batch norm behind them, which a training step never writes out.
//!
//! A step waits for memory more than for anything else but its products. What ReLU left is stored once; whoever reads it
//! normalises a block of it, into memory of its own.

use super::{
    conv::{HALO, Rows},
    lanes::{Element, Lanes, prefetch},
    phases::phase_length,
};

/// Taps of a part reach at most so far.
const MARGIN: usize = HALO / 2;

/// Bytes that come from memory at once.
const LINE: usize = 64;

/// A batch norm as x scale + shift, a channel each.
#[derive(Clone, Copy, Debug)]
pub struct ScaleShift<'a, T> {
    pub scale: &'a [T],
    pub shift: &'a [T],
}

impl<T: Element> ScaleShift<'_, T> {
    /// Of a channel, in all lanes.
    ///
    /// # Safety
    /// `channel` is one of the norm's.
    #[inline(always)]
    pub unsafe fn splat<L: Lanes<T = T>>(&self, channel: usize) -> (L::V, L::V) {
        let (scale, shift) = (
            self.scale.get_unchecked(channel),
            self.shift.get_unchecked(channel),
        );
        (L::splat(*scale), L::splat(*shift))
    }
}

#[derive(Clone, Copy, Debug)]
pub struct Input<'a, T> {
    pub rows: Rows<T>,
    /// Places of a channel: what is around them is 0, also after the norm.
    pub length: usize,
    pub norm: Option<ScaleShift<'a, T>>,
}

/// The even places of all channels, the odd places, and both added up.
pub type Phases<T> = [Rows<T>; 3];

impl<T: Element> Input<'_, T> {
    pub fn plain(rows: Rows<T>, length: usize) -> Self {
        Self {
            rows,
            length,
            norm: None,
        }
    }

    pub fn channels(&self) -> usize {
        self.rows.rows / 2
    }

    /// One of the channels alone.
    #[inline(always)]
    unsafe fn channel(&self, channel: usize) -> Self {
        Self {
            rows: Rows {
                at: self.rows.row(2 * channel),
                rows: 2,
                ..self.rows
            },
            norm: self.norm.map(|norm| ScaleShift {
                scale: norm.scale.get_unchecked(channel..channel + 1),
                shift: norm.shift.get_unchecked(channel..channel + 1),
            }),
            ..*self
        }
    }

    /// Asks for places of all rows that are read soon; without that a short row ends before the processor has seen that
    /// it is read in order.
    #[inline(always)]
    pub unsafe fn fetch(&self, from: usize, places: usize) {
        for row in 0..self.rows.rows {
            for at in (from..(from + places).min(self.rows.padded)).step_by(LINE / size_of::<T>()) {
                prefetch(self.rows.row(row).add(at).cast());
            }
        }
    }

    /// Phases from `from` to `to`, and as far around as taps reach; the third only if it is asked for. Rows in which a place
    /// is where it is in the whole; what has to be computed is written to `into`.
    ///
    /// # Safety
    /// `into` is good for [`room`].
    #[inline(always)]
    pub unsafe fn gather<L: Lanes<T = T>>(
        &self,
        sum: bool,
        from: usize,
        to: usize,
        into: *mut T,
    ) -> Phases<T> {
        let places = to - from + HALO;
        let whole = |part| self.written(into, part, self.channels(), from, places);
        let (even, odd) = (self.rows.phase(0), self.rows.phase(1));
        let Some(norm) = &self.norm else {
            if sum {
                for channel in 0..self.channels() {
                    let (even, odd) = (even.row(channel).add(from), odd.row(channel).add(from));
                    let (even, odd) = (even.sub(MARGIN), odd.sub(MARGIN));
                    let to = into.add(channel * places);
                    for at in (0..places).step_by(L::N) {
                        L::store(
                            to.add(at),
                            L::add(L::load(even.add(at)), L::load(odd.add(at))),
                        );
                    }
                }
            }
            return [even, odd, whole(0)];
        };
        let parts = [whole(0), whole(1), whole(2)];
        let (before, ends) = self.outside(from, places);
        for channel in 0..self.channels() {
            let (even, odd) = (even.row(channel).add(from), odd.row(channel).add(from));
            let (even, odd) = (even.sub(MARGIN), odd.sub(MARGIN));
            let to = into.add(channel * places);
            let [to_even, to_odd, to_sum] =
                [0, 1, 2].map(|part| to.add(part * self.channels() * places));
            let (scale, shift) = norm.splat::<L>(channel);
            for at in (0..places).step_by(L::N) {
                let even = L::fma(L::load(even.add(at)), scale, shift);
                let odd = L::fma(L::load(odd.add(at)), scale, shift);
                L::store(to_even.add(at), even);
                L::store(to_odd.add(at), odd);
                if sum {
                    L::store(to_sum.add(at), L::add(even, odd));
                }
            }
            clear([to_even, to_odd, to_sum], before, ends, places);
        }
        parts
    }

    /// As [`Input::gather`], with two channels in a row as pairs of bf16: all is written.
    ///
    /// # Safety
    /// `into` is good for [`room`].
    #[inline(always)]
    pub unsafe fn gather_pairs<L: Lanes<T = T>>(
        &self,
        sum: bool,
        from: usize,
        to: usize,
        into: *mut T,
    ) -> Phases<T> {
        let (places, pairs) = (to - from + HALO, self.channels().div_ceil(2));
        let whole = |part| self.written(into, part, pairs, from, places);
        let zero = L::splat(T::default());
        for pair in 0..pairs {
            let to = [0, 1, 2].map(|part| into.add((part * pairs + pair) * places));
            for at in (0..places).step_by(L::N) {
                let [mut a, mut b] = [[zero; 2]; 2];
                self.through_norm::<L>(2 * pair, from, at, &mut a);
                // Of the last pair one may be missing.
                if 2 * pair + 1 < self.channels() {
                    self.through_norm::<L>(2 * pair + 1, from, at, &mut b);
                }
                L::store(to[0].add(at), L::pair(a[0], b[0]));
                L::store(to[1].add(at), L::pair(a[1], b[1]));
                if sum {
                    L::store(
                        to[2].add(at),
                        L::pair(L::add(a[0], a[1]), L::add(b[0], b[1])),
                    );
                }
            }
            if self.norm.is_some() {
                let (before, ends) = self.outside(from, places);
                clear(to, before, ends, places);
            }
        }
        [whole(0), whole(1), whole(2)]
    }

    /// A part of what is written to `into`: rows in which a place is where it is in the whole.
    #[inline(always)]
    unsafe fn written(
        &self,
        into: *mut T,
        part: usize,
        rows: usize,
        from: usize,
        places: usize,
    ) -> Rows<T> {
        Rows {
            at: into.add(part * rows * places + MARGIN).wrapping_sub(from),
            stride: places,
            rows,
            padded: self.rows.padded,
        }
    }

    /// As [`Input::gather`] of all three, with each place and that of [`halved`] further on as a pair of bf16. Behind `to`
    /// the second of a pair is what lies there.
    ///
    /// # Safety
    /// `into` is good for [`room`] of the channels, `own` for that of one channel and twice `halved` places.
    #[inline(always)]
    pub unsafe fn gather_halves<L: Lanes<T = T>>(
        &self,
        from: usize,
        to: usize,
        into: *mut T,
        own: *mut T,
    ) -> Phases<T> {
        let half = halved(to - from);
        let places = half + HALO;
        for channel in 0..self.channels() {
            let one = self.channel(channel);
            let phases = one.gather::<L>(true, from, from + 2 * half, own);
            for (part, phase) in phases.iter().enumerate() {
                let of = phase.at.wrapping_add(from).wrapping_sub(MARGIN);
                let to = into.add((part * self.channels() + channel) * places);
                for at in (0..places).step_by(L::N) {
                    let (a, b) = (L::load(of.add(at)), L::load(of.add(half + at)));
                    L::store(to.add(at), L::pair(a, b));
                }
            }
        }
        [0, 1, 2].map(|part| self.written(into, part, self.channels(), from, places))
    }

    /// Even and odd places of a channel, counted from the margin before `from`.
    #[inline(always)]
    unsafe fn through_norm<L: Lanes<T = T>>(
        &self,
        channel: usize,
        from: usize,
        at: usize,
        phases: &mut [L::V; 2],
    ) {
        for phase in 0..2 {
            let row = self.rows.row(2 * channel + phase).add(from).sub(MARGIN);
            phases[phase] = L::load(row.add(at));
            if let Some(norm) = &self.norm {
                let (scale, shift) = norm.splat::<L>(channel);
                phases[phase] = L::fma(phases[phase], scale, shift);
            }
        }
    }

    /// Places before the first, and of each phase those up to its end, counted from the first that is written.
    fn outside(&self, from: usize, places: usize) -> (usize, [usize; 2]) {
        let ends =
            [0, 1].map(|phase| (phase_length(self.length, phase) + MARGIN - from).min(places));
        (MARGIN.saturating_sub(from), ends)
    }
}

/// No place is there: the norm made its shift of the zeros.
#[inline(always)]
unsafe fn clear<T: Element>(
    [even, odd, sum]: [*mut T; 3],
    before: usize,
    ends: [usize; 2],
    places: usize,
) {
    for at in (0..before).chain(ends[1]..places) {
        odd.add(at).write(T::default());
        sum.add(at).write(*even.add(at));
    }
    for at in (0..before).chain(ends[0]..places) {
        even.add(at).write(T::default());
        sum.add(at).write(T::default());
    }
}

/// Places of the first half of a block, at least as many as of the second.
pub fn halved(places: usize) -> usize {
    places.div_ceil(2 * HALO) * HALO
}

/// Elements that [`Input::gather`] may write.
pub fn room(channels: usize, places: usize) -> usize {
    3 * channels * (places + HALO)
}
