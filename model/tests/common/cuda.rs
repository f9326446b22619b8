//! Engine processes that load a fake NVIDIA driver: a few C functions that answer what environment variables
//! tell them to.
#![allow(dead_code)]

use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use demask_api::{Answer, Cuda, EngineInfo, PROTOCOL, Request, wire};

/// Source of the fake driver. `FAKE_INIT` sets the return value of `cuInit`, `FAKE_CUDA` the driver's CUDA
/// version, and `FAKE_DEVICES` the number of devices.
const DRIVER: &str = r#"
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
static int number(const char *name, int otherwise) { const char *text = getenv(name); return text ? atoi(text) : otherwise; }
int cuInit(unsigned flags) { return number("FAKE_INIT", 0); }
int cuGetErrorString(int code, const char **words) { *words = "words of the driver"; return 0; }
int cuDriverGetVersion(int *version) { *version = number("FAKE_CUDA", 13000); return 0; }
int cuDeviceGetCount(int *count) { *count = number("FAKE_DEVICES", 1); return 0; }
int cuDeviceGet(int *device, int at) { *device = at; return 0; }
int cuDeviceGetName(char *name, int length, int device) { strncpy(name, "a card", length); return 0; }
int cuDeviceTotalMem_v2(size_t *bytes, int device) { *bytes = 1 << 30; return 0; }
int cuDeviceGetAttribute(int *value, int which, int device) { *value = which == 75 ? 9 : 0; return 0; }
"#;

/// Compiles the fake driver into `folder` as `libcuda.so.1`.
pub fn driver(folder: &Path) {
    let source = folder.join("driver.c");
    std::fs::write(&source, DRIVER).unwrap();
    let compiler = std::env::var("CC").unwrap_or_else(|_| "cc".into());
    let made = Command::new(compiler)
        .args(["-shared", "-fPIC", "-w", "-o"])
        .arg(folder.join("libcuda.so.1"))
        .arg(&source)
        .status();
    assert!(made.unwrap().success());
}

/// A running `demask-engine` that chose its device by itself.
pub struct Engine {
    child: Child,
    _place: tempfile::TempDir,
    pub info: EngineInfo,
}

impl Engine {
    /// Starts an engine with the given environment variables, and with `folders` as its `LD_LIBRARY_PATH`.
    pub fn start(variables: &[(&str, &str)], folders: &[PathBuf]) -> Self {
        let place = tempfile::tempdir().unwrap();
        let socket = place.path().join("socket");
        let mut child = Command::new(env!("CARGO_BIN_EXE_demask-engine"))
            .arg("--socket")
            .arg(&socket)
            .args(["--threads", "1"])
            .env_remove("DEMASK_NO_CUDA")
            .env_remove("CUDA_VISIBLE_DEVICES")
            .env("LD_LIBRARY_PATH", std::env::join_paths(folders).unwrap())
            .envs(variables.iter().copied())
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut stream = loop {
            if let Ok(stream) = UnixStream::connect(&socket) {
                break stream;
            }
            assert!(child.try_wait().unwrap().is_none(), "the engine ended at once");
            std::thread::sleep(std::time::Duration::from_millis(5));
        };
        wire::write(&mut stream, &Request::Hello { protocol: PROTOCOL }).unwrap();
        let Some(Answer::Hello(info)) = wire::read(&mut stream).unwrap() else {
            panic!("no hello");
        };
        Self {
            child,
            _place: place,
            info,
        }
    }

    /// Returns what the engine reported about CUDA.
    pub fn found(&self) -> &Cuda {
        &self.info.device.cuda
    }

    /// Returns whether the engine has mapped a file whose path contains `name`.
    pub fn has_open(&self, name: &str) -> bool {
        let maps = std::fs::read_to_string(format!("/proc/{}/maps", self.child.id())).unwrap();
        maps.contains(name)
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
