//! Bakes the place of libtorch into the programs (as RUNPATH, so `LD_LIBRARY_PATH` still comes first) and lets
//! `libtorch_cuda.so` stay out of the link: it is opened at start-up where it exists.

use std::path::Path;

fn main() {
    println!("cargo:rerun-if-env-changed=LIBTORCH");
    println!("cargo:rustc-link-arg=-Wl,--allow-shlib-undefined");
    if let Ok(libtorch) = std::env::var("LIBTORCH") {
        let lib = Path::new(&libtorch).join("lib");
        println!(
            "cargo:rustc-link-arg=-Wl,--enable-new-dtags,-rpath,{}",
            lib.display()
        );
    }
}
