//! Backward: stage by stage from the last, and in each window by window while its rows are in the cache.

use std::ops::Range;

use super::{
    Native, NormState, Statistics, SumDoubles, Worker,
    arena::Place,
    cleared,
    conv::{After, Conv, Finish},
    input::Input,
    keep,
    lanes::{Element, Lanes},
    loss::cross_entropy,
    norm::{Backward, NormSums, ThroughNorm},
    program::{Kind, Norm, Stage, Write},
    resample::{PoolBackward, Split},
    weights::{Products, WeightGradient, Windows},
    windows,
};

/// Those that have windows: with more threads than windows the others have nothing to clear and to add.
fn at_work<W>(workers: &mut [W], batch: usize) -> impl Iterator<Item = &mut W> {
    let threads = workers.len();
    let all = workers.iter_mut().enumerate();
    all.filter_map(move |(own, worker)| {
        (!windows(batch, own, threads).is_empty()).then_some(worker)
    })
}

impl<L: Lanes> Native<L> {
    /// Adds the gradient of the summed loss; returns the sum and the number of labels. `labels` [B, T, L].
    pub fn backward(
        &mut self,
        batch: usize,
        labels: &[i8],
        parameters: &[L::T],
        gradients: &mut [L::T],
        sum: SumDoubles,
    ) -> (f64, f64) {
        for worker in at_work(&mut self.of_workers, batch) {
            let worker = worker.get_mut().expect("no worker panics");
            cleared(&mut worker.gradients, gradients.len());
            for products in &mut worker.products {
                products.fill(L::T::default());
            }
        }
        let output = self.program.output;
        let size = output.channels * output.length;
        cleared(self.losses.get_mut().expect("no worker panics"), batch);
        self.workers.each(batch, |_, windows| {
            for window in windows {
                let labels = &labels[window * size..][..size];
                let loss = cross_entropy(&self.values, &self.gradients, output, window, labels);
                keep(&self.losses, window, &[loss]);
            }
        });
        for stage in (0..self.program.stages.len()).rev() {
            self.backward_stage(stage, batch, parameters, gradients, sum);
        }
        self.workers.each(batch, |worker, windows| {
            if !windows.is_empty() {
                self.unpack(worker);
            }
        });
        for worker in at_work(&mut self.of_workers, batch) {
            let own = &worker.get_mut().expect("no worker panics").gradients;
            for (gradient, own) in gradients.iter_mut().zip(own) {
                *gradient = L::T::of(gradient.wide() + own.wide());
            }
        }
        let losses = self.losses.get_mut().expect("no worker panics");
        losses
            .iter()
            .fold((0.0, 0.0), |all, one| (all.0 + one.0, all.1 + one.1))
    }

    fn backward_stage(
        &mut self,
        stage: usize,
        batch: usize,
        parameters: &[L::T],
        gradients: &mut [L::T],
        sum: SumDoubles,
    ) {
        if let Kind::Conv {
            norm: Some(norm), ..
        } = self.program.stages[stage].kind
        {
            self.through_norm(stage, norm, parameters, gradients, sum);
        }
        self.workers.each(batch, |worker, windows| {
            let mut worker = self.of_workers[worker].lock().expect("no worker panics");
            let worker = &mut *worker;
            for first in windows.clone().step_by(self.program.stages[stage].group()) {
                let group = first..windows.end.min(first + self.program.stages[stage].group());
                for window in group.clone() {
                    // SAFETY: the instruction set was checked when the engine was made; rows are of the stage's shapes.
                    unsafe { self.window_backward(stage, window, worker) };
                }
                // SAFETY: as above; the windows of the group have been through `window_backward`.
                unsafe { self.weights_backward(stage, group, worker) };
            }
        });
    }

