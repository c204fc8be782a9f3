//! libtorch's autograd: every model, every device.

use anyhow::{Result, bail, ensure};
use tch::{Cuda, Device, Kind, Reduction, Tensor, nn::ModuleT, no_grad};

use super::{Engine, add_to, replay::Replays};
use crate::{
    compute::{Compute, Precision},
    counts::Counter,
    data::Rows,
    feed::Form,
    flat::FlatTensors,
    gpu,
    loss::Loss,
    model::{BatchNorm, Graph, Io, Layout, Output, SumOverRanks, Twin},
    timeline::{Phase, Timeline},
};

pub(super) struct Libtorch {
    model: Graph,
    form: Form,
    loss: Loss,
    device: Device,
    /// Computes in place of the model where the form is not the plain one.
    twin: Option<Twin>,
    replays: Option<Replays<gpu::Recorder>>,
}

impl Libtorch {
    pub fn new(model: Graph, io: Io, loss: Loss, device: Device, kind: Kind) -> Self {
        Self {
            model,
            form: Form {
                kind,
                ..Form::plain(io)
            },
            loss,
            device,
            twin: None,
            replays: None,
        }
    }

    fn graph(&self) -> &Graph {
        self.twin.as_ref().map_or(&self.model, |twin| &twin.graph)
    }

    /// [loss sum, number of valid labels] as f64 where the model computes; gradients are added.
    fn differentiate(
        &mut self,
        rows: &Rows,
        timeline: &mut Timeline,
        sum: SumOverRanks,
    ) -> Result<Tensor> {
        let sent = rows.send(self.form.io, self.device);
        if let Some(mut replays) = self.replays.take() {
            // Within a recording no time can be taken.
            timeline.lap(Phase::Input);
            let numbers = replays.run(sent, |sent| self.step(rows, sent, &mut |_| {}, sum));
            timeline.lap(Phase::Backward);
            self.replays = Some(replays);
            return numbers;
        }
        self.step(rows, &sent, &mut |phase| timeline.lap(phase), sum)
    }

    fn step(
        &self,
        rows: &Rows,
        sent: &[Tensor],
        lap: &mut dyn FnMut(Phase),
        sum: SumOverRanks,
    ) -> Result<Tensor> {
        let compact = rows.compact(sent);
        let (x, labels) = (self.form.input(&compact), compact.label);
        lap(Phase::Input);
        if let Some(twin) = &self.twin {
            twin.refresh();
        }
        // What is differentiated, and the two numbers.
        let loss = |output: &Output| {
            let (loss, valid) = masked_loss(self.loss, &output.logits, &labels, self.form.io);
            (output.objective(&loss, &labels), (loss, valid))
        };
        let (loss, valid) = if self.model.batch_norm() == BatchNorm::Sync {
            if let Some(twin) = &self.twin {
                twin.begin();
            }
            let numbers = self
                .graph()
                .synced_gradients(&x, loss, || lap(Phase::Forward), sum)?;
            if let Some(twin) = &self.twin {
                twin.collect_own();
            }
            numbers
        } else {
            let (objective, numbers) = loss(&self.graph().forward(&x, true));
            lap(Phase::Forward);
            match &self.twin {
                Some(twin) => twin.backward(&objective),
                None => objective.f_backward()?,
            }
            numbers
        };
        if let Some(twin) = &self.twin {
            twin.keep_running();
        }
        let numbers = Tensor::stack(&[loss.detach().to_kind(Kind::Double), valid], 0);
        lap(Phase::Backward);
        Ok(numbers)
    }

    /// A rank may have no rows in the last step of an epoch; synchronised batch norm counts on it all the same.
    fn has_nothing(&self, rows: &Rows) -> bool {
        rows.is_empty() && self.model.batch_norm() != BatchNorm::Sync
    }
}

impl Engine for Libtorch {
    fn gradients(
        &mut self,
        rows: &Rows,
        timeline: &mut Timeline,
        sum: SumOverRanks,
    ) -> Result<(f64, f64)> {
        if self.has_nothing(rows) {
            return Ok((0.0, 0.0));
        }
        let numbers = Vec::<f64>::try_from(self.differentiate(rows, timeline, sum)?)?;
        Ok((numbers[0], numbers[1]))
    }

    fn launch(
        &mut self,
        rows: &Rows,
        timeline: &mut Timeline,
        sum: SumOverRanks,
        sums: &Tensor,
    ) -> Result<()> {
        if !self.has_nothing(rows) {
            add_to(sums, &self.differentiate(rows, timeline, sum)?);
        }
        Ok(())
    }

