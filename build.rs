//! Compiles the CUDA kernels, where the feature `cuda` is on: each source to one image with machine code
//! for several architectures and PTX for those to come.
//!
//! nvcc is `$NVCC`, or that of `$CUDA_HOME`, or the one on the path. `$CUDA_ARCHS` names the compute
//! capabilities, the lowest first.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

const DEVICE: &str = "src/kernel/cuda/device";
const SOURCES: [&str; 4] = ["attention", "low_rank", "product", "rows"];
/// Ampere (A100), Ada and Ampere of the small kind, Hopper, Blackwell.
const ARCHS: &str = "80,86,89,90,100,120";

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    if std::env::var_os("CARGO_FEATURE_CUDA").is_none() {
        return;
    }
    println!("cargo::rerun-if-changed={DEVICE}");
    for name in ["NVCC", "CUDA_HOME", "CUDA_ARCHS"] {
        println!("cargo::rerun-if-env-changed={name}");
    }
    let nvcc = nvcc();
    let out = PathBuf::from(std::env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    let archs = std::env::var("CUDA_ARCHS").unwrap_or_else(|_| ARCHS.to_owned());
    // side by side: attention takes as long as all the others
    let started: Vec<_> = SOURCES
        .iter()
        .map(|source| (source, start(&nvcc, source, &archs, &out)))
        .collect();
    for (source, mut compiler) in started {
        let status = compiler
            .wait()
            .expect("a started process can be waited for");
        assert!(status.success(), "nvcc failed on {source}.cu: {status}");
    }
}

fn nvcc() -> OsString {
    let of_home = |home| Path::new(&home).join("bin/nvcc").into_os_string();
    std::env::var_os("NVCC")
        .or_else(|| std::env::var_os("CUDA_HOME").map(of_home))
        .unwrap_or_else(|| "nvcc".into())
}

fn start(nvcc: &OsString, source: &str, archs: &str, out: &Path) -> Child {
    let mut command = Command::new(nvcc);
    command.args(["-std=c++17", "-O3", "-fatbin", "--compress-mode=size"]);
    let archs: Vec<&str> = archs.split(',').map(str::trim).collect();
    for arch in &archs {
        command.arg(format!("-gencode=arch=compute_{arch},code=sm_{arch}"));
    }
    // what a later architecture compiles for itself
    if let Some(oldest) = archs.first() {
        command.arg(format!(
            "-gencode=arch=compute_{oldest},code=compute_{oldest}"
        ));
    }
    command.arg("-o").arg(out.join(format!("{source}.fatbin")));
    command.arg(format!("{DEVICE}/{source}.cu"));
    command.spawn().unwrap_or_else(|error| {
        panic!(
            "the feature `cuda` needs nvcc, and {} does not start ({error}): install CUDA 13's \
             toolkit, or set NVCC or CUDA_HOME; docs/gpu.md says how",
            nvcc.display()
        )
    })
}
