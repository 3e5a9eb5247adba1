//! Compiles the kernels: to PTX by nvcc for the feature `gpu`, and by the C++ compiler for the feature `twin`.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

fn main() {
    println!("cargo:rerun-if-changed=kernels");
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets it"));
    let has = |feature: &str| env::var_os(format!("CARGO_FEATURE_{feature}")).is_some();
    if has("GPU") {
        ptx(&out.join("kernels.ptx"));
    }
    // glibc's contexts are what the threads of a block are made of.
    if has("TWIN") && env::var("CARGO_CFG_TARGET_OS").as_deref() == Ok("linux") {
        twin(&out);
    }
}

/// One module for compute capability 8.0, from which the driver compiles for what it finds.
fn ptx(to: &Path) {
    let homes = ["RKD_CUDA_HOME", "CUDA_HOME"];
    homes.iter().for_each(|name| println!("cargo:rerun-if-env-changed={name}"));
    let nvcc = match homes.iter().find_map(env::var_os) {
        Some(home) => Path::new(&home).join("bin").join("nvcc"),
        None => PathBuf::from("nvcc"),
    };
    let mut command = Command::new(&nvcc);
    command.args(["-ptx", "-arch=compute_80", "-O3", "-o"]).arg(to).arg("kernels/module.cu");
    let advice = "rkd-cuda's feature gpu needs nvcc of CUDA 12 or 13: set RKD_CUDA_HOME or CUDA_HOME to a toolkit, or \
                  leave the feature out";
    match command.status() {
        Ok(status) if status.success() => {}
        Ok(status) => panic!("{} failed with {status}. {advice}", nvcc.display()),
        Err(error) => panic!("{}: {error}. {advice}", nvcc.display()),
    }
}

/// The kernels behind `twin.h`, with a table of them by name.
fn twin(out: &Path) {
    let mut entries = String::from("#define TWIN_ENTRIES \\\n");
    let mut files: Vec<_> =
        fs::read_dir("kernels").expect("the kernels").map(|file| file.expect("a file").path()).collect();
    files.sort();
    for file in files.iter().filter(|file| file.extension().is_some_and(|extension| extension == "cu")) {
        let text = fs::read_to_string(file).expect("a kernel");
        let mut entry = |name: &str| entries += &format!("  TWIN_ENTRY({name}), \\\n");
        for line in text.lines() {
            if let Some((name, _)) = line.strip_prefix("KERNEL ").and_then(|line| line.split_once('(')) {
                entry(name);
            }
            // One for each kind of activations: module.cu names them so.
            if let Some((name, _)) = line.strip_prefix("REAL_KERNEL(").and_then(|line| line.split_once(')')) {
                entry(name);
                entry(&format!("{name}_bf16"));
            }
        }
    }
    fs::write(out.join("twin_entries.h"), entries + "\n").expect("the table");
    cc::Build::new()
        .cpp(true)
        // The kernels throw nothing and use nothing of C++'s library.
        .cpp_link_stdlib(None)
        .std("c++17")
        .opt_level(2)
        .flags(["-fno-exceptions", "-fno-rtti"])
        .flag("-xc++")
        .define("RKD_TWIN", None)
        .include("kernels")
        .include(out)
        .warnings(true)
        .file("kernels/module.cu")
        .compile("rkd_cuda_twin");
}
