#!/usr/bin/env python3
"""Finds libtorch 2.11.0 for the build, or fetches the CPU part of it into the user's cache folder.

Prints the folder on standard output and everything else on standard error, so that a Makefile can use it:

    LIBTORCH=$(python3 model/libtorch.py)

Looked for, in this order: the folder that LIBTORCH names; the PyTorch 2.11 of the active Python (CUDA builds too); the
cache (DEMASK_CACHE, else XDG_CACHE_HOME/demask, else ~/.cache/demask). What is fetched comes through pip, is checked
by its SHA-256 and is laid out as `lib/` and `include/`; nothing of Python is needed at run time.

    python3 model/libtorch.py              find or fetch, print the folder
    python3 model/libtorch.py --find       find only; exit 1 when there is none
    python3 model/libtorch.py --write-config   also write .cargo/config.toml, so that plain cargo finds it
"""

import argparse
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

VERSION = "2.11.0"
WHEELS = [
    ("torch==2.11.0", "torch-2.11.0-cp311-cp311-manylinux_2_28_x86_64.whl",
     "7aa2f9bbc6d4595ba72138026b2074be1233186150e9292865e04b7a63b8c67a"),
    ("nvidia-cuda-runtime==13.0.96",
     "nvidia_cuda_runtime-13.0.96-py3-none-manylinux2014_x86_64.manylinux_2_17_x86_64.whl",
     "7f82250d7782aa23b6cfe765ecc7db554bd3c2870c43f3d1821f1d18aebf0548"),
    ("nvidia-cuda-cupti==13.0.85", "nvidia_cuda_cupti-13.0.85-py3-none-manylinux_2_25_x86_64.whl",
     "4eb01c08e859bf924d222250d2e8f8b8ff6d3db4721288cf35d14252a4d933c8"),
]
LIBRARIES = ("libtorch_cpu.so", "libc10.so", "libgomp.so.1", "libcudart.so.13", "libcupti.so.13")
LINKER_SCRIPT = "INPUT(libtorch_cpu.so libc10.so)\n"


def say(text):
    print(text, file=sys.stderr, flush=True)


def cache_folder():
    """The user's cache folder for Demask, shared by every clone."""
    if os.environ.get("DEMASK_CACHE"):
        return Path(os.environ["DEMASK_CACHE"])
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "demask"


def from_environment():
    """The folder that LIBTORCH names, or None. A wrong one is an error, not a reason to fetch another."""
    named = os.environ.get("LIBTORCH")
    if not named:
        return None
    folder = Path(named)
    if not (folder / "lib" / "libtorch_cpu.so").is_file():
        sys.exit(f"libtorch: LIBTORCH names {folder}, but {folder}/lib/libtorch_cpu.so does not exist; "
                 "unset LIBTORCH to let Demask fetch its own")
    return folder


def from_python():
    """The PyTorch 2.11 of the active Python, laid out so that the linker needs no CUDA; or None."""
    for name in ("python3", "python"):
        program = shutil.which(name)
        if not program:
            continue
        found = subprocess.run(
            [program, "-c", "import torch;print(torch.__version__);print(torch.__path__[0])"],
            capture_output=True, text=True, check=False).stdout.split("\n")
        if len(found) >= 2 and found[0].startswith("2.11."):
            return lay_out(found[0], Path(found[1]))
    return None


def lay_out(version, torch):
    """A folder of links to an installed PyTorch, `torch/` beside `nvidia/` as in its own place, since its libraries look for
    CUDA's at `$ORIGIN/../../nvidia`. The CUDA half stays out of the link: the programs find it at run time beside the file
    that `libtorch_cpu.so` links to."""
    links = {f"torch/lib/{source.name}": source for source in (torch / "lib").iterdir()
             if source.name not in ("libtorch.so", "libtorch_cuda.so")}
    links["torch/include"] = torch / "include"
    if (torch.parent / "nvidia").is_dir():
        links["nvidia"] = torch.parent / "nvidia"
    name = hashlib.sha256(f"{version} {torch}".encode()).hexdigest()[:12]
    folder = cache_folder() / f"libtorch-{VERSION}-python-{name}"
    if not holds(folder, links):
        replace(folder, links)
    return folder / "torch"


def holds(folder, links):
    """Whether a folder has these links, no others, and the linker script."""
    script = folder / "torch" / "lib" / "libtorch.so"
    if not script.is_file() or script.is_symlink() or script.read_text() != LINKER_SCRIPT:
        return False
    found = {str(path.relative_to(folder)): Path(os.readlink(path)) for path in folder.rglob("*") if path.is_symlink()}
    return found == links


