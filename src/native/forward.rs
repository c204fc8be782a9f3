//! Forward for training: stage by stage over the whole batch.

use super::{
    Affine, Native, Statistics, SumDoubles, Worker,
    arena::{Arena, Place},
    cleared,
    conv::{After, Conv, Finish},
    input::{Input, ScaleShift},
    keep,
    lanes::{Element, Lanes},
    norm::Sums,
    phases::phase_length,
    pointwise::{Added, Dropped, Gated, Mask},
    program::{Kind, Norm, Stage},
    resample::Pool,
};
use crate::model::{BN_EPS, BN_MOMENTUM};

/// What is done about the batch norm behind a stage.
pub(super) enum StageNorm<'a, T> {
    /// It is applied at once, where there is one.
    Known(Option<ScaleShift<'a, T>>),
    /// After the whole batch; for that the sums of each channel, unless running statistics are used.
    Later(Option<&'a mut [Sums]>),
}

impl<L: Lanes> Native<L> {
    /// Logits of a batch for training; `fill(window, channel, phase, row)` writes every second place of the input.
    pub fn forward(
        &mut self,
        batch: usize,
        parameters: &[L::T],
        running: &mut [L::T],
        fill: impl Fn(usize, usize, usize, &mut [L::T]) + Sync,
        sum: SumDoubles,
    ) {
        self.take_memory(batch);
        self.norms
            .iter_mut()
            .flatten()
            .for_each(|norm| norm.begin(batch));
        self.pack(parameters, true);
        let input = self.program.input;
        self.workers.each(batch, |_, windows| {
            for window in windows {
                fill_rows(&self.values, input, window, &fill);
            }
        });
        for stage in 0..self.program.stages.len() {
            self.forward_stage(stage, batch, parameters);
            if let Kind::Conv {
                norm: Some(norm), ..
            } = self.program.stages[stage].kind
            {
                self.statistics(stage, norm, batch, running, sum);
                self.normalise(stage, norm, parameters);
            }
        }
    }

    /// Writes what a stage computes before its norm, and the sums of its channels for that.
    fn forward_stage(&self, stage: usize, batch: usize, parameters: &[L::T]) {
        let channels = self.program.stages[stage].y.channels;
        let of_batch = self.norms[stage]
            .as_ref()
            .filter(|_| self.statistics == Statistics::Batch);
        self.workers.each(batch, |worker, windows| {
            let mut memory = self.of_workers[worker].lock().expect("no worker panics");
            let Worker {
                scratch, moments, ..
            } = &mut *memory;
            for window in windows {
                let own = of_batch.map(|_| cleared(moments, channels));
                let norm = StageNorm::Later(own);
                self.run_stage(stage, &self.values, scratch, window, parameters, norm);
                if let Some(state) = of_batch {
                    keep(&state.moments, window, moments);
                }
            }
        });
    }

    /// One window through a stage.
    pub(super) fn run_stage(
        &self,
        stage: usize,
        values: &Arena<L::T>,
        scratch: &mut [L::T],
        window: usize,
        parameters: &[L::T],
        norm: StageNorm<L::T>,
    ) {
        let Stage {
            kind,
            x,
            y,
            bias,
            relu,
            second,
            ..
        } = &self.program.stages[stage];
        let finish = if *relu { Finish::Relu } else { Finish::Store };
        let packed = self.weights[stage].as_ref();
        let to = values.rows(*y, window);
        let (training, norm, sums) = match norm {
            StageNorm::Later(sums) => (true, None, sums),
            StageNorm::Known(norm) => (false, norm, None),
        };
        let input = |place: Place| match training {
            true => self.input(place, window),
            false => Input::plain(values.rows(place, window), place.length),
        };
        let from = input(*x);
        let second = || input(second.expect("a stage of two inputs").x);
        let weights = || packed.expect("a convolution has weights");
        // SAFETY: the instruction set was checked when the engine was made; the rows are of the shapes of the stage.
        unsafe {
            match kind {
                Kind::Conv { .. } => {
                    self.multiply(Conv {
                        x: from,
                        y: to,
                        packed: &weights().forward,
                        scratch: scratch.as_mut_ptr(),
                        bias: Some(&parameters[*bias..][..y.channels]),
                        finish,
                        norm,
                        length: y.length,
                        after: sums.map_or(After::Nothing, After::Moments),
                    });
                }
                Kind::UpConv => {
                    self.multiply(Conv {
                        x: from,
                        y: to,
                        packed: &weights().forward,
                        scratch: scratch.as_mut_ptr(),
                        bias: Some(&weights().bias),
                        finish,
                        norm: None,
                        length: y.length,
                        after: After::Nothing,
                    });
                }
                Kind::Pool => {
                    L::run(Pool { x: from, y: to });
                    to.clear_tails(y.length);
                }
                Kind::Dropout(share) => {
                    let mask = training.then(|| Mask::new(self.key, stage, window, *share));
                    L::run(Dropped {
                        x: from,
                        y: to,
                        mask,
                    });
                    to.clear_tails(y.length);
                }
                Kind::Add => {
                    L::run(Added {
                        both: [from, second()],
                        y: to,
                        relu: *relu,
                    });
                    to.clear_tails(y.length);
                }
                Kind::Gate => {
                    L::run(Gated {
                        x: from,
                        score: second(),
                        y: to,
                    });
                    to.clear_tails(y.length);
                }
            }
        }
    }

    /// Mean and variance that a batch norm uses, in double; running ones follow those of the batch.
    fn statistics(
        &mut self,
        stage: usize,
        norm: Norm,
        batch: usize,
        running: &mut [L::T],
        sum: SumDoubles,
    ) {
        let Stage { y, .. } = &self.program.stages[stage];
        let channels = y.channels;
        let state = self.norms[stage].as_mut().expect("a norm has a state");
        let [mean, var] = &mut state.exact;
        if self.statistics == Statistics::Running {
            state.count = (batch * y.length) as f64;
            for channel in 0..channels {
                mean[channel] = running[norm.mean + channel].wide();
                var[channel] = running[norm.var + channel].wide();
            }
            return;
        }
        // Sums, sums of squares, count.
        let sums = cleared(&mut state.totals, 2 * channels + 1);
        sums[2 * channels] = (batch * y.length) as f64;
        let moments = state.moments.get_mut().expect("no worker panics");
        for (at, of_channel) in moments.iter().enumerate() {
            sums[at % channels] += of_channel.x;
            sums[channels + at % channels] += of_channel.squares;
        }
        sum(sums);
        let count = sums[2 * channels];
        state.count = count;
        for channel in 0..channels {
            mean[channel] = sums[channel] / count;
            var[channel] =
                (sums[channels + channel] / count - mean[channel] * mean[channel]).max(0.0);
        }
        // At the end of an epoch a micro-batch may be empty on all ranks, and one number alone has no variance: the running
        // statistics stay.
        if count > 1.0 {
            let unbiased = count / (count - 1.0);
            for channel in 0..channels {
                let news = [
                    (norm.mean, mean[channel]),
                    (norm.var, var[channel] * unbiased),
                ];
                for (start, new) in news {
                    let running = &mut running[start + channel];
                    *running = L::T::of(running.wide() * (1.0 - BN_MOMENTUM) + new * BN_MOMENTUM);
                }
            }
        }
    }

    /// Keeps what readers of a stage's output do to it, and what the way back needs.
    fn normalise(&mut self, stage: usize, norm: Norm, parameters: &[L::T]) {
        let y = self.program.stages[stage].y;
        let all = self.affine[y.buffer].as_mut().expect("a normed buffer");
        let state = self.norms[stage].as_mut().expect("a norm has a state");
        let [mean, var] = &state.exact;
        for channel in 0..y.channels {
            let place = y.first + channel;
            let (mean, var) = (mean[channel], var[channel]);
            (all.scale[place], all.shift[place]) =
                scale_shift(norm, channel, parameters, mean, var);
            state.mean[channel] = L::T::of(mean);
            state.inverse[channel] = L::T::of(1.0 / (var + BN_EPS).sqrt());
        }
    }
}

pub(super) fn fill_rows<T: Element>(
    values: &Arena<T>,
    input: Place,
    window: usize,
    fill: impl Fn(usize, usize, usize, &mut [T]),
) {
    let rows = values.rows(input, window);
    for row in 0..rows.rows {
        let (channel, phase) = (row / 2, row % 2);
        // SAFETY: one worker has the window.
        let row = unsafe { rows.slice(row, phase_length(input.length, phase)) };
        fill(window, channel, phase, row);
    }
}

fn scale_shift<T: Element>(
    norm: Norm,
    channel: usize,
    parameters: &[T],
    mean: f64,
    var: f64,
) -> (T, T) {
    let scale = parameters[norm.weight + channel].wide() / (var + BN_EPS).sqrt();
    let shift = parameters[norm.bias + channel].wide() - mean * scale;
    (T::of(scale), T::of(shift))
}

impl<T: Element> Affine<T> {
    pub(super) fn new(
        norm: Norm,
        channels: usize,
        parameters: &[T],
        mean: &[f64],
        var: &[f64],
    ) -> Self {
        let of =
            |channel: usize| scale_shift(norm, channel, parameters, mean[channel], var[channel]);
        let (scale, shift) = (0..channels).map(of).unzip();
        Self { scale, shift }
    }

    pub(super) fn borrow(&self) -> ScaleShift<'_, T> {
        ScaleShift {
            scale: &self.scale,
            shift: &self.shift,
        }
    }
}
