"""Detection of growth in a soak: samples with and without a leak."""

import random
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from benchmarks.soak.resources import KIB, LIMITS, MIB, Places, Sample, flatness

MINUTES = 60
Doctoring = Callable[[Sample], Sample]


def an_hour(doctored: Doctoring = lambda sample: sample) -> list[Sample]:
    """A server that fills up in its first quarter, with noise and a few spikes, then is flat."""
    chance = random.Random(1)
    return [doctored(_sample(chance, 15.0 * n)) for n in range(4 * MINUTES)]


def _sample(chance: random.Random, seconds: float) -> Sample:
    filled = min(1.0, seconds / 900)
    spike = 40 if chance.random() < 0.05 else 0
    changes = int(seconds)
    return Sample(
        seconds=seconds,
        requests=int(4 * seconds),
        changes=changes,
        live_bytes=int((145 + seconds / 100) * MIB),
        server_bytes=int((600 + 50 * filled + chance.gauss(0, 3) + spike) * MIB),
        engine_bytes=int((650 + 50 * filled + chance.gauss(0, 3) + spike) * MIB),
        shared_bytes=int((60 + 20 * filled + chance.gauss(0, 10)) * MIB),
        files=140 + chance.randrange(20) + spike,
        threads=70 + chance.randrange(3),
        tasks=30 + chance.randrange(20) + spike,
        database_bytes=MIB + 700 * changes,
        database_log_bytes=4 * MIB,
        store_bytes=int((150 + seconds / 100) * MIB),
        log_bytes=20 * KIB + 100 * changes,
        series=3200 + chance.randrange(10),
    )


def not_flat(samples: list[Sample]) -> list[str]:
    return [each.what for each in flatness(samples) if not each.is_flat]


def test_a_server_that_fills_up_and_stops_growing_is_flat() -> None:
    assert not_flat(an_hour()) == []


LEAKS: dict[str, Doctoring] = {  # what each adds in half an hour is a bit above what is allowed
    "server memory": lambda s: replace(
        s, server_bytes=s.server_bytes + int(s.seconds / 1800 * 16 * MIB)
    ),
    "engine memory": lambda s: replace(
        s, engine_bytes=s.engine_bytes + int(s.seconds / 1800 * 16 * MIB)
    ),
    "memory that both share": lambda s: replace(
        s, shared_bytes=s.shared_bytes + int(s.seconds / 1800 * 80 * MIB)
    ),
    "open files": lambda s: replace(s, files=s.files + int(s.seconds / 1800 * 12)),
    "threads": lambda s: replace(s, threads=s.threads + int(s.seconds / 1800 * 6)),
    "asyncio tasks": lambda s: replace(s, tasks=s.tasks + int(s.seconds / 1800 * 14)),
    "series of /metrics": lambda s: replace(s, series=s.series + int(s.seconds / 1800 * 60)),
    "database": lambda s: replace(s, database_bytes=s.database_bytes + 3 * KIB * s.changes),
    "its write-ahead log": lambda s: replace(s, database_log_bytes=int(s.seconds * 3 * KIB)),
    "store, without what is registered": lambda s: replace(
        s, store_bytes=s.store_bytes + int(s.seconds * 4 * KIB)
    ),
    "server's log": lambda s: replace(s, log_bytes=s.log_bytes + 1000 * s.changes),
}


def test_there_is_a_leak_for_each_figure() -> None:
    assert list(LEAKS) == [limit.what for limit in LIMITS]


@pytest.mark.parametrize("what", LEAKS)
def test_each_leak_is_found(what: str) -> None:
    assert not_flat(an_hour(LEAKS[what])) == [what]


def a_minute_and_a_half(tasks: Callable[[Sample], int]) -> list[Sample]:
    chance = random.Random(1)
    samples = [_sample(chance, 900.0 + 3 * n) for n in range(30)]
    return [replace(each, tasks=tasks(each)) for each in samples]


def test_requests_that_wait_at_the_end_of_a_short_run_are_no_leak_but_one_task_of_each_is() -> None:
    waiting = a_minute_and_a_half(lambda s: 38 + 20 * (s.seconds > 970))
    assert not_flat(waiting) == []
    left_over = a_minute_and_a_half(lambda s: 38 + s.requests)
    assert not_flat(left_over) == ["asyncio tasks"]


def test_a_decrease_is_flat() -> None:
    assert not_flat(an_hour(lambda s: replace(s, files=400 - int(s.seconds / 20)))) == []


GROWING = """
print("here", flush=True)
input()
held = bytearray(b"x" * (50 * 2**20))
file = open(__import__("os").devnull)
print("grown", flush=True)
input()
"""


def test_a_sample_has_the_process_s_real_figures(tmp_path: Path) -> None:
    (tmp_path / "store" / "aa").mkdir(parents=True)
    (tmp_path / "store" / "aa" / "file").write_bytes(b"x" * 100)
    (tmp_path / "registry.db").write_bytes(b"x" * 30)
    (tmp_path / "registry.db-wal").write_bytes(b"x" * 20)
    (tmp_path / "tasks").write_text("7")
    paths = {name: tmp_path / name for name in ("store", "log", "tasks")}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", GROWING], **pipes) as grown:  # type: ignore[call-overload]
        process = psutil.Process(grown.pid)
        places = Places(process, database=tmp_path / "registry.db", **paths)
        grown.stdout.readline()
        before = places.sample(0, 0, 0, 0, series=9)
        grown.stdin.write(b"grow\n")
        grown.stdin.flush()
        grown.stdout.readline()
        after = places.sample(1, 2, 3, 4, series=9)
        grown.stdin.close()
    assert after.server_bytes - before.server_bytes > 0.9 * 50 * MIB
    assert after.files == before.files + 1
    assert after.threads >= 1
    assert (after.tasks, after.series, after.log_bytes) == (7, 9, 0)
    assert (after.database_bytes, after.database_log_bytes, after.store_bytes) == (30, 20, 100)
