//! Inference: a window through all stages, so that what one writes is in the cache for the next.

use std::sync::Mutex;

use super::{
    Affine, Native,
    arena::Arena,
    forward::{StageNorm, fill_rows},
    lanes::{Element, Lanes},
    phases::phase_length,
    program::Kind,
};

impl<L: Lanes> Native<L> {
    /// Logits [B, T, L] with running statistics, a window at a time.
    pub fn infer(
        &mut self,
        batch: usize,
        parameters: &[L::T],
        running: &[L::T],
        fill: impl Fn(usize, usize, usize, &mut [L::T]) + Sync,
        logits: &mut [L::T],
    ) {
        self.pack(parameters, false);
        if self.single.is_empty() {
            let needed =
                |buffer: usize| buffer == self.program.input.buffer || self.program.is_made(buffer);
            let buffers = self.program.buffers.iter().enumerate();
            let shapes: Vec<_> = buffers
                .map(|(buffer, &shape)| needed(buffer).then_some(shape))
                .collect();
            let workers = self.of_workers.iter();
            self.single = workers.map(|_| Arena::new(&shapes, 1)).collect();
        }
        let norms: Vec<Option<Affine<L::T>>> = (self.program.stages.iter())
            .map(|stage| match stage.kind {
                Kind::Conv {
                    norm: Some(norm), ..
                } => {
                    let channels = stage.y.channels;
                    let of = |start: usize| -> Vec<f64> {
                        running[start..][..channels]
                            .iter()
                            .map(|x| x.wide())
                            .collect()
                    };
                    let (mean, var) = (of(norm.mean), of(norm.var));
                    Some(Affine::new(norm, channels, parameters, &mean, &var))
                }
                _ => None,
            })
            .collect();
        let (input, output) = (self.program.input, self.program.output);
        let size = output.channels * output.length;
        let out: Vec<Mutex<&mut [L::T]>> = logits.chunks_mut(size).map(Mutex::new).collect();
        self.workers.each(batch, |worker, windows| {
            let mut memory = self.of_workers[worker].lock().expect("no worker panics");
            let values = &self.single[worker];
            for window in windows {
                fill_rows(values, input, 0, |_, channel, phase, row| {
                    fill(window, channel, phase, row);
                });
                for (stage, norm) in norms.iter().enumerate() {
                    let norm = StageNorm::Known(norm.as_ref().map(Affine::borrow));
                    self.run_stage(stage, values, &mut memory.scratch, 0, parameters, norm);
                }
                let mut out = out[window].lock().expect("no worker panics");
                let rows = values.rows(output, 0);
                for (target, to) in out.chunks_mut(output.length).enumerate() {
                    for phase in 0..2 {
                        let length = phase_length(output.length, phase);
                        // SAFETY: the arena is this worker's.
                        let from = unsafe { rows.slice(2 * target + phase, length) };
                        let to = to[phase..].iter_mut().step_by(2);
                        to.zip(from).for_each(|(to, from)| *to = *from);
                    }
                }
            }
        });
    }

    /// What every ReLU let through and which of each pair was the larger, of the last batch.
    #[cfg(test)]
    pub fn decisions(&self, batch: usize) -> Vec<bool> {
        let zero = L::T::default();
        let mut decisions = Vec::new();
        for stage in &self.program.stages {
            for window in 0..batch {
                let (place, pairs) = match &stage.kind {
                    Kind::Pool => (stage.x, true),
                    _ => (stage.y, false),
                };
                let rows = self.values.rows(place, window);
                let norm = self.input(place, window).norm;
                for channel in 0..place.channels {
                    // SAFETY: nothing computes meanwhile.
                    let phase = |phase| unsafe {
                        rows.slice(2 * channel + phase, phase_length(place.length, phase))
                    };
                    let (even, odd) = (phase(0), phase(1));
                    match pairs {
                        true => {
                            // A norm with a negative scale turns the order of a pair.
                            let turned = norm.is_some_and(|norm| norm.scale[channel] < zero);
                            let pairs = even.iter().zip(odd.iter());
                            decisions.extend(pairs.map(|(even, odd)| match turned {
                                true => odd < even,
                                false => odd > even,
                            }));
                        }
                        false if stage.relu => {
                            decisions.extend(even.iter().chain(odd.iter()).map(|&x| x > zero));
                        }
                        false => {}
                    }
                }
            }
        }
        decisions
    }
}
