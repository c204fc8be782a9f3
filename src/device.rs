//! Which device a rank computes on: its local rank's GPU, or its share of the host's cores.

use anyhow::{Context, Result, bail, ensure};
use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use tch::{Cuda, Device};

use crate::{
    comm::{Comm, gather_lines},
    gpu,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum DeviceChoice {
    /// GPUs if libtorch sees any, else the CPU; the choice is printed
    Auto,
    Cpu,
    Cuda,
}

/// One GPU a rank, by local rank; never two ranks on one GPU, never a CPU in place of a GPU that was asked for.
pub fn pick(
    choice: DeviceChoice,
    gpus: usize,
    local_rank: usize,
    local_size: usize,
) -> Result<Device> {
    match choice {
        DeviceChoice::Cpu => Ok(Device::Cpu),
        DeviceChoice::Auto if gpus == 0 => Ok(Device::Cpu),
        DeviceChoice::Cuda if gpus == 0 => bail!(
            "--device cuda: libtorch sees no GPU (a CPU build of libtorch, no driver, or CUDA_VISIBLE_DEVICES is empty)"
        ),
        _ => {
            ensure!(
                local_rank < gpus,
                "local rank {local_rank} has no GPU: this host runs {local_size} ranks and libtorch sees {gpus} GPU(s)"
            );
            Ok(Device::Cuda(local_rank))
        }
    }
}

/// As `set_up_quietly`, and prints rank -> host -> device.
pub fn set_up(choice: DeviceChoice, threads: Option<usize>, comm: &dyn Comm) -> Result<Device> {
    let device = set_up_quietly(choice, threads, comm)?;
    let line = format!(
        "rank {} -> {} -> {} ({} threads)",
        comm.rank(),
        comm.host(),
        name(device),
        tch::get_num_threads()
    );
    for line in gather_lines(comm, &line) {
        println!("{line}");
    }
    Ok(device)
}

/// Picks the device and shares the host's cores among its ranks.
pub fn set_up_quietly(
    choice: DeviceChoice,
    threads: Option<usize>,
    comm: &dyn Comm,
) -> Result<Device> {
    if choice != DeviceChoice::Cpu {
        gpu::load()?;
    }
    let gpus = Cuda::device_count().max(0) as usize;
    let device = pick(choice, gpus, comm.local_rank(), comm.local_size())?;
    let threads = match threads {
        Some(threads) => threads,
        None => share_of_cores(comm.local_size())?,
    };
    tch::set_num_threads(num_threads(threads)?);
    if let Device::Cuda(gpu) = device
        && gpu::opens().is_ok()
    {
        gpu::make_current(gpu)?;
    }
    Ok(device)
}

/// As libtorch counts them.
pub fn num_threads(typed: usize) -> Result<i32> {
    let threads = i32::try_from(typed).ok().filter(|&threads| threads > 0);
    threads.with_context(|| {
        let most = i32::MAX;
        format!("--threads must be at least 1 and at most {most}, found {typed}")
    })
}

/// CPU threads of a rank unless others are typed.
pub fn share_of_cores(local_size: usize) -> Result<usize> {
    // Cores this process may run on; when mpirun does not bind, that is the whole host, to be shared.
    let allowed = std::thread::available_parallelism()?.get();
    Ok(allowed
        .min(host_cores().unwrap_or(allowed) / local_size)
        .max(1))
}

/// Logical cores of this host, whoever may use them.
pub fn host_cores() -> Option<usize> {
    let text = std::fs::read_to_string("/proc/cpuinfo").ok()?;
    let lines = text.lines();
    Some(lines.filter(|line| line.starts_with("processor")).count()).filter(|&count| count > 0)
}

pub fn name(device: Device) -> String {
    match device {
        Device::Cuda(gpu) => format!("cuda:{gpu}"),
        _ => "cpu".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gpu_that_is_not_there_is_refused() {
        assert!(
            pick(DeviceChoice::Cuda, 0, 0, 1)
                .unwrap_err()
                .to_string()
                .contains("sees no GPU")
        );
        assert!(pick(DeviceChoice::Cuda, 2, 2, 3).is_err());
        assert!(pick(DeviceChoice::Auto, 2, 2, 3).is_err());
        assert_eq!(pick(DeviceChoice::Auto, 0, 5, 6).unwrap(), Device::Cpu);
        assert_eq!(pick(DeviceChoice::Auto, 4, 3, 4).unwrap(), Device::Cuda(3));
        assert_eq!(pick(DeviceChoice::Cpu, 4, 3, 4).unwrap(), Device::Cpu);
    }
}
