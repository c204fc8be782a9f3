//! What tch leaves out, most of it for GPUs: libtorch's CUDA half found when the program starts, CUDA graphs, free memory,
//! TF32, Adam in one kernel, backward from a gradient.

mod ffi;

pub use ffi::Recorder;

use std::{
    fs,
    path::{Path, PathBuf},
    sync::OnceLock,
};

use anyhow::{Context, Result, ensure};
use tch::{Kind, Tensor};

/// cuda.cpp, compiled; empty where its headers were missing.
const CARRIED: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/cuda.so"));

/// Loads libtorch_cuda where it lies beside the libtorch that runs: a program that was linked on a node without it
/// then sees the GPUs. Has to come before the first question about GPUs, whose answer libtorch keeps.
pub fn load() -> Result<()> {
    if in_this_process("libtorch_cuda.so").is_some() {
        return Ok(());
    }
    let beside =
        in_this_process("libtorch_cpu.so").map(|cpu| cpu.with_file_name("libtorch_cuda.so"));
    if let Some(library) = beside.filter(|library| library.exists()) {
        let opened = ffi::open_for_all(&library);
        // It stays open for good.
        std::mem::forget(opened.with_context(|| format!("opening {}", library.display()))?);
    }
    Ok(())
}

/// This thread hears each of libtorch's warnings once, not at every step.
pub fn warn_once() {
    ffi::warn_once();
}

/// The library for CUDA graphs, free memory and the current GPU. Without it a GPU computes all the same.
fn cuda() -> Result<&'static ffi::Cuda> {
    static OPENED: OnceLock<Result<ffi::Cuda, String>> = OnceLock::new();
    let open = || {
        ensure!(
            !CARRIED.is_empty(),
            "the program was built without the headers of the CUDA runtime: set CUDA_HOME and build it again"
        );
        ffi::Cuda::open(CARRIED)
            .context("the program's own part for CUDA does not fit the libtorch that runs")
    };
    let opened = OPENED.get_or_init(|| open().map_err(|err| format!("{err:#}")));
    opened.as_ref().map_err(|text| anyhow::anyhow!("{text}"))
}

/// Why there are no CUDA graphs, if there are none.
pub fn opens() -> Result<()> {
    cuda().map(|_| ())
}

/// Free bytes of a GPU and the major number of its compute capability.
pub fn card(gpu: usize) -> Result<(usize, i32)> {
    cuda()?.card(gpu)
}

/// What this thread does without naming a GPU, it does on this one: libtorch would ask the first.
pub fn make_current(gpu: usize) -> Result<()> {
    cuda()?.make_current(gpu)
}

/// Gives back what libtorch keeps of a GPU's memory for later, with it that of graphs that were dropped.
pub fn give_back() -> Result<()> {
    cuda()?.give_back()
}

/// Tells a profiler that waits for it to look, or no longer.
pub fn profile(on: bool) -> Result<()> {
    cuda()?.profile(on)
}

pub fn recorder(gpu: usize) -> Result<Recorder> {
    Recorder::new(cuda()?, gpu)
}

/// Whether convolutions of f32 on GPUs may round their factors to TF32 (10 bits in place of 23).
pub fn allow_tf32(allowed: bool) {
    ffi::allow_tf32(allowed);
}

/// One update of Adam on flat tensors of f32, in one kernel; where `blocked` [] is 1 nothing changes. `step` [] counts
/// from 1, both are f32 on the same device.
pub fn fused_adam(
    state: [&Tensor; 4],
    step: &Tensor,
    blocked: &Tensor,
    rate: f64,
    betas: (f64, f64),
    eps: f64,
) -> Result<()> {
    let [parameters, gradients, first, second] = state;
    let tensors = [parameters, gradients, first, second, step, blocked];
    for (place, tensor) in tensors.into_iter().enumerate() {
        let numel = if place < 4 { parameters.numel() } else { 1 };
        let fits = (tensor.kind(), tensor.device()) == (Kind::Float, parameters.device());
        ensure!(
            fits && tensor.numel() == numel && tensor.is_contiguous(),
            "Adam's tensor {place}: {tensor:?} beside {parameters:?}"
        );
    }
    ffi::fused_adam(tensors, rate, betas, eps)
}

/// Backward from a tensor whose gradient is known.
pub fn backward_from(x: &Tensor, gradient: &Tensor) -> Result<()> {
    ffi::backward_from(x, gradient)
}

/// The file of a library in this process whose name begins so.
pub fn in_this_process(name: &str) -> Option<PathBuf> {
    mapped(&fs::read_to_string("/proc/self/maps").ok()?, name)
}

fn mapped(maps: &str, name: &str) -> Option<PathBuf> {
    let mut files = maps
        .lines()
        .filter_map(|line| Some(&line[line.find('/')?..]));
    let is_it = |file: &&str| {
        let last = Path::new(file).file_name().and_then(|last| last.to_str());
        last.is_some_and(|last| last.starts_with(name))
    };
    files.find(is_it).map(PathBuf::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Where there is no GPU, what needs one says why not; beside libtorch_cuda it finds all it needs but the GPU.
    #[test]
    fn without_a_gpu_a_recorder_is_an_error() {
        load().unwrap();
        if tch::Cuda::device_count() > 0 {
            assert!(recorder(0).is_ok());
            return;
        }
        let error = recorder(0).err().unwrap().to_string();
        let undefined = error.contains("undefined symbol");
        let beside_cuda = in_this_process("libtorch_cuda.so").is_some();
        match !CARRIED.is_empty() {
            true => assert_eq!(undefined, !beside_cuda, "{error}"),
            false => assert!(error.contains("CUDA_HOME"), "{error}"),
        }
        println!("{error}");
    }

    #[test]
    fn a_library_is_found_by_how_its_file_is_called() {
        let maps = "7f1 r-xp 0 08:01 12   /usr/lib/libmpi.so.40\n7f2 r-xp 0 0 0 [vdso]\n\
                    7f3 r--p 0 08:01 13   /opt/x/lib/libtorch_cpu.so\n";
        let found = mapped(maps, "libtorch_cpu.so");
        assert_eq!(found, Some("/opt/x/lib/libtorch_cpu.so".into()));
        assert_eq!(mapped(maps, "libcudart"), None);
    }

    #[test]
    fn adam_takes_no_tensors_that_do_not_fit() {
        let tensor = Tensor::from_slice(&[1f32, 2.0]);
        let one = Tensor::from(1f32);
        let wrong = tensor.narrow(0, 0, 1);
        let state = [&tensor, &wrong, &tensor, &tensor];
        assert!(fused_adam(state, &one, &one, 0.1, (0.9, 0.999), 1e-7).is_err());
    }
}
