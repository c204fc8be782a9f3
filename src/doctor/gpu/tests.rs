use super::*;

fn torch(cuda_build: bool) -> Torch {
    Torch {
        folder: Some("/opt/libtorch/lib".into()),
        version: Some(env!("LINKED_LIBTORCH").into()),
        cuda_build,
        cudnn: cuda_build.then_some(true),
        runtime: None,
        simd: vec!["avx2".into()],
    }
}

fn volta(index: usize) -> Gpu {
    Gpu {
        index,
        uuid: format!("GPU-{index}"),
        name: "Tesla V100".into(),
        compute_cap: Some((7, 0)),
        memory: None,
        driver: "535".into(),
    }
}

/// One host, a CUDA build, as many GPUs as given.
fn host(ranks: usize, gpus: usize) -> Vec<Compute> {
    (0..ranks)
        .map(|rank| Compute {
            gpus,
            device: device::pick(DeviceChoice::Auto, gpus, rank, ranks)
                .map(|device| match device {
                    Device::Cuda(index) => Some(index),
                    _ => None,
                })
                .map_err(|err| err.to_string()),
            visible: None,
            smi: (rank == 0).then(|| Ok((0..gpus).map(volta).collect())),
            kernel: Ok(0.1),
            torch: torch(true),
        })
        .collect()
}

fn texts(computes: &[Compute], choice: DeviceChoice) -> String {
    let lines = judge(computes, &vec!["a"; computes.len()], choice);
    lines
        .iter()
        .map(|line| line.text() + "\n")
        .collect::<String>()
}

#[test]
fn the_small_kernel_is_right_on_the_cpu() {
    small_kernel(Device::Cpu).unwrap();
}

#[test]
fn a_gpu_each_is_good_and_too_few_fail() {
    let text = texts(&host(2, 2), DeviceChoice::Auto);
    assert!(
        text.contains("ok   device     a GPU each (2 ranks): Tesla V100 sm_70"),
        "{text}"
    );
    assert!(!text.contains("FAIL"), "{text}");
    let text = texts(&host(3, 2), DeviceChoice::Auto);
    assert!(
        text.contains("FAIL device     rank 2 on a: local rank 2 has no GPU"),
        "{text}"
    );
    assert!(text.contains("start one rank a GPU"), "{text}");
}

#[test]
fn a_gpu_for_two_ranks_fails() {
    let mut computes = host(2, 2);
    for of in &mut computes {
        of.visible = Some("1,1".into());
    }
    let text = texts(&computes, DeviceChoice::Auto);
    assert!(
        text.contains("FAIL device     every rank share the GPU GPU-1"),
        "{text}"
    );
}

#[test]
fn ranks_that_see_one_gpu_each_are_told_why() {
    let mut computes = host(2, 1);
    computes[0].visible = Some("0".into());
    computes[1].visible = Some("1".into());
    let text = texts(&computes, DeviceChoice::Auto);
    assert!(text.contains("FAIL device     rank 1 on a"), "{text}");
}

#[test]
fn a_gpu_that_libtorch_does_not_see_fails() {
    let mut computes = host(1, 0);
    computes[0].smi = Some(Ok(vec![volta(0)]));
    let text = texts(&computes, DeviceChoice::Auto);
    assert!(
        text.contains(
            "FAIL gpu        a: 1 x Tesla V100 sm_70, driver 535, but libtorch sees none"
        ),
        "{text}"
    );
    computes[0].torch = torch(false);
    let text = texts(&computes, DeviceChoice::Auto);
    assert!(
        text.contains("CPU build of libtorch") && text.contains("cu126"),
        "{text}"
    );
    assert!(texts(&computes, DeviceChoice::Cpu).contains("ok   gpu "));
    computes[0].torch = torch(true);
    computes[0].visible = Some(String::new());
    assert!(texts(&computes, DeviceChoice::Auto).contains("warn gpu "));
    computes[0].smi = Some(Err("no answer within 30 s".into()));
    assert!(
        texts(&computes, DeviceChoice::Auto).contains("warn gpu        a: nvidia-smi: no answer")
    );
}

#[test]
fn a_kernel_that_does_not_run_names_the_build() {
    let mut computes = host(2, 2);
    for of in &mut computes {
        of.kernel = Err("CUDA error: no kernel image is available\nframe #0".into());
    }
    let text = texts(&computes, DeviceChoice::Auto);
    assert!(
        text.contains("FAIL kernel     every rank: CUDA error: no kernel image is available  -> "),
        "{text}"
    );
    assert!(text.contains("no kernels for sm_70"), "{text}");
}

#[test]
fn another_libtorch_than_the_linked_one_fails() {
    let mut computes = host(2, 0);
    computes[1].torch.version = Some("2.5.1+cu121".into());
    computes[0].torch.version = Some(format!("{}+cu126", env!("LINKED_LIBTORCH")));
    let text = texts(&computes, DeviceChoice::Auto);
    assert!(
        text.contains("FAIL libtorch   rank 1 on a: 2.5.1+cu121"),
        "{text}"
    );
    assert!(text.contains("ok   libtorch   rank 0 on a"), "{text}");
}
