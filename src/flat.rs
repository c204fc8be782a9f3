//! All parameters of a model in one tensor, all gradients in another, all running statistics in a third.
//!
//! Broadcast, allreduce, clipping, the optimizer and checkpoints are then one operation on one tensor each. The
//! order is that of the names: a `VarStore` lists its variables in a different order in every process.

use tch::{Kind, Tensor, nn::VarStore, no_grad};

/// Where one named tensor lies in its flat tensor.
#[derive(Clone, Debug)]
pub struct Slot {
    pub name: String,
    pub shape: Vec<i64>,
    pub start: i64,
}

impl Slot {
    pub fn numel(&self) -> i64 {
        self.shape.iter().product()
    }

    pub fn view(&self, flat: &Tensor) -> Tensor {
        flat.narrow(0, self.start, self.numel())
            .view(self.shape.as_slice())
    }
}

#[derive(Debug)]
pub struct FlatTensors {
    pub parameters: Tensor,
    /// The gradients, then the running statistics: what a step sends to the other ranks, in one piece.
    pub sent: Tensor,
    /// The first part of `sent`.
    pub gradients: Tensor,
    /// Batch norm's running statistics, the second part of `sent`.
    pub buffers: Tensor,
    pub parameter_slots: Vec<Slot>,
    pub buffer_slots: Vec<Slot>,
}

impl FlatTensors {
    /// Moves every variable of the store into the flat tensors and makes it a view of them.
    pub fn new(store: &VarStore) -> Self {
        let mut named: Vec<(String, Tensor)> = store.variables().into_iter().collect();
        named.sort_by(|a, b| a.0.cmp(&b.0));
        let (trained, running): (Vec<_>, Vec<_>) =
            named.into_iter().partition(|(_, t)| t.requires_grad());

        // Autograd adds into a gradient that is there already: make all of them exist before they become views.
        let kind = trained
            .first()
            .map_or(Kind::Float, |(_, tensor)| tensor.kind());
        let mut touch = Tensor::zeros([1], (kind, store.device()));
        for (_, tensor) in &trained {
            touch += tensor.sum(kind);
        }
        if touch.requires_grad() {
            touch.backward();
        }
        let mut gradients: Vec<(String, Tensor)> = trained
            .iter()
            .map(|(name, tensor)| (name.clone(), tensor.grad()))
            .collect();

        let (mut trained, mut running) = (trained, running);
        let zeros = |numel| Tensor::zeros([numel], (kind, store.device()));
        let (num_parameters, num_buffers) = (numel(&trained), numel(&running));
        let parameters = zeros(num_parameters);
        let sent = zeros(num_parameters + num_buffers);
        let (mut sent_gradients, buffers) = (
            sent.narrow(0, 0, num_parameters),
            sent.narrow(0, num_parameters, num_buffers),
        );
        let parameter_slots = flatten(&mut trained, &parameters);
        flatten(&mut gradients, &sent_gradients);
        let buffer_slots = flatten(&mut running, &buffers);
        let _ = sent_gradients.zero_();
        Self {
            parameters,
            sent,
            gradients: sent_gradients,
            buffers,
            parameter_slots,
            buffer_slots,
        }
    }

    /// The named tensors a checkpoint holds: parameters, then running statistics.
    pub fn named(&self) -> impl Iterator<Item = (&Slot, Tensor)> {
        let parameters = self
            .parameter_slots
            .iter()
            .map(|slot| (slot, slot.view(&self.parameters)));
        parameters.chain(
            self.buffer_slots
                .iter()
                .map(|slot| (slot, slot.view(&self.buffers))),
        )
    }
}

fn numel(named: &[(String, Tensor)]) -> i64 {
    named.iter().map(|(_, tensor)| tensor.numel() as i64).sum()
}

/// Makes each tensor a view of `flat`, one after the other.
fn flatten(named: &mut [(String, Tensor)], flat: &Tensor) -> Vec<Slot> {
    let mut slots = Vec::new();
    let mut start = 0;
    for (name, tensor) in named.iter_mut() {
        let slot = Slot {
            name: name.clone(),
            shape: tensor.size(),
            start,
        };
        start += slot.numel();
        no_grad(|| {
            let mut view = slot.view(flat);
            view.copy_(tensor);
            tensor.set_data(&view);
        });
        slots.push(slot);
    }
    slots
}

#[cfg(test)]
impl FlatTensors {
    /// Weights for a test, which shares libtorch's random numbers with others. Fresh biases are 0, gains 1 and running
    /// statistics 0 and 1, where nothing would show a mistake: here they are not.
    pub fn draw(&self, seed: u64) {
        let mut random = crate::sampler::SplitMix::keyed(&[seed, 7]);
        let trained = self
            .parameter_slots
            .iter()
            .zip(std::iter::repeat(&self.parameters));
        let running = self
            .buffer_slots
            .iter()
            .zip(std::iter::repeat(&self.buffers));
        for (slot, flat) in trained.chain(running) {
            let drawn = (0..slot.numel()).map(|_| random.below(1 << 20) as f64 / (1 << 20) as f64);
            let drawn = Tensor::from_slice(&drawn.collect::<Vec<_>>());
            let values = match slot.name.rsplit('.').next() {
                Some("weight") if slot.shape.len() == 3 => {
                    let fan: i64 = slot.shape[1..].iter().product();
                    (drawn * 2.0 - 1.0) * (3.0 / fan as f64).sqrt()
                }
                Some("weight" | "running_var") => drawn + 0.5,
                _ => drawn * 0.4 - 0.2,
            };
            no_grad(|| slot.view(flat).copy_(&values.view(slot.shape.as_slice())));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::{
        Device,
        nn::{self, ModuleT},
    };

    #[test]
    fn gradients_and_running_statistics_land_in_the_flat_tensors() {
        let store = VarStore::new(Device::Cpu);
        let root = store.root();
        let model = nn::seq_t()
            .add(nn::conv1d(&root / "conv", 3, 4, 3, Default::default()))
            .add(nn::batch_norm1d(&root / "norm", 4, Default::default()));
        let flat = FlatTensors::new(&store);
        for _ in 0..2 {
            let x = Tensor::randn([2, 3, 16], (Kind::Float, Device::Cpu));
            model
                .forward_t(&x, true)
                .square()
                .sum(Kind::Float)
                .backward();
        }
        assert_eq!(flat.parameters.numel(), 4 * 3 * 3 + 4 + 4 + 4);
        let names: Vec<&str> = flat
            .parameter_slots
            .iter()
            .map(|slot| slot.name.as_str())
            .collect();
        assert_eq!(
            names,
            ["conv.bias", "conv.weight", "norm.bias", "norm.weight"]
        );
        for slot in &flat.parameter_slots {
            let variable = &store.variables()[&slot.name];
            assert_eq!(slot.view(&flat.gradients), variable.grad(), "{}", slot.name);
            assert_eq!(slot.view(&flat.parameters), *variable);
            assert!(
                variable.grad().abs().sum(Kind::Float).double_value(&[]) > 0.0,
                "{}",
                slot.name
            );
        }
        assert!(flat.buffers.abs().sum(Kind::Float).double_value(&[]) > 0.0);

        let _ = no_grad(|| flat.parameters.shallow_clone().zero_());
        let weight = store.variables()["conv.weight"].abs().sum(Kind::Float);
        assert_eq!(
            weight.double_value(&[]),
            0.0,
            "a change of the flat tensor is a change of the model"
        );
    }
}