def replace(folder, links):
    """Makes the folder anew beside itself; it appears whole."""
    cache = folder.parent
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache, prefix="links-") as work:
        made = Path(work) / "made"
        (made / "torch" / "lib").mkdir(parents=True)
        for name, source in links.items():
            (made / name).symlink_to(source)
        (made / "torch" / "lib" / "libtorch.so").write_text(LINKER_SCRIPT)
        if folder.exists():
            os.rename(folder, Path(work) / "old")
        os.rename(made, folder)


def cached():
    """What an earlier fetch left, or None."""
    folder = cache_folder() / f"libtorch-{VERSION}-cpu"
    return folder if (folder / "complete").is_file() else None


def fetch():
    """Fetches the wheels, checks them, lays out lib/ and include/; the folder appears whole or not at all."""
    if platform.system() != "Linux" or platform.machine() != "x86_64":
        sys.exit(f"libtorch: no build of libtorch {VERSION} is known for {platform.system()} {platform.machine()}; "
                 "install PyTorch 2.11 in the active Python, or set LIBTORCH to a folder with lib/ and include/")
    cache = cache_folder()
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache, prefix="fetch-") as work:
        work = Path(work)
        for number, (requirement, name, digest) in enumerate(WHEELS, 1):
            say(f"libtorch: fetching {requirement} ({number} of {len(WHEELS)})")
            download(requirement, work)
            check(work / name, digest)
        say("libtorch: unpacking")
        folder = work / "libtorch"
        (folder / "lib").mkdir(parents=True)
        for _, name, _ in WHEELS:
            unpack(work / name, folder)
        missing = [library for library in LIBRARIES if not (folder / "lib" / library).is_file()]
        if missing:
            sys.exit(f"libtorch: the wheels lack {', '.join(missing)}; this is a bug in model/libtorch.py")
        (folder / "lib" / "libtorch.so").write_text(LINKER_SCRIPT)
        (folder / "complete").write_text(VERSION + "\n")
        final = cache / f"libtorch-{VERSION}-cpu"
        if final.exists():
            shutil.rmtree(final)
        os.rename(folder, final)
    say(f"libtorch: ready in {final}")
    return final


def download(requirement, work):
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--python-version", "3.11",
               "--implementation", "cp", "--abi", "cp311", "--abi", "none"]
    for tag in ("manylinux_2_28", "manylinux_2_25", "manylinux_2_17", "manylinux2014"):
        command += ["--platform", f"{tag}_x86_64"]
    command += ["--disable-pip-version-check", "-d", str(work), requirement]
    # pip draws its own progress bar on a terminal.
    done = subprocess.run(command, stdout=sys.stderr, check=False)
    if done.returncode != 0:
        sys.exit(f"libtorch: pip could not download {requirement} (its messages are above); "
                 "check the network, or set LIBTORCH to a folder that holds libtorch 2.11.0")


def check(wheel, digest):
    if not wheel.is_file():
        sys.exit(f"libtorch: expected pip to save {wheel.name}, found {sorted(p.name for p in wheel.parent.iterdir())}")
    found = hashlib.sha256()
    with open(wheel, "rb") as file:
        while block := file.read(1 << 20):
            found.update(block)
    if found.hexdigest() != digest:
        sys.exit(f"libtorch: {wheel.name} has SHA-256 {found.hexdigest()}, expected {digest}; nothing was installed")


def unpack(wheel, folder):
    with zipfile.ZipFile(wheel) as archive:
        for entry in archive.infolist():
            name = entry.filename
            if name.startswith("torch/include/") and not name.endswith("/"):
                target = folder / name[len("torch/"):]
            elif Path(name).name in LIBRARIES:
                target = folder / "lib" / Path(name).name
            else:
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            with archive.open(entry) as source, open(target, "wb") as out:
                shutil.copyfileobj(source, out, 1 << 20)
            if target.suffix != ".h":
                target.chmod(0o755)


def write_config(folder):
    """Writes .cargo/config.toml beside the workspace, so that plain `cargo build` finds the same libtorch."""
    path = Path(__file__).resolve().parent.parent / ".cargo" / "config.toml"
    text = ("# Written by model/libtorch.py; not in git.\n[env]\n"
            f'LIBTORCH = "{folder}"\nLIBTORCH_CXX11_ABI = "1"\nLIBTORCH_BYPASS_VERSION_CHECK = "1"\n')
    if not path.is_file() or path.read_text() != text:
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--find", action="store_true", help="only look; exit 1 when there is none")
    parser.add_argument("--write-config", action="store_true", help="also write .cargo/config.toml")
    options = parser.parse_args()
    folder = from_environment() or from_python() or cached()
    if folder is None:
        if options.find:
            sys.exit(f"libtorch: no libtorch {VERSION} found; run `make libtorch`")
        folder = fetch()
    if options.write_config:
        write_config(folder)
    print(folder)


if __name__ == "__main__":
    main()
