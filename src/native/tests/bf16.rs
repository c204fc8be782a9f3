//! Products of bf16 pairs, where the CPU has them.

use tch::nn::VarStore;

use super::*;
use crate::{
    model::{Builder, Graph},
    native::Avx512Bf16,
};

/// Logits of two convolutions and a transposed one whose numbers are whole and small, so that bf16 and f32 hold them
/// exactly. Odd numbers of channels leave a pair half empty.
fn whole<L: Lanes<T = f32>>(length: i64) -> Vec<f32> {
    let io = io(length, 3);
    let store = VarStore::new(Device::Cpu);
    let graph: Graph = {
        let root = store.root();
        let (mut graph, x) = Builder::new(&root, io, Options::default());
        let x = graph.conv(x, 5, 7, Activation::Relu);
        let x = graph.max_pool(x);
        let x = graph.up_conv(x, 9, Activation::None);
        graph.conv(x, 3, 1, Activation::None);
        graph.finish()
    };
    let flat = FlatTensors::new(&store);
    let mut random = SplitMix::keyed(&[length as u64]);
    let parameters: Vec<f32> = (0..flat.parameters.numel())
        .map(|_| random.below(3) as f32 - 1.0)
        .collect();
    let mut rows = rows(io, 2, 1);
    rows.signal
        .iter_mut()
        .for_each(|x| *x = f16::from_f32(x.to_f32().round()));
    let stages = Stages::new(&graph, &flat).unwrap();
    // SAFETY: the test asks for instruction sets that the CPU has.
    let mut native = unsafe { Native::<L>::new(stages, Statistics::Batch, 1) };
    if L::PAIRS {
        // SAFETY: as above.
        unsafe { native.in_bf16() };
    }
    let mut logits = vec![0.0; 2 * 3 * length as usize];
    let fill = |window: usize, channel: usize, phase: usize, to: &mut [f32]| {
        crate::engine::fill(&rows, io, window, channel, phase, to);
    };
    native.infer(2, &parameters, &[], fill, &mut logits);
    logits
}

#[test]
fn whole_numbers_come_out_exactly() {
    if !crate::engine::bf16() {
        return;
    }
    for length in [46, 1234, 9000] {
        let (pairs, single) = (whole::<Avx512Bf16>(length), whole::<Avx512>(length));
        assert!(single.iter().any(|&x| x.abs() > 10.0));
        assert_eq!(pairs, single, "{length} places");
    }
}

/// Without ReLU, whose decisions rounding would change.
#[test]
fn gradients_are_near_those_of_single_precision() {
    if !crate::engine::bf16() {
        return;
    }
    for (length, seed) in [(202, 2), (5002, 1)] {
        let case = Case {
            arch: Arch::Unet,
            options: Options::default(),
            io: io(length, 2),
            batch: 3,
            seed,
        };
        let (pairs, slots, _) = step_of::<Avx512Bf16>(&case, true, 1);
        let (single, ..) = step_of::<Avx512>(&case, true, 1);
        let off = |a: &Tensor, b: &Tensor| {
            let norm = |x: &Tensor| x.norm().double_value(&[]);
            norm(&(a - b)) / norm(b)
        };
        assert!((pairs.loss / single.loss - 1.0).abs() < 1e-2);
        for (what, a, b) in [
            ("logits", &pairs.logits, &single.logits),
            ("running", &pairs.running, &single.running),
            ("gradients", &pairs.gradients, &single.gradients),
        ] {
            let off = off(a, b);
            // Half a unit in the last of 8 bits is 0.002; equal numbers would not be of bf16.
            assert!(off > 1e-5 && off < 2e-2, "{length}: {what} {off}");
        }
        for slot in &slots {
            let [a, b] = [&pairs, &single].map(|of| slot.view(&of.gradients));
            // A norm takes out again what the bias of a convolution without ReLU adds: its gradient is 0.
            let zero =
                b.norm().double_value(&[]) < 1e-4 * single.gradients.norm().double_value(&[]);
            let off = off(&a, &b);
            assert!(zero || off < 5e-2, "{length}: {} {off}", slot.name);
        }
    }
}
