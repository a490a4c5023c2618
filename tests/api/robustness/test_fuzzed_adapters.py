"""Hostile adapters, made by hypothesis, against processes that may take little memory.

600 of them, 10,000 with `--long`; `make fuzz` makes more.
"""

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from fuzz.adapters import MEMORY_BYTES
from fuzz.runs import adapters

COUNTS = {"inspection": 300, "uploads": 300}
COUNTS_OF_LONG = {"inspection": 7500, "uploads": 2500}
SEED = 20261128
GROWN_BYTES = 256 * 2**20
OUTCOMES = {
    "inspection": {"accepted", "refused", "source_too_large"},
    "uploads": {
        *("succeeded", "invalid_upload", "archive_invalid", "config_invalid", "config_missing"),
        *("header_invalid", "source_too_large", "tensor_out_of_bounds", "unsafe_file"),
        *("unsafe_path", "weights_missing"),
    },
}


@pytest.mark.timeout(1800)
def test_hostile_adapters_end_with_a_verdict_and_leave_nothing(
    tmp_path: Path, is_long: bool
) -> None:
    """Both concurrently: each has a server, a database and a store of its own."""
    counts = COUNTS_OF_LONG if is_long else COUNTS
    with ThreadPoolExecutor(len(counts)) as threads:
        running = {
            kind: threads.submit(adapters, kind, folder=tmp_path / kind, count=count, seed=SEED)
            for kind, count in counts.items()
        }
    for kind, done in running.items():
        result = done.result()
        assert result.returncode == 0, "\n".join(line[:200] for line in result.stderr.splitlines())
        report = json.loads(result.stdout)
        assert report["count"] == counts[kind]
        assert report["grown_bytes"] < GROWN_BYTES
        assert set(report["outcomes"]) >= OUTCOMES[kind], "these are not tried any more"


def test_the_limit_of_memory_bites() -> None:
    """Else the test above would show nothing."""
    greedy = f"from fuzz.adapters import limit_this_process as l; l(); bytes(2 * {MEMORY_BYTES})"
    done = subprocess.run(
        [sys.executable, "-c", greedy], capture_output=True, text=True, check=False
    )
    assert done.returncode != 0
    assert "MemoryError" in done.stderr
