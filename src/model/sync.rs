//! Batch norm over all ranks: statistics of the whole step's micro-batches, exactly as if one rank had them all.
//!
//! tch has no autograd function of one's own, and the gradient through shared statistics needs a sum over ranks in the
//! middle of backward. So the graph is cut before and after every batch norm, where new leaves begin. In between libtorch
//! normalises with the shared statistics as if these were constants; backward runs from cut to cut, and the gradient
//! through the statistics is added. A batch norm sums 2C + 1 numbers going forward and 2C going backward, in double precision.

use anyhow::Result;
use tch::{Kind, Tensor, no_grad};

use super::{
    BatchNorm,
    graph::{Graph, NormConstants, Op, Output},
};
use crate::gpu;

/// Adds up a tensor of doubles over the ranks, in place.
pub type SumOverRanks<'a> = &'a dyn Fn(&mut Tensor);

/// One batch norm of a forward pass.
struct Cut {
    /// [B, C, L] (or [B, C, 1, L]), [C], [C]: each as it is before the cut, and the leaf that stands for it and takes the gradient of
    /// this micro-batch alone.
    input: Tensor,
    weight: Tensor,
    bias: Tensor,
    leaves: [Tensor; 3],
    /// With the graph between the cuts, and the leaf after it.
    normal: Tensor,
    output: Tensor,
    /// Of all ranks [C].
    mean: Tensor,
    var: Tensor,
    constants: NormConstants,
    /// B * L of all ranks.
    count: Tensor,
}

impl Graph {
    /// Sums over the ranks that a micro-batch makes for its statistics, forward and backward.
    pub fn sums(&self) -> usize {
        let norms = self.layers().iter();
        let norms = norms.filter(|layer| matches!(layer.op, Op::BatchNorm { .. }));
        match self.batch_norm() {
            BatchNorm::Sync => 2 * norms.count(),
            _ => 0,
        }
    }

    /// As forward, `loss` of the output and backward from its first tensor, with the statistics of all ranks; every rank
    /// must call it, with or without rows. x [B, C, L] -> what `loss` returned besides.
    pub fn synced_gradients<T>(
        &self,
        x: &Tensor,
        loss: impl FnOnce(&Output) -> (Tensor, T),
        forward_done: impl FnOnce(),
        sum: SumOverRanks,
    ) -> Result<T> {
        let mut cuts = Vec::new();
        let output = self.run(x, true, |op, x| {
            let cut = Cut::new(op, x, sum);
            let output = cut.output.shallow_clone();
            cuts.push(cut);
            output
        });
        let (objective, returned) = loss(&output);
        forward_done();
        let empty = x.size()[0] == 0;
        if !empty {
            objective.f_backward()?;
        }
        while let Some(cut) = cuts.pop() {
            if !empty {
                gpu::backward_from(&cut.normal, &cut.output.grad())?;
            }
            let gradient = no_grad(|| cut.gradient(sum));
            if !empty && cut.input.requires_grad() {
                gpu::backward_from(&cut.input, &gradient)?;
            }
        }
        Ok(returned)
    }
}

