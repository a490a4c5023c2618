"""Coverage-guided libFuzzer finds nothing in the parsers that read untrusted bytes first.

`make fuzz` lets it search for longer.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from fuzz.__main__ import GUIDED
from fuzz.processes import ROOT
from fuzz.runs import guided

RUNS = 50_000
WRONG = """
import fuzz.guided
def wrong(content):
    if content.startswith(b"support@p"):
        raise AssertionError("found")
fuzz.guided.TARGETS["reference"] = lambda: wrong
fuzz.guided.main("reference", ["-runs=1000", "-seed=1"])
"""


@pytest.mark.parametrize("target", GUIDED)
def test_fuzzing_finds_nothing(tmp_path: Path, target: str) -> None:
    done = guided(target, [f"-runs={RUNS}", "-seed=1"], folder=tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    assert f"Done {RUNS} runs" in done.stderr


def test_fuzzing_would_find_a_defect(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", WRONG],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode != 0
    assert "AssertionError: found" in done.stdout + done.stderr
