//! What the driver says of a host's GPUs, and what its errors mean.

use std::{
    io::{self, Read},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};

/// Without persistence mode it takes seconds for every GPU; with a sick driver it never ends.
const LIMIT: Duration = Duration::from_secs(30);

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Gpu {
    pub index: usize,
    pub uuid: String,
    pub name: String,
    /// Such as (7, 0) of a V100.
    pub compute_cap: Option<(u32, u32)>,
    /// MiB
    pub memory: Option<u64>,
    pub driver: String,
}

impl Gpu {
    pub fn shown(&self) -> String {
        let memory = self.memory.map_or(String::new(), |mib| {
            format!(" {} GB", (mib * 1024 * 1024) / 1_000_000_000)
        });
        let sm = self.compute_cap.map_or(String::new(), |(major, minor)| {
            format!(" sm_{major}{minor}")
        });
        format!("{}{memory}{sm}", self.name)
    }
}

/// None where there is no nvidia-smi.
pub fn ask() -> Option<Result<Vec<Gpu>, String>> {
    let child = Command::new("nvidia-smi")
        .args([
            "--query-gpu=index,uuid,name,compute_cap,memory.total,driver_version",
            "--format=csv,noheader,nounits",
        ])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn();
    let mut child = match child {
        Ok(child) => child,
        Err(err) if err.kind() == io::ErrorKind::NotFound => return None,
        Err(err) => return Some(Err(err.to_string())),
    };
    let began = Instant::now();
    let status = loop {
        match child.try_wait() {
            Ok(Some(status)) => break status,
            Ok(None) if began.elapsed() < LIMIT => thread::sleep(Duration::from_millis(10)),
            Ok(None) => {
                let _ = child.kill();
                return Some(Err(format!("no answer within {} s", LIMIT.as_secs())));
            }
            Err(err) => return Some(Err(err.to_string())),
        }
    };
    // A line a GPU: less than a pipe holds.
    let mut text = String::new();
    if let Some(mut output) = child.stdout.take() {
        let _ = output.read_to_string(&mut text);
    }
    if !status.success() {
        return Some(Err(text.lines().next().unwrap_or("failed").to_string()));
    }
    Some(Ok(parse(&text)))
}

/// `0, GPU-5ad0, Tesla V100-SXM2-32GB, 7.0, 32768, 535.104` for each GPU.
fn parse(text: &str) -> Vec<Gpu> {
    let gpu = |line: &str| {
        let fields: Vec<&str> = line.split(',').map(str::trim).collect();
        let [index, uuid, name, compute_cap, memory, driver] = fields[..] else {
            return None;
        };
        let cap = compute_cap.split_once('.');
        Some(Gpu {
            index: index.parse().ok()?,
            uuid: uuid.into(),
            name: name.into(),
            compute_cap: cap.and_then(|(a, b)| Some((a.parse().ok()?, b.parse().ok()?))),
            memory: memory.split(' ').next().and_then(|mib| mib.parse().ok()),
            driver: driver.into(),
        })
    };
    text.lines().filter_map(gpu).collect()
}

/// The GPU that CUDA calls `index`, under CUDA_VISIBLE_DEVICES.
pub fn physical<'a>(index: usize, visible: Option<&str>, gpus: &'a [Gpu]) -> Option<&'a Gpu> {
    let Some(visible) = visible else {
        return gpus.get(index);
    };
    let name = visible.split(',').nth(index)?.trim();
    gpus.iter().find(|gpu| match name.parse::<usize>() {
        Ok(number) => gpu.index == number,
        // A unique beginning of the UUID will do.
        Err(_) => !name.is_empty() && gpu.uuid.starts_with(name),
    })
}

/// The build of libtorch 2.11 that holds kernels for a GPU: of Volta and older only cu126 does.
pub fn build_for(compute_cap: Option<(u32, u32)>) -> &'static str {
    match compute_cap {
        Some(cap) if cap < (7, 5) => "CUDA 12.6 (cu126) build",
        Some(cap) if cap >= (10, 0) => "CUDA 13 (cu130) build",
        _ => "CUDA build (cu126 or newer)",
    }
}

