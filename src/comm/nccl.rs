//! Sums on the GPUs, by the NCCL that is found when the program starts. Ranks meet over MPI.

use std::path::{Path, PathBuf};

use anyhow::{Context, Error, Result, bail, ensure};
use tch::{Cuda, Device, Tensor};

use super::{
    Comm,
    ffi::{self, Communicator, NcclLibrary},
};
use crate::gpu::in_this_process;

const NAME: &str = "libnccl.so.2";
/// Where the wheels of PyPI put it, seen from the folder that holds torch/.
const WHEELS: [&str; 3] = ["nvidia/nccl/lib", "nvidia/cu13/lib", "torch/lib"];
const ELSE: &str = "--transport mpi sums without NCCL";

pub struct Nccl {
    /// None once it has ended.
    communicator: Option<Communicator>,
    gpu: Option<usize>,
}

impl Nccl {
    /// Collective. `library` is the only file tried if given. Without a GPU the tensors are on the CPU, which suits
    /// no real NCCL, but the one of the tests.
    pub fn start(comm: &dyn Comm, library: Option<&Path>, gpu: Option<usize>) -> Result<Self> {
        let start = || {
            // A rank that failed alone would leave the others waiting in NCCL: all of them go there, or none.
            let loaded = load(library).and_then(|loaded| {
                gpu.map_or(Ok(()), make_current)?;
                Ok(loaded)
            });
            let library = agree(comm, loaded)?;
            let mut version = library.version.to_le_bytes();
            comm.broadcast(&mut version);
            let id =
                same_version(library.version, i32::from_le_bytes(version)).and_then(
                    |()| match comm.rank() {
                        0 => library.unique_id(),
                        _ => Ok([0; ffi::ID_BYTES]),
                    },
                );
            let mut id = agree(comm, id)?;
            comm.broadcast(&mut id);
            let device = gpu.map_or(Device::Cpu, Device::Cuda);
            library.join(id, (comm.rank(), comm.size()), device)
        };
        let communicator = start().with_context(|| format!("NCCL does not start ({ELSE})"))?;
        Ok(Self {
            communicator: Some(communicator),
            gpu,
        })
    }

    /// Whether a library is found here.
    pub fn is_there() -> bool {
        load(None).is_ok()
    }

    pub fn version(&self) -> String {
        version_text(self.communicator().version())
    }

    /// `recv` becomes the sum of `send` over the ranks, on the GPU and in line with libtorch's work: whatever is
    /// computed from it afterwards sees the sum, and the host does not wait. The two may be the same tensor.
    pub fn sum(&self, send: &Tensor, recv: &Tensor) -> Result<()> {
        let sum = self.communicator().sum(send, recv);
        sum.with_context(|| format!("the sum over the GPUs failed ({ELSE})"))
    }

    /// What went wrong in a sum after `sum` had returned. Asks the host only: costs no wait.
    pub fn check(&self) -> Result<()> {
        let found = self.communicator().async_error();
        found.with_context(|| format!("a sum over the GPUs failed ({ELSE})"))
    }

    /// Ends in good order, on all ranks together.
    pub fn finish(mut self) -> Result<()> {
        self.check()?;
        // The sums of this rank are done before its end of them is freed.
        if let Some(gpu) = self.gpu {
            Cuda::synchronize(gpu as i64);
        }
        let communicator = self.communicator.take();
        communicator.map_or(Ok(()), Communicator::destroy)
    }

    fn communicator(&self) -> &Communicator {
        let live = self.communicator.as_ref();
        live.expect("only finish and drop take it")
    }
}

/// Without `finish` this rank leaves on an error or a panic while the others go on: ncclCommDestroy would wait for sums
/// that they never join, and the error would never be told. ncclCommAbort waits for no one. At a good end it would be
/// wrong: it might cut off a neighbour that still reads the last sum from here.
impl Drop for Nccl {
    fn drop(&mut self) {
        if let Some(communicator) = self.communicator.take() {
            communicator.abort();
        }
    }
}

fn load(given: Option<&Path>) -> Result<NcclLibrary> {
    let names = given.map_or_else(usual_places, |path| vec![path.to_path_buf()]);
    let mut tried = Vec::new();
    for name in names {
        match NcclLibrary::load(name.as_os_str()) {
            Ok(library) => return Ok(library),
            Err(err) => tried.push(said_of(&name, &err)),
        }
    }
    bail!("no NCCL found; tried {}", tried.join("; "))
}