    /// The gradient that a window's output has, to its input.
    unsafe fn window_backward(&self, stage: usize, window: usize, worker: &mut Worker<L::T>) {
        let Stage {
            kind,
            x,
            y,
            bias,
            relu,
            dx,
            completes,
            ..
        } = &self.program.stages[stage];
        let g = self.gradients.rows(*y, window);
        let to_input = |g, scratch: &mut [L::T], own: &mut Vec<(f64, f64)>| {
            let weights = self.weights[stage].as_ref();
            let Some(packed) = weights.and_then(|weights| weights.backward.as_ref()) else {
                return;
            };
            let dx_rows = self.gradients.rows(*x, window);
            // The sums of the first norm that is complete with this are made at once, of others afterwards.
            let after = match completes.first() {
                Some(&of) => After::Norm(self.norm_sums(of, window, own)),
                None => After::Nothing,
            };
            self.multiply(Conv {
                x: Input::plain(g, x.length),
                y: dx_rows,
                packed,
                scratch: scratch.as_mut_ptr(),
                bias: None,
                finish: match dx {
                    Write::Add => Finish::Add,
                    _ => Finish::Store,
                },
                norm: None,
                length: x.length,
                after,
            });
            if let Some(&of) = completes.first() {
                keep(&self.norm(of).sums, window, own);
            }
            self.complete(completes, 1, window, own);
        };
        match kind {
            Kind::Conv { .. } => {
                L::run(Backward {
                    g,
                    x: self.values.rows(*y, window),
                    length: y.length,
                    norm: self.norms[stage].as_ref().map(NormState::through),
                    relu: *relu,
                    sums: &mut worker.gradients[*bias..][..y.channels],
                });
                to_input(g, &mut worker.scratch, &mut worker.sums);
            }
            Kind::UpConv => {
                let apart = worker.apart.rows(Self::apart(stage, *x, *y), 0);
                L::run(Split {
                    y: self.values.rows(*y, window),
                    g,
                    relu: *relu,
                    dx: apart,
                    sums: &mut worker.gradients[*bias..][..y.channels],
                });
                apart.clear_tails(x.length);
                to_input(apart, &mut worker.scratch, &mut worker.sums);
            }
            Kind::Pool if *dx == Write::Nowhere => {}
            Kind::Pool => {
                let dx_rows = self.gradients.rows(*x, window);
                L::run(PoolBackward {
                    x: self.input(*x, window),
                    g,
                    dx: dx_rows,
                    add: *dx == Write::Add,
                });
                dx_rows.clear_tails(x.length);
                self.complete(completes, 0, window, &mut worker.sums);
            }
            Kind::Dropout(_) | Kind::Add | Kind::Gate => {
                self.pointwise_backward(stage, window);
                self.complete(completes, 0, window, &mut worker.sums);
            }
        }
    }

    /// Where a worker has the gradient of a transposed convolution, apart by the phase of its output.
    fn apart(stage: usize, x: Place, y: Place) -> Place {
        Place {
            buffer: stage,
            first: 0,
            channels: 2 * y.channels,
            length: x.length,
        }
    }

    /// The gradient of a stage's weights in windows whose gradient is that of the sums of products.
    unsafe fn weights_backward(
        &self,
        stage: usize,
        group: Range<usize>,
        worker: &mut Worker<L::T>,
    ) {
        let Stage {
            kind, x, y, weight, ..
        } = &self.program.stages[stage];
        let gradient = |window| Input::plain(self.gradients.rows(*y, window), y.length);
        match kind {
            Kind::Conv { taps: 1, .. } => {
                L::run(Products {
                    x: self.input(*x, group.start),
                    g: gradient(group.start),
                    scratch: worker.scratch.as_mut_ptr(),
                    sums: &mut worker.gradients[*weight..][..y.channels * x.channels],
                });
            }
            Kind::Conv { taps, .. } => {
                let windows = |first, step| Windows {
                    first,
                    number: group.len(),
                    step,
                };
                self.multiply(WeightGradient {
                    x: windows(self.input(*x, group.start), self.values.step(*x)),
                    g: windows(gradient(group.start), self.gradients.step(*y)),
                    taps: *taps,
                    scratch: worker.scratch.as_mut_ptr(),
                    sums: &mut worker.products[stage],
                });
            }
            Kind::UpConv => {
                let apart = worker.apart.rows(Self::apart(stage, *x, *y), 0);
                L::run(Products {
                    x: Input::plain(apart, x.length),
                    g: self.input(*x, group.start),
                    scratch: worker.scratch.as_mut_ptr(),
                    sums: &mut worker.products[stage],
                });
            }
            Kind::Pool | Kind::Dropout(_) | Kind::Add | Kind::Gate => {}
        }
    }

