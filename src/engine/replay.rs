//! The gradients of a batch as one CUDA graph: recorded once, then launched whole. Some 800 launches become one, which is
//! most of the time of a small batch. What differs from step to step stays outside: the sum over ranks, the rate, the
//! update (some 15 launches).

use anyhow::{Context, Result};
use tch::{Kind, Tensor};

use crate::gpu::Recorder;

/// Batches of a shape that are computed plainly before it is recorded: libraries set themselves up and choose algorithms.
const WARM_UP: usize = 3;

/// What records, a CUDA graph or its stand-in.
pub trait Record {
    fn aside<T>(&mut self, call: impl FnOnce() -> Result<T>) -> Result<T>;
    fn record<T>(&mut self, call: impl FnOnce() -> Result<T>) -> Result<T>;
    fn replay(&mut self) -> Result<()>;
}

impl Record for Recorder {
    fn aside<T>(&mut self, call: impl FnOnce() -> Result<T>) -> Result<T> {
        Recorder::aside(self, call)
    }
    fn record<T>(&mut self, call: impl FnOnce() -> Result<T>) -> Result<T> {
        Recorder::record(self, call)
    }
    fn replay(&mut self) -> Result<()> {
        Recorder::replay(self)
    }
}

type Shape = Vec<(Vec<i64>, Kind)>;

pub struct Replays<R> {
    new: Box<dyn Fn() -> Result<R>>,
    warming: Option<Warming<R>>,
    recorded: Option<Recorded<R>>,
}

struct Warming<R> {
    recorder: R,
    shape: Shape,
    /// Batches of this shape in a row.
    seen: usize,
}

struct Recorded<R> {
    recorder: R,
    /// What the graph reads: a batch is copied here.
    inputs: Vec<Tensor>,
    /// What it leaves; the next replay writes over it.
    output: Tensor,
}

impl<R: Record> Replays<R> {
    pub fn new(new: impl Fn() -> Result<R> + 'static) -> Self {
        Self {
            new: Box::new(new),
            warming: None,
            recorded: None,
        }
    }

    /// `compute` of the inputs, which lie on the device; its tensor is good until the next call.
    pub fn run(
        &mut self,
        inputs: Vec<Tensor>,
        mut compute: impl FnMut(&[Tensor]) -> Result<Tensor>,
    ) -> Result<Tensor> {
        let shape = shape(&inputs);
        let fits = |recorded: &&mut Recorded<R>| self::shape(&recorded.inputs) == shape;
        if let Some(recorded) = self.recorded.as_mut().filter(fits) {
            // Not batches in a row: those odd ones at the ends of epochs.
            self.warming = None;
            return recorded.replay(&inputs);
        }
        let same = self.warming.take().filter(|now| now.shape == shape);
        let mut warming = match same {
            Some(warming) => warming,
            None => Warming {
                recorder: (self.new)()?,
                shape,
                seen: 0,
            },
        };
        warming.seen += 1;
        if warming.seen <= WARM_UP {
            // On the recorder's stream: what libraries set up for a stream cannot be recorded.
            let output = warming.recorder.aside(|| compute(&inputs));
            self.warming = Some(warming);
            return output;
        }
        // The odd batch at the end of an epoch never comes here, and displaces no recording.
        self.recorded = None;
        let mut recorder = warming.recorder;
        let own: Vec<Tensor> = inputs.iter().map(Tensor::copy).collect();
        let output = recorder.record(|| compute(&own));
        let output = output.context("recording the work of a step (--replay off does without)")?;
        let recorded = self.recorded.insert(Recorded {
            recorder,
            inputs: own,
            output,
        });
        recorded.replay(&inputs)
    }
}

impl<R: Record> Recorded<R> {
    fn replay(&mut self, inputs: &[Tensor]) -> Result<Tensor> {
        for (own, new) in self.inputs.iter_mut().zip(inputs) {
            own.copy_(new);
        }
        self.recorder.replay()?;
        Ok(self.output.shallow_clone())
    }
}

fn shape(inputs: &[Tensor]) -> Shape {
    inputs
        .iter()
        .map(|input| (input.size(), input.kind()))
        .collect()
}

#[cfg(test)]
mod tests {
    use std::{cell::RefCell, rc::Rc};

    use super::*;

    /// Says what was asked of it; a recording of a CPU launches nothing, so it runs at once.
    struct Said(Rc<RefCell<String>>);

    impl Record for Said {
        fn aside<T>(&mut self, call: impl FnOnce() -> Result<T>) -> Result<T> {
            self.0.borrow_mut().push('a');
            call()
        }
        fn record<T>(&mut self, call: impl FnOnce() -> Result<T>) -> Result<T> {
            self.0.borrow_mut().push('r');
            call()
        }
        fn replay(&mut self) -> Result<()> {
            self.0.borrow_mut().push('.');
            Ok(())
        }
    }

    #[test]
    fn a_shape_is_recorded_once_and_an_odd_batch_does_not_displace_it() {
        let said = Rc::new(RefCell::new(String::new()));
        let shared = said.clone();
        let mut replays = Replays::new(move || Ok(Said(shared.clone())));
        let mut inputs = None;
        for batch in [8, 8, 8, 8, 8, 3, 8, 8, 3, 8, 3, 8, 3, 8, 3] {
            let x = Tensor::ones([batch], (Kind::Float, tch::Device::Cpu)) * batch as f64;
            let output = replays.run(vec![x], |x| {
                inputs = Some(x[0].shallow_clone());
                Ok(x[0].sum(Kind::Float))
            });
            assert_eq!(output.unwrap().double_value(&[]), (batch * batch) as f64);
        }
        assert_eq!(*said.borrow(), "aaar..a..a.a.a.a");
    }
}