impl Cut {
    fn new(op: &Op, x: &Tensor, sum: SumOverRanks) -> Self {
        let Op::BatchNorm {
            weight,
            bias,
            mean: running_mean,
            var: running_var,
            constants,
        } = op
        else {
            unreachable!("only batch norm is normalised")
        };
        let running = [running_mean, running_var];
        let (mean, var, count) = no_grad(|| statistics(x, running, *constants, sum));
        let leaf = |of: &Tensor| of.detach().set_requires_grad(true);
        let leaves = [x, weight, bias].map(leaf);
        let [input, scale, shift] = &leaves;
        let normal = normalise(input, scale, shift, [&mean, &var], *constants);
        Self {
            input: x.shallow_clone(),
            weight: weight.shallow_clone(),
            bias: bias.shallow_clone(),
            leaves,
            output: leaf(&normal),
            normal,
            mean,
            var,
            constants: *constants,
            count,
        }
    }
    /// Adds the gradients of weight and bias of this rank's rows; returns that of the input.
    fn gradient(&self, sum: SumOverRanks) -> Tensor {
        let gradients = self.leaves.each_ref().map(|leaf| match leaf.grad() {
            gradient if gradient.defined() => gradient,
            _ => leaf.zeros_like(),
        });
        let [input, sum_gx, sum_g] = &gradients;
        // With constant statistics these are the sums of g and of g (x - mean) / deviation over rows and positions.
        for (parameter, own) in [(&self.bias, sum_g), (&self.weight, sum_gx)] {
            let mut gradient = parameter.grad();
            gradient += own;
        }
        let mut sums = Tensor::cat(&[sum_g, sum_gx], 0).to_kind(Kind::Double);
        sum(&mut sums);
        let means = (sums / &self.count).to_kind(self.weight.kind());
        let channels = self.weight.size()[0];
        // What the statistics add is itself a normalised x: -scale (mean g + (x - mean) / deviation * mean gx).
        let scale = -&self.weight * (&self.var + self.constants.eps).rsqrt();
        let through_mean = &scale * means.narrow(0, 0, channels);
        let through_var = &scale * means.narrow(0, channels, channels);
        let x = self.leaves[0].detach();
        let statistics = [&self.mean, &self.var];
        normalise(&x, &through_var, &through_mean, statistics, self.constants).g_add_(input)
    }
}

/// Mean and variance of x [B, C, L] over all ranks [C], which the running ones follow, and over how many numbers.
fn statistics(
    x: &Tensor,
    running: [&Tensor; 2],
    constants: NormConstants,
    sum: SumOverRanks,
) -> (Tensor, Tensor, Tensor) {
    // x may be of fewer bits.
    let (channels, kind) = (x.size()[1], running[0].kind());
    let own = (x.numel() as i64 / channels) as f64;
    // Sum, sum of squares and count; squares in double, where mean^2 can be taken off again without loss.
    let mut sums = Tensor::zeros([2 * channels + 1], (Kind::Double, x.device()));
    if own > 0.0 {
        let (mean, var) = x.batch_norm_update_stats(None::<&Tensor>, None, 0.0);
        let (mean, var) = (mean.to_kind(Kind::Double), var.to_kind(Kind::Double));
        sums.narrow(0, 0, channels).copy_(&(&mean * own));
        let squares = (var + mean.square()) * own;
        sums.narrow(0, channels, channels).copy_(&squares);
        let _ = sums.narrow(0, 2 * channels, 1).fill_(own);
    }
    sum(&mut sums);
    let count = sums.narrow(0, 2 * channels, 1);
    // At the end of an epoch a micro-batch may be empty on all ranks, and one number alone has no variance: the running
    // statistics stay. As tensors, because to look at a number the host would wait for a GPU at every norm.
    let part = count.gt(1.0).to_kind(Kind::Double) * constants.momentum;
    let count = count.clamp_min(1.0);
    let mean = sums.narrow(0, 0, channels) / &count;
    let var = (sums.narrow(0, channels, channels) / &count - mean.square()).clamp_min(0.0);
    let unbiased = &var * (&count / (&count - 1.0).clamp_min(1.0));
    let (rest, part) = ((-&part + 1.0).to_kind(kind), part.to_kind(kind));
    for (running, new) in running.into_iter().zip([&mean, &unbiased]) {
        let mut running = running.shallow_clone();
        running *= &rest;
        running += new.to_kind(kind) * &part;
    }
    (mean.to_kind(kind), var.to_kind(kind), count)
}

/// weight (x - mean) / deviation + bias
fn normalise(
    x: &Tensor,
    weight: &Tensor,
    bias: &Tensor,
    [mean, var]: [&Tensor; 2],
    constants: NormConstants,
) -> Tensor {
    let (weight, bias, mean, var) = (Some(weight), Some(bias), Some(mean), Some(var));
    x.batch_norm(weight, bias, mean, var, false, 0.0, constants.eps, true)
}