    /// Adds the sums of products of a worker to its gradients.
    fn unpack(&self, worker: usize) {
        let mut worker = self.of_workers[worker].lock().expect("no worker panics");
        let Worker {
            gradients,
            products,
            ..
        } = &mut *worker;
        for (stage, sums) in self.program.stages.iter().zip(products) {
            let (inputs, outputs) = (stage.x.channels, stage.y.channels);
            match stage.kind {
                Kind::Conv { taps, .. } if taps > 1 => {
                    let gradient = &mut gradients[stage.weight..][..outputs * inputs * taps];
                    WeightGradient::unpack::<L>(sums, outputs, inputs, taps, gradient);
                }
                // [inputs, phase, outputs] to [inputs, outputs, phase]
                Kind::UpConv => {
                    let gradient = &mut gradients[stage.weight..][..sums.len()];
                    for (at, &sum) in sums.iter().enumerate() {
                        let (input, phase) = (at / (2 * outputs), at / outputs % 2);
                        gradient[(input * outputs + at % outputs) * 2 + phase] = sum;
                    }
                }
                _ => {}
            }
        }
    }

    /// Scale, mean of g and slope for [`ThroughNorm`]; adds the gradients of the norm's weight and bias.
    fn through_norm(
        &mut self,
        stage: usize,
        norm: Norm,
        parameters: &[L::T],
        gradients: &mut [L::T],
        sum: SumDoubles,
    ) {
        let state = self.norms[stage].as_mut().expect("a norm has a state");
        let channels = self.program.stages[stage].y.channels;
        let inverse = |channel: usize| state.inverse[channel].wide();
        let sums = cleared(&mut state.totals, 2 * channels);
        let of_windows = state.sums.get_mut().expect("no worker panics");
        for (at, (g, along)) in of_windows.iter().enumerate() {
            sums[at % channels] += g;
            sums[channels + at % channels] += along * inverse(at % channels);
        }
        for channel in 0..channels {
            for (start, own) in [
                (norm.bias, sums[channel]),
                (norm.weight, sums[channels + channel]),
            ] {
                let gradient = &mut gradients[start + channel];
                *gradient = L::T::of(gradient.wide() + own);
            }
        }
        if self.statistics == Statistics::Running {
            sums.fill(0.0);
        } else {
            sum(sums);
        }
        for channel in 0..channels {
            let (of_g, along) = (sums[channel], sums[channels + channel]);
            let inverse = inverse(channel);
            state.scale[channel] = L::T::of(parameters[norm.weight + channel].wide() * inverse);
            state.mean_g[channel] = L::T::of(of_g / state.count);
            state.slope[channel] = L::T::of(along / state.count * inverse);
        }
    }

    /// Sums of a window's gradient at the norms that it is complete for, but for the first few.
    fn complete(&self, completes: &[usize], skip: usize, window: usize, own: &mut Vec<(f64, f64)>) {
        for &stage in completes.iter().skip(skip) {
            // SAFETY: the instruction set was checked when the engine was made.
            unsafe { L::run(self.norm_sums(stage, window, own)) };
            keep(&self.norm(stage).sums, window, own);
        }
    }

    fn norm(&self, stage: usize) -> &NormState<L::T> {
        self.norms[stage].as_ref().expect("a norm has a state")
    }

    fn norm_sums<'a>(
        &'a self,
        stage: usize,
        window: usize,
        own: &'a mut Vec<(f64, f64)>,
    ) -> NormSums<'a, L::T> {
        let y = self.program.stages[stage].y;
        NormSums {
            g: self.gradients.rows(y, window),
            x: self.values.rows(y, window),
            mean: &self.norm(stage).mean,
            sums: cleared(own, y.channels),
        }
    }
}

impl<T> NormState<T> {
    fn through(&self) -> ThroughNorm<'_, T> {
        ThroughNorm {
            mean: &self.mean,
            scale: &self.scale,
            mean_g: &self.mean_g,
            slope: &self.slope,
        }
    }
}
