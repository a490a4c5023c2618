"""Preflight checks before a server starts, and their one-line errors."""

import importlib.metadata
import importlib.util
import os
import socket
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

from adaptry.serve import preflight
from adaptry.serve.preflight import GIB, NotReady
from engine.host_memory import available_bytes
from engine.unfit_packages import hide_unfit_packages


def test_a_free_port_passes() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    preflight.check_port("127.0.0.1", port)


def test_a_busy_port_is_named_with_a_fix() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(NotReady, match=rf"port {port} .*--port {port + 1}"):
            preflight.check_port("127.0.0.1", port)


@pytest.mark.parametrize(
    ("variable", "most", "with_ray"),
    [("VLLM_RPC_BASE_PATH", 70, False), ("RAY_TMPDIR", 39, True)],
)
def test_a_folder_whose_sockets_would_have_too_long_a_path_is_refused(
    monkeypatch: pytest.MonkeyPatch, variable: str, most: int, with_ray: bool
) -> None:
    monkeypatch.setenv("VLLM_RPC_BASE_PATH", "/tmp")
    monkeypatch.setenv("RAY_TMPDIR", "/tmp")
    preflight.check_socket_folders(with_ray=with_ray)
    monkeypatch.setenv(variable, f"/{'x' * (most - 1)}")
    preflight.check_socket_folders(with_ray=with_ray)
    monkeypatch.setenv(variable, f"/{'x' * most}")
    with pytest.raises(
        NotReady, match=rf"\({most + 1} bytes; at most {most}\).* TMPDIR or {variable}"
    ):
        preflight.check_socket_folders(with_ray=with_ray)


def test_a_start_with_a_long_tmpdir_is_one_line(tmp_path: Path) -> None:
    folder = tmp_path / ("long" * 25)
    folder.mkdir()
    done = subprocess.run(
        [sys.executable, "-m", "adaptry", "serve", "some/model", "--port", "0"],
        env={**os.environ, "TMPDIR": str(folder)},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 1
    [line] = done.stderr.splitlines()
    assert f"{folder} is too long for sockets in it" in line


def test_too_little_memory_names_both_numbers() -> None:
    with pytest.raises(NotReady, match=r"about 3\.0 GiB .* 1\.5 GiB are available"):
        preflight.check_memory(3 * GIB, available_bytes=3 * GIB // 2)


def test_this_machine_has_memory() -> None:
    preflight.check_memory(1)


def test_a_container_with_less_memory_than_the_machine_counts(tmp_path: Path) -> None:
    (tmp_path / "memory.max").write_text("1000\n")
    (tmp_path / "memory.current").write_text("700\n")
    (tmp_path / "memory.stat").write_text("anon 400\ninactive_file 200\nactive_file 50\n")
    assert available_bytes(tmp_path) == 1000 - 700 + 250


def test_a_container_without_a_limit_has_the_machines_memory(tmp_path: Path) -> None:
    (tmp_path / "memory.max").write_text("max\n")
    assert available_bytes(tmp_path) > 10**6


def test_the_engine_is_found_without_importing_it() -> None:
    assert preflight.check_engine() in preflight.ENGINES


def test_a_missing_engine_says_how_to_install_it() -> None:
    with pytest.raises(NotReady, match="make install"):
        preflight.check_engine(("no-such-engine",))


@pytest.mark.parametrize(
    ("torch", "torchvision", "is_hidden"),
    [
        ("2.13.0+cpu", "0.28.0", True),
        ("2.13.0+cpu", "0.28.0+cu128", True),
        ("2.13.0+cpu", "0.28.0+cpu", False),
        ("2.13.0+cpu", "0.28.0+abc123", False),  # somebody's own build: not known to be wrong
        ("2.14.0", "0.29.0", False),
        (None, "0.29.0", False),
        ("2.13.0+cpu", None, False),
    ],
)
def test_a_torchvision_for_cuda_beside_a_torch_for_cpus_is_hidden(
    torch: str | None, torchvision: str | None, is_hidden: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What pip makes of the extra [cpu] where torchvision is found for CUDA alone."""
    installed = {"torch": torch, "torchvision": torchvision}

    def version(name: str) -> str:
        if found := installed.get(name):
            return found
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", version)
    monkeypatch.delitem(sys.modules, "torchvision", raising=False)
    hide_unfit_packages()
    assert ("torchvision" in sys.modules) == is_hidden
    if is_hidden:
        assert importlib.util.find_spec("torchvision") is None, "so transformers does not use it"
        with pytest.raises(ModuleNotFoundError):
            import_module("torchvision")
    monkeypatch.delitem(sys.modules, "torchvision", raising=False)


def test_an_engine_s_process_hides_it_too(tmp_path: Path) -> None:
    """It is spawned, and imports the command's module before vLLM."""
    for name, version in (("torch", "2.13.0+cpu"), ("torchvision", "0.28.0")):
        folder = tmp_path / f"{name}-{version}.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
        )
    main = tmp_path / "main.py"
    main.write_text(
        "import multiprocessing, sys\n"
        "from adaptry.cli import main\n"
        "def report(): print('torchvision' in sys.modules, flush=True)\n"
        "if __name__ == '__main__':\n"
        "    report()\n"
        "    child = multiprocessing.get_context('spawn').Process(target=report)\n"
        "    child.start(); child.join()\n"
    )
    path = os.pathsep.join((str(tmp_path), str(Path(__file__).parents[3])))
    done = subprocess.run(
        [sys.executable, main],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == ["False", "True"]


def test_an_engine_s_process_imports_the_command_s_module(tmp_path: Path) -> None:
    """Python passes a module's name on, but never one that ends with `__main__`."""
    program = (
        "import runpy, multiprocessing.spawn as spawn, adaptry.cli as cli\n"
        "cli.main = lambda: print(spawn.get_preparation_data('x')['init_main_from_path'])\n"
        "runpy.run_module('adaptry', run_name='__main__', alter_sys=True)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert done.stdout.strip().endswith("adaptry/__main__.py"), done.stderr


@pytest.mark.parametrize(
    ("engine", "eager", "advice"),
    [
        ("vllm", True, r"g\+\+\)$"),
        ("vllm", False, r"g\+\+\)$"),
        ("vllm-cpu", False, "enforce-eager"),
    ],
)
def test_compiling_needs_a_compiler(tmp_path: Path, engine: str, eager: bool, advice: str) -> None:
    with pytest.raises(NotReady, match=f"C.. compiler.*{advice}"):
        preflight.check_compiler(engine, eager=eager, search_path=str(tmp_path))
    (tmp_path / "gcc").touch(mode=0o755)
    preflight.check_compiler(engine, eager=eager, search_path=str(tmp_path))


def test_an_eager_cpu_compiles_nothing(tmp_path: Path) -> None:
    preflight.check_compiler("vllm-cpu", eager=True, search_path=str(tmp_path))


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    preflight.check_folder(tmp_path, "the model", "get it")
    with pytest.raises(NotReady, match=r"the model is not at .*/nowhere: get it"):
        preflight.check_folder(tmp_path / "nowhere", "the model", "get it")


def test_a_folder_is_created_and_a_file_in_its_place_is_refused(tmp_path: Path) -> None:
    preflight.check_writable(tmp_path / "a" / "b")
    assert (tmp_path / "a" / "b").is_dir()
    (tmp_path / "file").touch()
    with pytest.raises(NotReady, match="can't be created"):
        preflight.check_writable(tmp_path / "file" / "b")