fn usual_places() -> Vec<PathBuf> {
    let mut names = vec![PathBuf::from(NAME)];
    // <packages>/torch/lib/libtorch_cpu.so
    let libtorch = in_this_process("libtorch_cpu.so");
    if let Some(packages) = libtorch.as_deref().and_then(|file| file.ancestors().nth(3)) {
        names.extend(WHEELS.map(|folder| packages.join(folder).join(NAME)));
    }
    names
}

/// NCCL takes the current device. libtorch restores the one it found after each of its calls, so this one stays.
fn make_current(gpu: usize) -> Result<()> {
    // libtorch's own runtime, whatever its version and name: the zip archives of libtorch call it libcudart-<hash>.
    let own = in_this_process("libcudart").map(|file| vec![file]);
    let names = own.unwrap_or_else(|| {
        ["libcudart.so.13", "libcudart.so.12"]
            .map(PathBuf::from)
            .into()
    });
    let mut tried = Vec::new();
    for name in names {
        match ffi::make_current(name.as_os_str(), gpu) {
            Ok(()) => return Ok(()),
            Err(err) => tried.push(said_of(&name, &err)),
        }
    }
    bail!("GPU {gpu} cannot be used: {}", tried.join("; "))
}

/// The loader names the file in most of its messages.
fn said_of(name: &Path, err: &Error) -> String {
    let (name, text) = (name.display().to_string(), format!("{err:#}"));
    match text.contains(&name) {
        true => text,
        false => format!("{name}: {text}"),
    }
}

fn same_version(own: i32, of_rank_0: i32) -> Result<()> {
    let (here, there) = (version_text(own), version_text(of_rank_0));
    ensure!(
        here == there,
        "NCCL {here} is not the {there} of rank 0: ranks speak only to their own version"
    );
    Ok(())
}

/// NCCL_VERSION of nccl.h: a thousand a major version until 2.8, ten thousand since.
fn version_text(code: i32) -> String {
    let major = if code < 10_000 { 1_000 } else { 10_000 };
    format!("{}.{}.{}", code / major, code % major / 100, code % 100)
}

/// Whether it went well on all ranks; if not, all return the words of the first that failed.
fn agree<T>(comm: &dyn Comm, outcome: Result<T>) -> Result<T> {
    let text = match &outcome {
        Ok(_) => String::new(),
        Err(err) => format!("rank {} on {}: {err:#}", comm.rank(), comm.host()),
    };
    let mut lengths = vec![0; comm.size()];
    lengths[comm.rank()] = text.len() as u64;
    comm.sum_u64(&mut lengths);
    let Some(first) = lengths.iter().position(|&length| length > 0) else {
        return outcome;
    };
    // A sum to which one rank adds: MPI's broadcast here is from rank 0 only.
    let mut bytes = vec![0; lengths[first] as usize];
    if comm.rank() == first {
        bytes = text.bytes().map(u64::from).collect();
    }
    comm.sum_u64(&mut bytes);
    let bytes: Vec<u8> = bytes.into_iter().map(|byte| byte as u8).collect();
    let failed = lengths.iter().filter(|&&length| length > 0).count();
    let others = match failed {
        1 => String::new(),
        _ => format!(" ({} more ranks failed)", failed - 1),
    };
    bail!("{}{others}", String::from_utf8_lossy(&bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_read_as_on_the_box() {
        assert_eq!(version_text(23102), "2.31.2");
        assert_eq!(version_text(21003), "2.10.3");
        assert_eq!(version_text(2708), "2.7.8");
        assert!(same_version(23102, 23102).is_ok());
        let error = same_version(22907, 23102).unwrap_err().to_string();
        assert!(error.contains("2.29.7") && error.contains("2.31.2"));
    }

    #[test]
    fn the_places_begin_with_the_loader_and_go_on_beside_libtorch() {
        // Calls into libtorch, so that the linker keeps it.
        assert!(Cuda::device_count() >= 0);
        let places = usual_places();
        assert_eq!(places[0], Path::new(NAME));
        assert_eq!(places.len(), 1 + WHEELS.len());
        let torch = places[3].with_file_name("libtorch_cpu.so");
        assert!(torch.exists(), "{}", torch.display());
    }
}
