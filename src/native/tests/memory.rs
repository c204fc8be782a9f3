//! A step takes no memory: what it needs is there from the first one.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
};

use super::*;

thread_local! {
    static TAKEN: Cell<usize> = const { Cell::new(0) };
}

/// The system's, which also counts what each thread takes.
struct Counted;

#[global_allocator]
static COUNTED: Counted = Counted;

fn count() {
    // A thread that ends may take memory after its own count is gone.
    let _ = TAKEN.try_with(|taken| taken.set(taken.get() + 1));
}

// SAFETY: all is the system's.
unsafe impl GlobalAlloc for Counted {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        System.alloc(layout)
    }
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count();
        System.alloc_zeroed(layout)
    }
    unsafe fn realloc(&self, old: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        System.realloc(old, layout, size)
    }
    unsafe fn dealloc(&self, old: *mut u8, layout: Layout) {
        System.dealloc(old, layout);
    }
}

#[test]
fn a_step_takes_no_memory() {
    for arch in [Arch::Unet, Arch::UnetAttention, Arch::UnetWide, Arch::Cnn] {
        let case = Case {
            arch,
            options: Options::default(),
            io: io(512, 1),
            batch: 3,
            seed: 1,
        };
        let store = VarStore::new(Device::Cpu);
        let graph = arch.build(&store.root(), case.io, case.options).unwrap();
        let flat = FlatTensors::new(&store);
        let program = Stages::new(&graph, &flat).unwrap();
        // SAFETY: every CPU has the instructions of double precision.
        let mut native = unsafe { Native::<Double>::new(program, Statistics::Batch, 1) };
        let rows = rows(case.io, case.batch, case.seed);
        let numbers = |tensor: &Tensor| Vec::<f64>::try_from(tensor.to_kind(Kind::Double)).unwrap();
        let (parameters, mut running) = (numbers(&flat.parameters), numbers(&flat.buffers));
        let mut gradients = vec![0.0; parameters.len()];
        let mut step = |batch: usize| {
            let fill = |window: usize, channel: usize, phase: usize, to: &mut [f64]| {
                crate::engine::fill(&rows, case.io, window, channel, phase, to);
            };
            let before = TAKEN.get();
            native.forward(batch, &parameters, &mut running, fill, &|_| ());
            native.backward(batch, &rows.label, &parameters, &mut gradients, &|_| ());
            TAKEN.get() - before
        };
        assert!(step(case.batch) > 0, "{arch}: nothing is counted");
        // The last batch of an epoch is smaller, and the next as large as before.
        let later = [case.batch, 2, case.batch].map(step);
        assert_eq!(later, [0; 3], "{arch}");
    }
}
