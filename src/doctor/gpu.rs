//! Devices: which one each rank gets, and whether the libtorch that was loaded can compute on it.

mod smi;
pub mod torch;

use std::{env, time::Instant};

use anyhow::{Result, ensure};
use serde::{Deserialize, Serialize};
use tch::{Cuda, Device, Kind, Tensor};

use super::{Line, PROBE_LIMIT, alike, duration, numbered, some, who, within};
use crate::{
    comm::Comm,
    device::{self, DeviceChoice},
    gpu,
};
use smi::Gpu;
use torch::Torch;

/// What a rank finds on its host.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Compute {
    /// That libtorch sees.
    gpus: usize,
    /// The GPU's index, or none for the CPU, as training would pick it.
    device: Result<Option<usize>, String>,
    visible: Option<String>,
    /// What the driver sees; asked by the first rank of a host. None without nvidia-smi.
    smi: Option<Result<Vec<Gpu>, String>>,
    /// Seconds of the first small convolution on the device.
    kernel: Result<f64, String>,
    torch: Torch,
}

impl Compute {
    pub fn on_gpu(&self) -> bool {
        matches!(self.device, Ok(Some(_)))
    }

    /// Where this rank computes, if its first kernel did.
    pub fn works_on(&self) -> Option<Device> {
        let index = self.device.as_ref().ok()?;
        let ran = self.kernel.is_ok();
        ran.then(|| index.map_or(Device::Cpu, Device::Cuda))
    }
}

pub fn probe(comm: &dyn Comm, choice: DeviceChoice) -> Compute {
    // What does not load, the lines below show as missing.
    let _ = gpu::load();
    let gpus = Cuda::device_count().max(0) as usize;
    let picked = device::pick(choice, gpus, comm.local_rank(), comm.local_size());
    let kernel = match &picked {
        Ok(device) => {
            let device = *device;
            within(PROBE_LIMIT, move || small_kernel(device))
        }
        Err(_) => Err("no device".into()),
    };
    Compute {
        gpus,
        device: picked
            .map(|device| match device {
                Device::Cuda(index) => Some(index),
                _ => None,
            })
            .map_err(|err| err.to_string()),
        visible: env::var("CUDA_VISIBLE_DEVICES").ok(),
        smi: (comm.local_rank() == 0).then(smi::ask).flatten(),
        kernel,
        torch: torch::probe(),
    }
}

/// A convolution of ones, whose sum is known: seconds it took, the start of the device included.
fn small_kernel(device: Device) -> Result<f64> {
    let began = Instant::now();
    let options = (Kind::Float, device);
    let input = Tensor::f_ones([2, 5, 256], options)?;
    let weight = Tensor::f_ones([8, 5, 7], options)?;
    let output = input.f_conv1d(&weight, None::<Tensor>, 1, 3, 1, 1)?;
    let sum = output.f_add_scalar(1.0)?.f_sum(Kind::Double)?;
    let sum = sum.f_double_value(&[])?;
    // 7 taps at 256 places, of which 2 x (3 + 2 + 1) lie in the padding.
    let expected = (2 * 8 * (5 * (7 * 256 - 12) + 256)) as f64;
    ensure!(
        sum == expected,
        "a convolution gives {sum} in place of {expected}"
    );
    Ok(began.elapsed().as_secs_f64())
}

pub fn judge(computes: &[Compute], hosts: &[&str], choice: DeviceChoice) -> Vec<Line> {
    if computes.is_empty() {
        return Vec::new();
    }
    let mut lines = devices(computes, hosts, choice);
    let torches: Vec<&Torch> = computes.iter().map(|of| &of.torch).collect();
    lines.extend(torch::judge(&torches, hosts));
    lines.extend(unseen(computes, hosts, choice));
    lines.extend(kernels(computes, hosts));
    lines
}

/// What the driver says about the host of a rank.
fn on_host_of<'a>(computes: &'a [Compute], hosts: &[&str], rank: usize) -> &'a [Gpu] {
    let same = |other: &usize| hosts[*other] == hosts[rank];
    let told = (0..computes.len())
        .filter(same)
        .find_map(|other| computes[other].smi.as_ref());
    told.and_then(|gpus| gpus.as_ref().ok())
        .map_or(&[], Vec::as_slice)
}

