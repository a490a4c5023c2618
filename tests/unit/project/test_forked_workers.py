"""Forks of xdist's processes: they are of one that has collected, and report what it could not."""

import subprocess
import sys
from pathlib import Path

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


def run(folder: Path) -> subprocess.CompletedProcess[str]:
    """Two processes, with nothing of this project but what forks them."""
    (folder / "pytest.ini").write_text("[pytest]\naddopts = --import-mode=importlib\n")
    plugins = ("tests.support.workers.forks", "no:cacheprovider", "no:schemathesis")
    program = [sys.executable, "-m", "pytest", "-n2", *(f"-p{each}" for each in plugins)]
    return subprocess.run(
        [*program, f"--basetemp={folder}/temporary", str(folder)],
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


def test_what_can_not_be_imported_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "test_whole.py").write_text("def test_it(): pass\n")
    (tmp_path / "test_broken.py").write_text("import nothing_of_this_name\n")
    done = run(tmp_path)
    assert done.returncode != pytest.ExitCode.OK
    assert "No module named 'nothing_of_this_name'" in done.stdout