    fn compute_as(&mut self, compute: &Compute, flat: &FlatTensors) -> Result<()> {
        let kind = flat.parameters.kind();
        let bf16 = compute.precision == Precision::Bf16;
        ensure!(
            kind == Kind::Float || !bf16,
            "--precision bf16 beside double precision proves nothing"
        );
        if self.device != Device::Cpu {
            gpu::allow_tf32(compute.precision == Precision::Tf32);
            // Batches are of one size: what cuDNN measures of its algorithms serves all steps.
            Cuda::cudnn_set_benchmark(true);
        }
        self.form = Form {
            layout: compute.layout,
            kind: if bf16 { Kind::BFloat16 } else { kind },
            ..self.form
        };
        let plain = compute.layout == Layout::Plain && !bf16;
        if let Some(layer) = self.model.plain_layer().filter(|_| !plain) {
            bail!("{layer} knows one layout, in the precision of the weights");
        }
        ensure!(
            !compute.replay || !self.model.has_dropout(),
            "--replay: a recorded step would drop the same numbers every time; --replay off"
        );
        ensure!(
            !compute.replay || self.model.counter().is_none(),
            "--replay: a table of counts is read on the host, which no recording can hold; --replay off"
        );
        self.twin = (!plain).then(|| Twin::new(&self.model, flat, compute.layout, self.form.kind));
        self.replays = match (compute.replay, self.device) {
            (true, Device::Cuda(gpu)) => Some(Replays::new(move || gpu::recorder(gpu))),
            _ => None,
        };
        Ok(())
    }

    fn input_gradient(&self, x: &Tensor, score: &dyn Fn(&Tensor) -> Tensor) -> Result<Tensor> {
        ensure!(
            self.model.counter().is_none(),
            "the model reads counts (--kmer-input), and counts have no gradient"
        );
        let x = x.detach().to_device(self.device).set_requires_grad(true);
        // cuDNN's recurrent layers know no backward pass outside training.
        let cudnn = Cuda::user_enabled_cudnn();
        Cuda::set_user_enabled_cudnn(false);
        let total = score(&self.model.forward_t(&x, false)).sum(x.kind());
        let gradients = Tensor::f_run_backward(&[total], &[&x], false, false);
        Cuda::set_user_enabled_cudnn(cudnn);
        Ok(gradients?.remove(0).to_device(Device::Cpu))
    }

    fn logits(&mut self, rows: &Rows) -> Result<Vec<f32>> {
        if rows.is_empty() {
            return Ok(Vec::new());
        }
        let sent = rows.send(self.form.io, self.device);
        let x = self.form.input(&rows.compact(&sent));
        if let Some(twin) = &self.twin {
            twin.refresh();
        }
        let logits = no_grad(|| self.graph().forward_t(&x, false));
        ensure!(
            logits.numel() == rows.label.len() * self.form.io.classes as usize,
            "the model's output does not fit the labels"
        );
        Ok(Vec::try_from(logits.to_kind(Kind::Float).flatten(0, -1))?)
    }

    fn counter(&self) -> Option<&Counter> {
        self.model.counter()
    }

    fn counter_mut(&mut self) -> Option<&mut Counter> {
        self.model.counter_mut()
    }
}

/// From logits, summed over the valid labels (those that are not -1), and their number.
pub fn masked_loss(loss: Loss, logits: &Tensor, labels: &Tensor, io: Io) -> (Tensor, Tensor) {
    // Of fewer bits no sum is taken.
    let logits = match logits.kind() {
        Kind::BFloat16 => logits.to_kind(Kind::Float),
        _ => logits.shallow_clone(),
    };
    let mask = labels.ge(0).to_kind(logits.kind());
    if io.classes > 1 {
        // [B, T K, M] -> [B, K, T, M]
        let (batch, places) = (labels.size()[0], labels.size()[2]);
        let by_class = logits
            .view([batch, io.targets, io.classes, places])
            .transpose(1, 2);
        let classes = labels.to_kind(Kind::Int64);
        let reduction = Reduction::Sum;
        let loss = by_class.cross_entropy_loss(&classes, None::<&Tensor>, reduction, -1, 0.0);
        return (loss, mask.sum(Kind::Double));
    }
    let target = labels.clamp_min(0).to_kind(logits.kind());
    let loss = match loss {
        Loss::CrossEntropy => logits.binary_cross_entropy_with_logits(
            &target,
            Some(&mask),
            None::<&Tensor>,
            Reduction::Sum,
        ),
        Loss::Mse => ((logits.sigmoid() - target).square() * &mask).sum(logits.kind()),
    };
    (loss, mask.sum(Kind::Double))
}