/// One GPU a rank, or the CPU on all.
fn devices(computes: &[Compute], hosts: &[&str], choice: DeviceChoice) -> Vec<Line> {
    let mut lines = Vec::new();
    for (err, ranks) in alike(computes.iter().map(|of| of.device.as_ref().err())) {
        let Some(err) = err else { continue };
        let different = alike(ranks.iter().map(|&rank| &computes[rank].visible)).len() > 1;
        let advice = if choice == DeviceChoice::Cuda && computes[ranks[0]].gpus == 0 {
            "see the libtorch line, or --device cpu"
        } else if different {
            "let every rank see all GPUs of its host: CUDA_VISIBLE_DEVICES alike for all, srun without --gpus-per-task"
        } else {
            "start one rank a GPU: mpirun --map-by ppr:<GPUs of a host>:node (MPICH: -ppn <GPUs of a host>), or ask for more GPUs"
        };
        lines.push(Line::fail(
            "device",
            format!("{}: {err}", who(&ranks, hosts)),
            advice,
        ));
    }
    let name_of = |rank: usize| {
        let index = computes[rank].device.as_ref().ok().copied().flatten()?;
        let visible = computes[rank].visible.as_deref();
        smi::physical(index, visible, on_host_of(computes, hosts, rank))
    };
    let named: Vec<(usize, &Gpu)> = (0..computes.len())
        .filter_map(|rank| Some((rank, name_of(rank)?)))
        .collect();
    for (uuid, places) in alike(named.iter().map(|(_, gpu)| gpu.uuid.as_str())) {
        if places.len() > 1 {
            let ranks: Vec<usize> = places.iter().map(|&place| named[place].0).collect();
            let found = format!("{} share the GPU {uuid}", who(&ranks, hosts));
            let advice =
                "CUDA_VISIBLE_DEVICES names a GPU twice, or two containers got the same one";
            lines.push(Line::fail("device", found, advice));
        }
    }
    if lines.is_empty() {
        let on_gpu = computes.iter().filter(|of| of.on_gpu()).count();
        let names = alike(named.iter().map(|(_, gpu)| gpu.shown()));
        let names: Vec<&str> = names.iter().map(|(name, _)| name.as_str()).collect();
        lines.push(match on_gpu {
            0 => Line::ok("device", format!("cpu ({})", who_all(computes.len()))),
            _ if on_gpu < computes.len() => Line::warn(
                "device",
                format!(
                    "{on_gpu} of {} ranks have a GPU, the others compute on the CPU",
                    computes.len()
                ),
                "all ranks wait for the slowest: ask for hosts of one kind, or --device cpu",
            ),
            _ if named.is_empty() => Line::ok(
                "device",
                format!("a GPU each ({}), not named: no nvidia-smi", who_all(on_gpu)),
            ),
            _ => Line::ok(
                "device",
                format!("a GPU each ({}): {}", who_all(on_gpu), some(&names)),
            ),
        });
        if names.len() > 1 {
            let advice = "all ranks wait for the slowest: ask for hosts of one kind";
            lines.push(Line::warn("device", "GPUs differ", advice));
        }
    }
    lines
}

fn who_all(ranks: usize) -> String {
    match ranks {
        1 => "1 rank".into(),
        _ => format!("{ranks} ranks"),
    }
}

/// GPUs that the driver sees and libtorch does not.
fn unseen(computes: &[Compute], hosts: &[&str], choice: DeviceChoice) -> Vec<Line> {
    let asked = (0..computes.len()).filter_map(|rank| {
        let line = match computes[rank].smi.as_ref()? {
            Err(err) => {
                let advice = "the driver does not answer: run nvidia-smi there, or leave this host out";
                Line::warn("gpu", format!("nvidia-smi: {err}"), advice)
            }
            Ok(gpus) if gpus.is_empty() || computes[rank].gpus > 0 => return None,
            Ok(gpus) => {
                let found = format!("{} x {}", gpus.len(), gpus[0].shown());
                if choice == DeviceChoice::Cpu {
                    Line::ok("gpu", format!("{found}, idle as --device cpu asks"))
                } else if !computes[rank].torch.cuda_build {
                    let build = smi::build_for(gpus[0].compute_cap);
                    Line::fail(
                        "gpu",
                        format!("{found}, but this is a CPU build of libtorch"),
                        format!("set LIBTORCH to a {build} of libtorch and build again; --device cpu to do without"),
                    )
                } else if let Some(visible) = computes[rank].visible.as_deref() {
                    Line::warn(
                        "gpu",
                        format!("{found}, hidden by CUDA_VISIBLE_DEVICES={visible}"),
                        "unset it, or say --device cpu",
                    )
                } else {
                    Line::fail(
                        "gpu",
                        format!("{found}, driver {}, but libtorch sees none", gpus[0].driver),
                        "the driver may be too old for this CUDA runtime: take an older CUDA build of libtorch",
                    )
                }
            }
        };
        Some((rank, line))
    });
    let asked: Vec<(usize, Line)> = asked.collect();
    let groups = alike(asked.iter().map(|(_, line)| line.text()));
    let of_group = |(_, places): (String, Vec<usize>)| {
        let line = &asked[places[0]].1;
        let on: Vec<&str> = places.iter().map(|&place| hosts[asked[place].0]).collect();
        Line {
            mark: line.mark,
            check: line.check,
            found: format!("{}: {}", some(&on), line.found),
            advice: line.advice.clone(),
        }
    };
    groups.into_iter().map(of_group).collect()
}

/// Whether every rank's device really computes.
fn kernels(computes: &[Compute], hosts: &[&str]) -> Vec<Line> {
    let ran = (0..computes.len()).filter(|&rank| computes[rank].device.is_ok());
    let ran: Vec<usize> = ran.collect();
    let mut lines = Vec::new();
    for (err, places) in alike(ran.iter().map(|&rank| computes[rank].kernel.as_ref().err())) {
        let Some(err) = err else { continue };
        let ranks: Vec<usize> = places.iter().map(|&place| ran[place]).collect();
        let gpus = on_host_of(computes, hosts, ranks[0]);
        let advice = smi::advice(err, gpus.first().and_then(|gpu| gpu.compute_cap));
        // libtorch appends a stack of C++ frames.
        let cause = err.lines().next().unwrap_or_default();
        let found = format!("{}: {cause}", who(&ranks, hosts));
        lines.push(Line::fail("kernel", found, advice));
    }
    let slowest = ran
        .iter()
        .filter_map(|&rank| computes[rank].kernel.as_ref().ok())
        .fold(0.0, |a: f64, b| a.max(*b));
    if lines.is_empty() && !ran.is_empty() {
        let found = format!(
            "a convolution runs and is right on {}, first after {}",
            match ran.len() == computes.len() {
                true => "every device".into(),
                false => numbered("rank", &ran),
            },
            duration(slowest)
        );
        lines.push(Line::ok("kernel", found));
    }
    lines
}

#[cfg(test)]
mod tests;
