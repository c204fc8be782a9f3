//! Lets the binary find libtorch without LD_LIBRARY_PATH, keeps the CUDA half of a CUDA build linked in, and compiles
//! what tch leaves out of libtorch.

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
    let include = env::var_os("LIBTORCH_INCLUDE").map_or_else(
        || lib.join("../include"),
        |root| PathBuf::from(root).join("include"),
    );
    shims(&include, &lib);
}

/// aten.cpp becomes part of the program; cuda.cpp a library that the program carries within it, empty where the CUDA
/// runtime's headers are missing: a program that was built so says it when a GPU asks for that library.
fn shims(include: &Path, lib: &Path) {
    for file in ["src/gpu/aten.cpp", "src/gpu/cuda.cpp"] {
        println!("cargo:rerun-if-changed={file}");
    }
    let compiler = || {
        let mut build = cc::Build::new();
        build.cpp(true).std("c++17").warnings(false).flag("-w");
        build.include(include).pic(true).opt_level(2);
        build
    };
    compiler().file("src/gpu/aten.cpp").compile("tfbind_aten");

    let carried = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets it")).join("cuda.so");
    let Some(headers) = cuda_headers(lib) else {
        fs::write(&carried, []).expect("OUT_DIR can be written");
        return;
    };
    let mut command = compiler().get_compiler().to_command();
    command.arg("-I").arg(headers);
    // Wheels lack the header that says how their CMake was configured.
    command.arg("-DC10_CUDA_NO_CMAKE_CONFIGURE_FILE");
    command.args(["-shared", "-s", "src/gpu/cuda.cpp", "-o"]);
    let done = command.arg(&carried).status();
    assert!(
        done.is_ok_and(|status| status.success()),
        "src/gpu/cuda.cpp does not compile: {command:?}"
    );
}

/// Of a CUDA toolkit, or of the wheel nvidia-cuda-runtime (of CUDA 13 or 12) beside libtorch's.
fn cuda_headers(lib: &Path) -> Option<PathBuf> {
    let mut places = Vec::new();
    for name in ["CUDA_HOME", "CUDA_PATH"] {
        println!("cargo:rerun-if-env-changed={name}");
        places.extend(env::var_os(name).map(PathBuf::from));
    }
    for wheel in ["cu13", "cuda_runtime"] {
        places.push(lib.join("../../nvidia").join(wheel));
    }
    places.push("/usr/local/cuda".into());
    // A folder that is not there would have cargo build anew each time.
    let there = places.into_iter().filter(|place| place.is_dir());
    there
        .inspect(|place| println!("cargo:rerun-if-changed={}", place.display()))
        .map(|place| place.join("include"))
        .find(|include| include.join("cuda_runtime_api.h").exists())
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
