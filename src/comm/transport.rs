//! How tensors are summed over ranks: by MPI through host memory, or by NCCL between GPUs.

use anyhow::{Result, bail};
use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor};

use super::{Comm, ffi, nccl::Nccl};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum TransportChoice {
    /// NCCL where every rank has a GPU and the library, else MPI; the choice is printed
    Auto,
    /// Host memory; from a GPU through one page-locked buffer. Device memory is never given to MPI: libraries reduce it
    /// on the host, and their device paths break often
    Mpi,
    Nccl,
}

pub enum Transport {
    /// With a page-locked pair of buffers, where the tensors lie on a GPU.
    Mpi(Option<(Tensor, Tensor)>),
    Nccl(Nccl),
}

impl Transport {
    /// Decided alike on all ranks.
    pub fn new(choice: TransportChoice, comm: &dyn Comm, device: Device) -> Result<Self> {
        let gpu = match device {
            Device::Cuda(gpu) => Some(gpu),
            _ => None,
        };
        if choice == TransportChoice::Nccl && gpu.is_none() {
            bail!(
                "--transport nccl moves data between GPUs, and rank {} computes on the CPU; use --transport mpi",
                comm.rank()
            );
        }
        // One rank has nobody to speak to, and NCCL's start would ask for a network.
        if comm.size() == 1 && choice != TransportChoice::Nccl {
            return Ok(Self::Mpi(None));
        }
        let mut able = [f64::from(gpu.is_some() && Nccl::is_there())];
        comm.sum_f64(&mut able);
        let all = able[0] as usize == comm.size();
        if choice == TransportChoice::Nccl || (choice == TransportChoice::Auto && all) {
            return Ok(Self::Nccl(Nccl::start(comm, None, gpu)?));
        }
        Ok(Self::Mpi(None))
    }

    pub fn name(&self) -> String {
        match self {
            Self::Mpi(_) => "mpi".into(),
            Self::Nccl(nccl) => format!("nccl {}", nccl.version()),
        }
    }

    /// In good order, on all ranks.
    pub fn finish(self) -> Result<()> {
        match self {
            Self::Mpi(_) => Ok(()),
            Self::Nccl(nccl) => nccl.finish(),
        }
    }

    /// `sums` becomes the sum of `own` over the ranks: both flat, on this rank's device, f32 (or f64 for proofs).
    pub fn sum(&mut self, comm: &dyn Comm, own: &Tensor, sums: &mut Tensor) -> Result<()> {
        match self {
            Self::Nccl(nccl) => {
                nccl.check()?;
                nccl.sum(own, sums)
            }
            Self::Mpi(_) if own.kind() == Kind::Double => {
                sums.copy_(own);
                self.sum_doubles(comm, sums)
            }
            Self::Mpi(_) if own.device() == Device::Cpu => {
                comm.sum_into(ffi::floats(own), ffi::floats_mut(sums));
                Ok(())
            }
            Self::Mpi(locked) => {
                let (send, receive) =
                    locked.get_or_insert_with(|| (page_locked(own), page_locked(own)));
                send.copy_(own);
                comm.sum_into(ffi::floats(send), ffi::floats_mut(receive));
                sums.copy_(receive);
                Ok(())
            }
        }
    }

    /// As synchronised batch norm asks for it, which cannot go on without.
    pub fn sum_statistics(&self, comm: &dyn Comm, values: &mut Tensor) {
        if comm.size() > 1 {
            let summed = self.sum_doubles(comm, values);
            summed.expect("statistics are summed as gradients are");
        }
    }

    /// A few doubles, in place: the statistics of synchronised batch norm.
    pub fn sum_doubles(&self, comm: &dyn Comm, values: &mut Tensor) -> Result<()> {
        if let Self::Nccl(nccl) = self {
            return nccl.sum(values, values);
        }
        let mut host = Vec::<f64>::try_from(&*values)?;
        comm.sum_f64(&mut host);
        values.copy_(&Tensor::from_slice(&host));
        Ok(())
    }
}

fn page_locked(like: &Tensor) -> Tensor {
    Tensor::zeros([like.numel() as i64], (like.kind(), Device::Cpu))
        .internal_pin_memory(like.device())
}