/// What to do about an error of libtorch or CUDA.
pub fn advice(err: &str, compute_cap: Option<(u32, u32)>) -> String {
    let has = |words: &[&str]| words.iter().any(|word| err.contains(word));
    if has(&[
        "no kernel image",
        "NO_BINARY_FOR_GPU",
        "named symbol not found",
    ]) {
        let sm = compute_cap.map_or("this GPU".into(), |(a, b)| format!("sm_{a}{b}"));
        let build = build_for(compute_cap);
        return format!(
            "this libtorch holds no kernels for {sm}: take a {build}; CUDA 13 builds have none for V100 (sm_70)"
        );
    }
    let known = [
        (
            &["driver version is insufficient", "driver is too old"][..],
            "the driver is older than this CUDA runtime: take an older CUDA build of libtorch, or a newer driver",
        ),
        (
            &["out of memory"],
            "another process holds the GPU: see nvidia-smi, end it or ask for another GPU",
        ),
        (
            &["busy or unavailable", "already in use"],
            "the GPU is in exclusive mode and taken: one rank a GPU, and no other job on it",
        ),
        (
            &["CUDNN", "cuDNN", "libcudnn"],
            "cuDNN does not fit: put the one this libtorch was built with first on LD_LIBRARY_PATH",
        ),
        (
            &["no answer within"],
            "the device hangs: run nvidia-smi there, or leave this host out",
        ),
    ];
    let found = known.iter().find(|(words, _)| has(words));
    found
        .map_or(
            "see nvidia-smi and the kernel's log (Xid) on that host",
            |(_, advice)| advice,
        )
        .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TWO: &str = "0, GPU-aa01, Tesla V100-SXM2-32GB, 7.0, 32768, 535.104.05\n\
                       1, GPU-bb02, Tesla V100-SXM2-32GB, 7.0, 32768, 535.104.05\n";

    #[test]
    fn the_drivers_table_is_understood() {
        let gpus = parse(TWO);
        assert_eq!(gpus.len(), 2);
        assert_eq!(gpus[1].compute_cap, Some((7, 0)));
        assert_eq!(gpus[0].shown(), "Tesla V100-SXM2-32GB 34 GB sm_70");
        let odd = parse("0, GPU-cc, NVIDIA GB10, [N/A], [N/A], 580.1\nNo devices were found\n");
        assert_eq!(odd.len(), 1);
        assert_eq!(odd[0].shown(), "NVIDIA GB10");
        assert!(parse("").is_empty());
    }

    #[test]
    fn the_visible_devices_say_which_gpu_is_meant() {
        let gpus = parse(TWO);
        let uuid = |index, visible| physical(index, visible, &gpus).map(|gpu| gpu.uuid.as_str());
        assert_eq!(uuid(1, None), Some("GPU-bb02"));
        assert_eq!(uuid(0, Some("1")), Some("GPU-bb02"));
        assert_eq!(uuid(1, Some("1,0")), Some("GPU-aa01"));
        assert_eq!(uuid(0, Some("GPU-bb")), Some("GPU-bb02"));
        assert_eq!(uuid(1, Some("0")), None);
        assert_eq!(uuid(0, Some("")), None);
    }

    #[test]
    fn errors_lead_to_the_build_that_works() {
        let err = "CUDA error: no kernel image is available for execution on the device";
        let volta = advice(err, Some((7, 0)));
        assert!(
            volta.contains("sm_70") && volta.contains("cu126"),
            "{volta}"
        );
        assert!(advice(err, Some((12, 0))).contains("cu130"));
        assert!(advice("CUDA out of memory. Tried", None).contains("another process"));
        assert!(
            advice("cuDNN error: CUDNN_STATUS_NOT_INITIALIZED", None).contains("LD_LIBRARY_PATH")
        );
        assert!(advice("something new", None).contains("Xid"));
    }
}
