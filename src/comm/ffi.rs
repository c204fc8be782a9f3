#![allow(unsafe_code)]
//! The one room where `unsafe` may stand: tensor memory as slices.

use tch::{Device, Kind, Tensor};

pub fn floats(tensor: &Tensor) -> &[f32] {
    check(tensor);
    // SAFETY: `check` has shown numel() floats in a row in host memory, which live as long as the tensor.
    unsafe { std::slice::from_raw_parts(tensor.data_ptr().cast(), tensor.numel()) }
}

pub fn floats_mut(tensor: &mut Tensor) -> &mut [f32] {
    check(tensor);
    // SAFETY: as above; the tensor is borrowed for as long as the slice.
    unsafe { std::slice::from_raw_parts_mut(tensor.data_ptr().cast(), tensor.numel()) }
}

fn check(tensor: &Tensor) {
    assert_eq!(tensor.device(), Device::Cpu, "MPI reads host memory");
    assert_eq!(tensor.kind(), Kind::Float);
    assert!(tensor.is_contiguous() && tensor.numel() > 0);
}
