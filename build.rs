//! Lets the binary find libtorch without LD_LIBRARY_PATH, and keeps the CUDA half of a CUDA build linked in.

use std::{
    env, fs,
    path::{Path, PathBuf},
};

fn main() {
    println!("cargo:rerun-if-env-changed=LIBTORCH");
    println!("cargo:rerun-if-env-changed=LIBTORCH_LIB");
    let Some(root) = env::var_os("LIBTORCH_LIB").or_else(|| env::var_os("LIBTORCH")) else {
        panic!("LIBTORCH is not set: run `make build`, which fetches libtorch");
    };
    let lib = PathBuf::from(root).join("lib");
    let lib = lib.canonicalize().unwrap_or_else(|err| {
        panic!(
            "{}: {err}; run `make build`, which fetches libtorch",
            lib.display()
        )
    });
    println!(
        "cargo:rustc-env=LINKED_LIBTORCH={}",
        version(&lib.join("..")).unwrap_or_default()
    );
    println!("cargo:rustc-link-arg=-Wl,-rpath,{}", lib.display());
    // The linker drops libtorch_cuda because no symbol of it is named; its kernels register when it is loaded.
    if lib.join("libtorch_cuda.so").exists() {
        println!("cargo:rustc-link-arg=-Wl,--no-as-needed");
        println!("cargo:rustc-link-arg=-L{}", lib.display());
        println!("cargo:rustc-link-arg=-ltorch_cuda");
    }
}

/// The libtorch that is linked, for `doctor` to compare with the one that is loaded.
fn version(torch: &Path) -> Option<String> {
    let headers = [
        "include/torch/headeronly/version.h",
        "include/torch/csrc/api/include/torch/version.h",
    ];
    let text = headers
        .iter()
        .find_map(|header| fs::read_to_string(torch.join(header)).ok())?;
    let part = |name: &str| {
        let define = format!("#define TORCH_VERSION_{name} ");
        text.lines()
            .find_map(|line| line.strip_prefix(define.as_str()))
            .map(|number| number.trim().to_string())
    };
    Some(format!(
        "{}.{}.{}",
        part("MAJOR")?,
        part("MINOR")?,
        part("PATCH")?
    ))
}
