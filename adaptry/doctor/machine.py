"""Checks of this machine: installed packages, GPU, memory, limits."""

import importlib.metadata
import os
import platform
import re
import resource
import shutil
import subprocess
import sys

from adaptry.doctor.findings import Finding, broken, ok, warning
from adaptry.serve import preflight
from engine import host_memory

SUPPORTED = ((3, 11), (3, 13))
FEW_FILES = 4096
SMALL_MEMORY_BYTES = 2 * preflight.GIB
INSTALL = "run `make install` in a checkout, or install the wheel with [cpu] or [cuda]"


def check_python() -> Finding:
    shown = platform.python_version()
    if SUPPORTED[0] <= sys.version_info[:2] <= SUPPORTED[1]:
        return ok("python", f"{shown} at {sys.executable}")
    return broken("python", f"{shown} is not supported", "install with PYTHON=python3.11")


def check_install() -> Finding:
    """Whether all dependencies are installed."""
    try:
        distribution = importlib.metadata.distribution("adaptry")
    except importlib.metadata.PackageNotFoundError:
        return broken("install", "adaptry itself is not installed here", INSTALL)
    missing = sorted(filter(_is_missing, _requirements_of(distribution)))
    if missing:
        return broken("install", f"missing: {', '.join(missing)}", INSTALL)
    return ok("install", f"adaptry {distribution.version}, all dependencies are installed")


def _requirements_of(distribution: importlib.metadata.Distribution) -> set[str]:
    """Of the plain install and of a server, without what only a test or a cloud needs."""
    asked = distribution.requires or ()
    lines = (
        line for line in asked if "extra ==" not in line or re.search("extra == .server", line)
    )
    return {re.split(r"[^A-Za-z0-9._-]", line)[0] for line in lines}


def _is_missing(name: str) -> bool:
    try:
        importlib.metadata.distribution(name)  # whose version would have to be read
    except importlib.metadata.PackageNotFoundError:
        return True
    return False


def check_vllm() -> Finding:
    """From package metadata only: importing vLLM takes ten seconds."""
    from engine.vllm.compat import UnsupportedVllm, check_version, untested_remark

    try:
        engine = preflight.check_engine()
        version = check_version()
    except preflight.NotReady as error:
        return broken("vllm", str(error), INSTALL)
    except UnsupportedVllm as error:
        return broken("vllm", str(error), INSTALL)
    if remark := untested_remark(version):
        return warning("vllm", remark, "see the documentation: Upgrade, or install a tested one")
    return ok("vllm", f"{engine} {version}")


def check_gpu() -> Finding:
    """Whether the installed build of vLLM fits the machine's GPUs."""
    gpus = _gpus()
    has_cuda_build = not _is_missing("vllm")
    if has_cuda_build and not gpus:
        fix = "install NVIDIA's driver, or the CPU build: `make clean install ENGINE=cpu`"
        return broken("gpu", "vLLM's CUDA build is installed, but there is no NVIDIA GPU", fix)
    if gpus and not has_cuda_build:
        fix = "`make clean install ENGINE=cuda`"
        return warning("gpu", f"{gpus[0]} is not used: vLLM's CPU build is installed", fix)
    return ok("gpu", ", ".join(gpus) if gpus else "none; vLLM's CPU build is installed")


def _gpus() -> list[str]:
    """Name and memory of each GPU."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return []
    command = [tool, "--query-gpu=name,memory.total", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return []
    return done.stdout.strip().splitlines() if done.returncode == 0 else []


def check_compiler() -> Finding:
    try:
        engine = preflight.check_engine()
        preflight.check_compiler(engine, eager=False)
    except preflight.NotReady as error:
        fix = "Debian, Ubuntu: `apt-get install g++`, or serve with --enforce-eager on a CPU"
        return warning("compiler", str(error), fix)
    return ok("compiler", "vLLM can compile its kernels")


def check_memory() -> Finding:
    available = host_memory.available_bytes()
    shown = f"{available / preflight.GIB:.1f} GiB available, {os.cpu_count()} cores"
    if available < SMALL_MEMORY_BYTES:
        fix = "free some: even the demo takes 2 GiB; a real model far more"
        return warning("memory", shown, fix)
    return ok("memory", shown)


def check_file_limit() -> Finding:
    """Each stream, connection and open file takes a descriptor."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    shown = "unlimited" if soft == resource.RLIM_INFINITY else f"{soft} files may be open"
    if soft != resource.RLIM_INFINITY and soft < FEW_FILES:
        allowed = "" if hard == resource.RLIM_INFINITY else f" (up to {hard} without root)"
        return warning("file limit", shown, f"`ulimit -n 65536` before `adaptry serve`{allowed}")
    return ok("file limit", shown)
