//! The libtorch that a rank has loaded: which, where from, built for what.

use std::{env, fs, path::Path};

use serde::{Deserialize, Serialize};
use tch::Cuda;

use crate::{
    doctor::{Line, alike, who},
    gpu::in_this_process,
};

/// The libtorch that this process has loaded.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Torch {
    pub folder: Option<String>,
    pub version: Option<String>,
    pub cuda_build: bool,
    /// Known where there is a GPU.
    pub cudnn: Option<bool>,
    /// Of the CUDA runtime's file, such as 13.
    pub runtime: Option<String>,
    pub simd: Vec<String>,
}

pub fn probe() -> Torch {
    let path = in_this_process("libtorch_cpu.so");
    let folder = path.as_deref().and_then(Path::parent);
    let runtime = in_this_process("libcudart");
    Torch {
        version: folder.and_then(|lib| version(lib.parent()?)),
        folder: folder.map(|lib| lib.display().to_string()),
        cuda_build: in_this_process("libtorch_cuda").is_some(),
        cudnn: (Cuda::device_count() > 0).then(Cuda::cudnn_is_available),
        runtime: runtime.and_then(|path| Some(path.to_str()?.split(".so.").nth(1)?.to_string())),
        simd: simd(),
    }
}

/// As libtorch archives, Python wheels and headers write it.
fn version(torch: &Path) -> Option<String> {
    let read = |name: &str| fs::read_to_string(torch.join(name)).ok();
    let archive = || Some(read("build-version")?.trim().to_string());
    let wheel = || {
        let text = read("version.py")?;
        let line = text.lines().find(|line| line.starts_with("__version__"))?;
        Some(line.split('\'').nth(1)?.to_string())
    };
    let headers = || {
        let text = read("include/torch/headeronly/version.h")
            .or_else(|| read("include/torch/csrc/api/include/torch/version.h"))?;
        let part = |name: &str| {
            let define = format!("#define TORCH_VERSION_{name} ");
            let line = text
                .lines()
                .find_map(|line| line.strip_prefix(define.as_str()));
            line.map(str::trim)
        };
        Some(format!(
            "{}.{}.{}",
            part("MAJOR")?,
            part("MINOR")?,
            part("PATCH")?
        ))
    };
    archive().or_else(wheel).or_else(headers)
}

/// Vector units that libtorch's kernels are chosen by.
fn simd() -> Vec<String> {
    #[cfg(target_arch = "x86_64")]
    let found = [
        ("avx2", is_x86_feature_detected!("avx2")),
        ("avx512", is_x86_feature_detected!("avx512f")),
    ];
    #[cfg(not(target_arch = "x86_64"))]
    let found = [(env::consts::ARCH, true)];
    let names = found.into_iter().filter(|(_, is)| *is);
    names.map(|(name, _)| name.to_string()).collect()
}

/// Which libtorch each rank has loaded, and whether it is the one that was linked.
pub fn judge(torches: &[&Torch], hosts: &[&str]) -> Vec<Line> {
    let linked = env!("LINKED_LIBTORCH");
    let line = |(torch, ranks): (&Torch, Vec<usize>)| {
        let version = torch.version.as_deref().unwrap_or("of unknown version");
        let build = match (torch.cuda_build, &torch.runtime) {
            (true, Some(runtime)) => format!("CUDA {runtime} build"),
            (true, None) => "CUDA build".into(),
            (false, _) => "CPU build".into(),
        };
        let cudnn = match (torch.cuda_build, torch.cudnn) {
            (true, Some(true)) => ", cuDNN",
            (true, Some(false)) => ", no cuDNN",
            _ => "",
        };
        let on = match ranks.len() == torches.len() {
            true => String::new(),
            false => format!("{}: ", who(&ranks, hosts)),
        };
        let found = format!(
            "{on}{version}, {build}{cudnn}, {} ({})",
            torch.simd.join(" "),
            torch.folder.as_deref().unwrap_or("folder unknown")
        );
        // Builds of one version differ in what follows the plus.
        let number = version.split('+').next();
        if torch.version.is_some() && !linked.is_empty() && number != Some(linked) {
            let found = format!("{found}, built with {linked}");
            let advice =
                "another libtorch comes first: take it out of LD_LIBRARY_PATH, or build again";
            return Line::fail("libtorch", found, advice);
        }
        if torch.cuda_build && torch.cudnn == Some(false) {
            let advice = "put cuDNN's lib folder on LD_LIBRARY_PATH: convolutions are slow without";
            return Line::warn("libtorch", found, advice);
        }
        if cfg!(target_arch = "x86_64") && !torch.simd.iter().any(|name| name == "avx2") {
            let advice = "no AVX2: the CPU computes several times slower than others";
            return Line::warn("libtorch", found, advice);
        }
        Line::ok("libtorch", found)
    };
    alike(torches.iter().copied())
        .into_iter()
        .map(line)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_found() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
        assert_eq!(version(folder.path()), None);
        write(
            "version.py",
            "from typing\n__version__ = '2.11.0+cu130'\ncuda = '13.0'\n",
        );
        assert_eq!(version(folder.path()).as_deref(), Some("2.11.0+cu130"));
        write("build-version", "2.11.0+cu126\n");
        assert_eq!(version(folder.path()).as_deref(), Some("2.11.0+cu126"));
    }
}
