//! Backward: stage by stage from the last, and in each window by window while its rows are in the cache.

use std::{ops::Range, sync::Mutex};

use super::{
    Native, Statistics, SumDoubles, Worker,
    arena::Place,
    conv::{After, Conv, Finish},
    input::Input,
    lanes::{Element, Lanes},
    loss::cross_entropy,
    norm::{Backward, NormSums, ThroughNorm},
    program::{Kind, Norm, Stage, Write},
    resample::{PoolBackward, Split},
    weights::{Products, WeightGradient, Windows},
};

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
        for worker in &mut self.of_workers {
            let worker = worker.get_mut().expect("no worker panics");
            worker.gradients.clear();
            worker.gradients.resize(gradients.len(), L::T::default());
            for products in &mut worker.products {
                products.fill(L::T::default());
            }
        }
        let output = self.program.output;
        let size = output.channels * output.length;
        let losses = Mutex::new(vec![(0.0, 0.0); batch]);
        self.workers.each(batch, |_, windows| {
            for window in windows {
                let labels = &labels[window * size..][..size];
                let loss = cross_entropy(&self.values, &self.gradients, output, window, labels);
                losses.lock().expect("no worker panics")[window] = loss;
            }
        });
        for stage in (0..self.program.stages.len()).rev() {
            self.backward_stage(stage, batch, parameters, gradients, sum);
        }
        self.workers.each(batch, |worker, _| self.unpack(worker));
        for worker in &mut self.of_workers {
            let own = &worker.get_mut().expect("no worker panics").gradients;
            for (gradient, own) in gradients.iter_mut().zip(own) {
                *gradient = L::T::of(gradient.wide() + own.wide());
            }
        }
        let losses = losses.into_inner().expect("no worker panics");
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
        let through = match self.program.stages[stage].kind {
            Kind::Conv {
                norm: Some(norm), ..
            } => Some(self.through_norm(stage, norm, parameters, gradients, sum)),
            _ => None,
        };
        let completes = &self.program.stages[stage].completes;
        let sums = self.sums_of(completes);
        self.workers.each(batch, |worker, windows| {
            let mut worker = self.of_workers[worker].lock().expect("no worker panics");
            let worker = &mut *worker;
            for first in windows.clone().step_by(self.program.stages[stage].group()) {
                let group = first..windows.end.min(first + self.program.stages[stage].group());
                for window in group.clone() {
                    let norm = through.as_ref().map(|[scale, mean_g, slope]| ThroughNorm {
                        mean: &self.norms[stage].as_ref().expect("a norm has a state").mean,
                        scale,
                        mean_g,
                        slope,
                    });
                    // SAFETY: the instruction set was checked when the engine was made; rows are of the stage's shapes.
                    unsafe { self.window_backward(stage, window, norm, worker, &sums) };
                }
                // SAFETY: as above; the windows of the group have been through `window_backward`.
                unsafe { self.weights_backward(stage, group, worker) };
            }
        });
        self.keep(&self.program.stages[stage].completes.clone(), sums);
    }

    /// The gradient that a window's output has, to its input.
    unsafe fn window_backward(
        &self,
        stage: usize,
        window: usize,
        norm: Option<ThroughNorm<L::T>>,
        worker: &mut Worker<L::T>,
        sums: &[Mutex<Vec<(f64, f64)>>],
    ) {
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
        let to_input = |g, scratch: &mut [L::T]| {
            let weights = self.weights[stage].as_ref();
            let Some(packed) = weights.and_then(|weights| weights.backward.as_ref()) else {
                return;
            };
            let dx_rows = self.gradients.rows(*x, window);
            // The sums of the first norm that is complete with this are made at once, of others afterwards.
            let mut own = completes.first().map(|&of| self.no_sums(of));
            let after = match (completes.first(), &mut own) {
                (Some(&of), Some(own)) => After::Norm(self.norm_sums(of, window, own)),
                _ => After::Nothing,
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
            if let Some(own) = own {
                self.keep_window(completes[0], window, &own, &sums[0]);
            }
            self.complete(completes, 1, window, sums);
        };
        match kind {
            Kind::Conv { .. } => {
                L::run(Backward {
                    g,
                    x: self.values.rows(*y, window),
                    length: y.length,
                    norm,
                    relu: *relu,
                    sums: &mut worker.gradients[*bias..][..y.channels],
                });
                to_input(g, &mut worker.scratch);
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
                to_input(apart, &mut worker.scratch);
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
                self.complete(completes, 0, window, sums);
            }
            Kind::Dropout(_) | Kind::Add | Kind::Gate => {
                self.pointwise_backward(stage, window);
                self.complete(completes, 0, window, sums);
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
        &self,
        stage: usize,
        norm: Norm,
        parameters: &[L::T],
        gradients: &mut [L::T],
        sum: SumDoubles,
    ) -> [Vec<L::T>; 3] {
        let state = self.norms[stage].as_ref().expect("a norm has a state");
        let channels = self.program.stages[stage].y.channels;
        let inverse: Vec<f64> = state.inverse.iter().map(|x| x.wide()).collect();
        let mut sums = vec![0.0; 2 * channels];
        for (at, (g, along)) in state.sums.iter().enumerate() {
            sums[at % channels] += g;
            sums[channels + at % channels] += along * inverse[at % channels];
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
            sum(&mut sums);
        }
        let of = |f: &dyn Fn(usize) -> f64| (0..channels).map(|c| L::T::of(f(c))).collect();
        [
            of(&|c| parameters[norm.weight + c].wide() * inverse[c]),
            of(&|c| sums[c] / state.count),
            of(&|c| sums[channels + c] / state.count * inverse[c]),
        ]
    }

    /// A place for the sums of each norm whose gradient is complete after a stage.
    fn sums_of(&self, completes: &[usize]) -> Vec<Mutex<Vec<(f64, f64)>>> {
        let sums = |&stage: &usize| {
            let state = self.norms[stage].as_ref().expect("a norm has a state");
            Mutex::new(state.sums.clone())
        };
        completes.iter().map(sums).collect()
    }

    fn keep(&mut self, completes: &[usize], sums: Vec<Mutex<Vec<(f64, f64)>>>) {
        for (&stage, sums) in completes.iter().zip(sums) {
            let state = self.norms[stage].as_mut().expect("a norm has a state");
            state.sums = sums.into_inner().expect("no worker panics");
        }
    }

    /// Sums of a window's gradient at the norms that it is complete for, but for the first few.
    fn complete(
        &self,
        completes: &[usize],
        skip: usize,
        window: usize,
        sums: &[Mutex<Vec<(f64, f64)>>],
    ) {
        for (&stage, sums) in completes.iter().zip(sums).skip(skip) {
            let mut own = self.no_sums(stage);
            // SAFETY: the instruction set was checked when the engine was made.
            unsafe { L::run(self.norm_sums(stage, window, &mut own)) };
            self.keep_window(stage, window, &own, sums);
        }
    }

    fn no_sums(&self, stage: usize) -> Vec<(f64, f64)> {
        vec![(0.0, 0.0); self.program.stages[stage].y.channels]
    }

    fn norm_sums<'a>(
        &'a self,
        stage: usize,
        window: usize,
        sums: &'a mut [(f64, f64)],
    ) -> NormSums<'a, L::T> {
        let y = self.program.stages[stage].y;
        NormSums {
            g: self.gradients.rows(y, window),
            x: self.values.rows(y, window),
            mean: &self.norms[stage].as_ref().expect("a norm has a state").mean,
            sums,
        }
    }

    fn keep_window(
        &self,
        stage: usize,
        window: usize,
        own: &[(f64, f64)],
        sums: &Mutex<Vec<(f64, f64)>>,
    ) {
        let channels = self.program.stages[stage].y.channels;
        sums.lock().expect("no worker panics")[window * channels..][..channels]
            .copy_from_slice(own);
    }
}
