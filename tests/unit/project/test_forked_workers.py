"""Forks of xdist's processes: they are of one that has collected, and report what it could not."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

ROOT = Path(__file__).resolve().parents[3]
NOTES_ITS_IMPORT = """
import os
from pathlib import Path

with Path(__file__).with_name("imports").open("a") as file:
    print(os.getpid(), file=file)

def test_it_runs_elsewhere():
    imports = Path(__file__).with_name("imports").read_text().split()
    assert len(imports) == 1 and str(os.getpid()) not in imports
"""
USES_FORKS = """
import subprocess, sys
from tests.support.docs.forked_commands import folder_of_commands
from tests.support.servers.forks import forked_process

def test_a_process_is_forked():
    process = forked_process(sys.exit, (3,))
    process.start()
    process.join(60)
    assert process.exitcode == 3

def test_a_command_is_forked():
    asked = [folder_of_commands() / "adaptry", "--version"]
    assert subprocess.run(asked, capture_output=True, timeout=60).stdout.startswith(b"adaptry")
"""
SPAWNS_ITS_ENGINE = """
import multiprocessing, sys, types
from pathlib import Path

sys.modules["vllm.v1.engine.core"] = types.ModuleType("stands for vLLM's, which is imported")
HERE = Path(__file__).parent

def say_where():
    print("in its log", flush=True)
    print("in its errors", file=sys.stderr)

def test_it_is_a_fork_that_has_the_files_of_now(capfd):
    process = multiprocessing.get_context("spawn").Process(target=say_where)
    process.start()
    process.join(60)
    assert process.exitcode == 0, "spawned anew, it would not find this module"
    assert capfd.readouterr() == ("in its log\\n", "in its errors\\n")
"""
SLEEPS = """
import os, time
from pathlib import Path

def test_it_sleeps():
    Path(__file__).with_name("pid").write_text(str(os.getpid()))
    time.sleep(100)
"""


@pytest.fixture(autouse=True)
def no_other_plugins(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that are installed would be imported by each process: three seconds of CPU a test."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")


def command(folder: Path, *options: str) -> list[str]:
    """Two processes, with nothing of this project but what forks them."""
    (folder / "pytest.ini").write_text("[pytest]\naddopts = --import-mode=importlib\n")
    plugins = ("xdist", "tests.support.workers.forks", "no:cacheprovider")
    program = [sys.executable, "-m", "pytest", "-n2", *(f"-p{each}" for each in plugins)]
    return [*program, f"--basetemp={folder}/temporary", str(folder), *options]


def run(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(folder, *options),
        check=False,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_each_file_is_imported_once(tmp_path: Path) -> None:
    (tmp_path / "test_noted.py").write_text(NOTES_ITS_IMPORT)
    done = run(tmp_path)
    assert done.returncode == pytest.ExitCode.OK, done.stdout + done.stderr
    assert "1 passed" in done.stdout


def test_they_are_forked_whatever_threads_the_environment_asks_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "test_noted.py").write_text(f"import numpy\n{NOTES_ITS_IMPORT}")
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    with (tmp_path / "test_noted.py").open("a") as file:
        file.write(f"    assert [os.environ[name] for name in {names}] == ['2', '2']\n")
    for name in names:
        monkeypatch.setenv(name, "2")
    done = run(tmp_path)
    assert done.returncode == pytest.ExitCode.OK, done.stdout + done.stderr


STARTS_A_THREAD = """
import threading
from pathlib import Path

threading.Thread(target=threading.Event().wait, name="waits for ever", daemon=True).start()

def test_it_runs():
    with Path(__file__).with_name("runs").open("a") as file:
        print(file.name, file=file)
"""


def test_a_file_that_starts_a_thread_is_named_and_all_tests_run(tmp_path: Path) -> None:
    """A fork would lose the thread: each process imports the tests itself."""
    (tmp_path / "test_threaded.py").write_text(STARTS_A_THREAD)
    (tmp_path / "test_whole.py").write_text("def test_it(): pass\n")
    done = run(tmp_path)
    assert done.returncode == pytest.ExitCode.OK, done.stdout + done.stderr
    assert "2 passed" in done.stdout
    assert len((tmp_path / "runs").read_text().splitlines()) == 1
    assert "test_threaded.py has started the thread 'waits for ever'" in done.stderr
    assert "Traceback" not in done.stderr


def test_an_engine_in_a_process_of_tests_is_forked_too(tmp_path: Path) -> None:
    (tmp_path / "test_engine.py").write_text(SPAWNS_ITS_ENGINE)
    done = run(tmp_path)
    assert done.returncode == pytest.ExitCode.OK, done.stdout + done.stderr
    assert "1 passed" in done.stdout


def test_the_folder_of_temporary_files_may_be_of_any_length(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A socket's path has 107 bytes at most."""
    folder = tmp_path / ("long" * 20) / ("longer" * 20)
    folder.mkdir(parents=True)
    monkeypatch.setenv("TMPDIR", str(folder))
    (tmp_path / "test_noted.py").write_text(NOTES_ITS_IMPORT)
    (tmp_path / "test_forks.py").write_text(USES_FORKS)
    done = run(tmp_path)
    assert done.returncode == pytest.ExitCode.OK, done.stdout + done.stderr
    assert "3 passed" in done.stdout


def test_what_can_not_be_imported_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "test_whole.py").write_text("def test_it(): pass\n")
    (tmp_path / "test_broken.py").write_text("import nothing_of_this_name\n")
    done = run(tmp_path)
    assert done.returncode != pytest.ExitCode.OK
    assert "No module named 'nothing_of_this_name'" in done.stdout


def test_nothing_is_forked_to_list_the_tests(tmp_path: Path) -> None:
    (tmp_path / "test_noted.py").write_text(NOTES_ITS_IMPORT)
    done = run(tmp_path, "--collect-only")
    assert done.returncode == pytest.ExitCode.OK, done.stdout + done.stderr
    assert len((tmp_path / "imports").read_text().split()) == 1


def test_an_interrupt_from_the_terminal_ends_all_of_them_without_a_traceback(
    tmp_path: Path,
) -> None:
    """It reaches each process of the group."""
    (tmp_path / "test_slow.py").write_text(SLEEPS)
    noted = tmp_path / "pid"
    running = subprocess.Popen(
        ["env", "--default-signal=INT", *command(tmp_path)],  # a job of a shell ignores it
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    with running:
        deadline = time.monotonic() + 100
        while not (noted.exists() and noted.read_text()) and time.monotonic() < deadline:
            time.sleep(0.05)
        os.killpg(running.pid, signal.SIGINT)
        said = running.communicate(timeout=60)[0]
    assert running.returncode == pytest.ExitCode.INTERRUPTED, said
    assert "Traceback" not in said
    assert not psutil.pid_exists(int(noted.read_text()))
