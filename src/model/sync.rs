//! Batch norm over all ranks: statistics of the whole step's micro-batches, exactly as if one rank had them all.
//!
//! tch has no autograd function of one's own, and the gradient through shared statistics needs a sum over ranks in the
//! middle of backward. So the graph is cut at every batch norm: its output is a new leaf, and backward runs from cut
//! to cut. A cut sums 2C + 1 numbers going forward and 2C going backward, in double precision.

use tch::{Kind, Tensor, no_grad};

use super::graph::{BN_EPS, BN_MOMENTUM, Graph, Op};

/// Adds up a tensor of doubles over the ranks, in place.
pub type SumOverRanks<'a> = &'a dyn Fn(&mut Tensor);

/// One batch norm of a forward pass.
struct Cut {
    input: Tensor,
    /// (x - mean) / deviation [B, C, L]
    normal: Tensor,
    /// 1 / deviation [1, C, 1]
    scale: Tensor,
    weight: Tensor,
    bias: Tensor,
    output: Tensor,
    /// B * L of all ranks.
    count: f64,
}

impl Graph {
    /// As forward, `loss` of the logits and backward, with the statistics of all ranks; every rank must call it, with
    /// or without rows. x [B, C, L] -> what `loss` returned.
    pub fn synced_gradients(
        &self,
        x: &Tensor,
        loss: impl FnOnce(&Tensor) -> (Tensor, Tensor),
        forward_done: impl FnOnce(),
        sum: SumOverRanks,
    ) -> (Tensor, Tensor) {
        let mut cuts = Vec::new();
        let logits = self.run(x, |op, x| {
            let cut = no_grad(|| Cut::forward(op, x, sum));
            let output = cut.output.shallow_clone();
            cuts.push(cut);
            output
        });
        let (loss, valid) = loss(&logits);
        forward_done();
        let empty = x.size()[0] == 0;
        if !empty {
            loss.backward();
        }
        while let Some(cut) = cuts.pop() {
            let gradient = no_grad(|| cut.backward(sum));
            if !empty && cut.input.requires_grad() {
                // The gradient of this product with respect to the input is `gradient`.
                let product = cut.input * gradient;
                product.sum(product.kind()).backward();
            }
        }
        (loss, valid)
    }
}

impl Cut {
    fn forward(op: &Op, x: &Tensor, sum: SumOverRanks) -> Self {
        let Op::BatchNorm {
            weight,
            bias,
            mean: running_mean,
            var: running_var,
        } = op
        else {
            unreachable!("only batch norm is normalised")
        };
        let channels = weight.size()[0];
        let own = (x.size()[0] * x.size()[2]) as f64;
        // Sum, sum of squares and count; squares in double, where mean^2 can be taken off again without loss.
        let mut sums = Tensor::zeros([2 * channels + 1], (Kind::Double, x.device()));
        if own > 0.0 {
            let (var, mean) = x.var_mean_dim(&[0i64, 2][..], false, false);
            let (var, mean) = (var.to_kind(Kind::Double), mean.to_kind(Kind::Double));
            sums.narrow(0, 0, channels).copy_(&(&mean * own));
            let squares = (var + mean.square()) * own;
            sums.narrow(0, channels, channels).copy_(&squares);
            let _ = sums.narrow(0, 2 * channels, 1).fill_(own);
        }
        sum(&mut sums);
        let count = sums.double_value(&[2 * channels]);
        let mean = sums.narrow(0, 0, channels) / count;
        let var = (sums.narrow(0, channels, channels) / count - mean.square()).clamp_min(0.0);
        let unbiased = &var * (count / (count - 1.0).max(1.0));
        // At the end of an epoch a micro-batch may be empty on all ranks.
        let seen = [(running_mean, &mean), (running_var, &unbiased)];
        for (running, new) in seen.into_iter().filter(|_| count > 0.0) {
            let mut running = running.shallow_clone();
            running *= 1.0 - BN_MOMENTUM;
            running += new.to_kind(x.kind()) * BN_MOMENTUM;
        }
        let wide = |of: &Tensor| of.to_kind(x.kind()).view([1, channels, 1]);
        let scale = wide(&(var + BN_EPS).rsqrt());
        let normal = (x - wide(&mean)) * &scale;
        let output = (&normal * wide(weight) + wide(bias)).set_requires_grad(true);
        Self {
            input: x.shallow_clone(),
            normal,
            scale,
            weight: weight.shallow_clone(),
            bias: bias.shallow_clone(),
            output,
            count,
        }
    }

    /// Adds the gradients of weight and bias of this rank's rows; returns that of the input.
    fn backward(&self, sum: SumOverRanks) -> Tensor {
        let channels = self.weight.size()[0];
        let gradient = self.output.grad();
        let gradient = match gradient.defined() {
            true => gradient,
            false => self.output.zeros_like(),
        };
        let total = |of: &Tensor| of.sum_dim_intlist(&[0i64, 2][..], false, Kind::Double);
        let own = [total(&gradient), total(&(&gradient * &self.normal))];
        for (parameter, of_rows) in [(&self.bias, &own[0]), (&self.weight, &own[1])] {
            let mut sums = parameter.grad();
            sums += of_rows.to_kind(gradient.kind());
        }
        let mut sums = Tensor::cat(&own, 0);
        sum(&mut sums);
        let means = (sums / self.count).to_kind(gradient.kind());
        let wide = |from: i64| means.narrow(0, from, channels).view([1, channels, 1]);
        let along = self.weight.view([1, channels, 1]) * &self.scale;
        along * (gradient - wide(0) - &self.normal * wide(channels))
    }
}
