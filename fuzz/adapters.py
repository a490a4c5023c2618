"""Hostile adapters against a registry, in a process with little memory that must survive them.

`python -m fuzz.adapters inspection|uploads FOLDER COUNT SEED` prints the outcomes as JSON, and
fails with a traceback at the first that crashes, uses too much memory or leaves files behind.
"""

import asyncio
import contextlib
import gc
import json
import logging
import resource
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import httpx
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis.strategies import SearchStrategy, tuples

from fuzz.hostile_files import HostileFile, config_files, weights_files
from fuzz.hostile_uploads import HostileUpload, uploads
from fuzz.registry_server import application

BATCH = 250
LEFT_SECONDS = 10
MEMORY_BYTES = 512 * 2**20  # beyond what the process takes before the first of them
CPU_SECONDS_EACH = 10.0
CPU_SECONDS = 1800
UNFINISHED = ("receiving", "queued", "running")


@dataclass
class Report:
    """`outcomes`: counts by status or final state."""

    count: int = 0
    slowest_cpu_seconds: float = 0.0
    grown_bytes: int = 0
    outcomes: dict[str, int] = field(default_factory=dict)


class Attack:
    """One server and its folder; each method submits one adapter, and checks what is left."""

    def __init__(self, http: httpx.AsyncClient, folder: Path) -> None:
        self._http = http
        self._store = folder / "store"
        self._source = folder / "hostile"
        self._temporary = folder / "tmp"
        self._kept = self._digests()

    async def inspect(self, files: tuple[HostileFile, HostileFile]) -> str:
        """Inspect by path, as `POST /inspect` does; register if it is accepted."""
        shutil.rmtree(self._source, ignore_errors=True)
        self._source.mkdir()
        for name, file in zip(("adapter_config", "adapter_model"), files, strict=True):
            suffix = ".json" if name == "adapter_config" else ".safetensors"
            file.make(self._source / f"{name}{suffix}")
        answer = await self._http.post("/inspect", json={"source": str(self._source)})
        outcome = _outcome(answer, "accepted" if _accepted(answer) else "refused")
        if answer.is_success:
            again = await self._http.post(
                "/adapters/fuzzed/versions", json={"source": str(self._source)}
            )
            self._agrees(_accepted(answer), again)
        await self._nothing_left()
        return outcome

    async def upload(self, sent: HostileUpload) -> str:
        headers = {"content-type": sent.content_type}
        answer = await self._http.post(
            "/adapters/sent/versions?wait=0", content=sent.body, headers=headers
        )
        if answer.status_code != 202:
            outcome = _outcome(answer, "?")
        else:
            job = await self._end_of(answer.json()["id"])
            if job["code"] == "internal_error":
                raise AssertionError(job)
            outcome = job["code"] or job["state"]
            if job["state"] == "succeeded":
                number = job["version"].partition(":")[2]
                version = await self._http.get(f"/adapters/sent/versions/{number}")
                self._kept.add(version.json()["digest"])
        await self._nothing_left()
        return outcome

    def _agrees(self, accepted: bool, answer: httpx.Response) -> None:
        if accepted != answer.is_success or answer.status_code >= 500:
            raise AssertionError(f"inspected: {accepted}, registered: {answer.text}")
        if answer.is_success:
            self._kept.add(answer.json()["digest"])

    async def _end_of(self, number: int) -> dict[str, Any]:
        while True:
            job: dict[str, Any] = (await self._http.get(f"/jobs/{number}")).json()
            if job["state"] not in UNFINISHED:
                return job
            await asyncio.sleep(0.01)

    async def _nothing_left(self) -> None:
        """A job's workspace is removed shortly after its row says that it has ended.

        And a sweep takes a lock, now and then, to see whether there is something to do.
        """
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LEFT_SECONDS):
                while self._left():
                    await asyncio.sleep(0.002)
        if (left := self._left()) or self._digests() != self._kept:
            raise AssertionError(f"left behind: {left or self._digests() ^ self._kept}")

    def _left(self) -> list[str]:
        places = (self._store / "quarantine", self._store / "arriving", self._temporary)
        return [str(path) for place in places for path in place.iterdir()]

    def _digests(self) -> set[str]:
        return {path.name for path in (self._store / "adapters").glob("*/*")}


def _accepted(answer: httpx.Response) -> bool:
    return answer.is_success and bool(answer.json()["accepted"])


def _outcome(answer: httpx.Response, good: str) -> str:
    """Raises AssertionError for responses that must never occur."""
    if answer.status_code >= 500:
        raise AssertionError(answer.text)
    return good if answer.is_success else str(answer.json()["code"])


def limit_this_process() -> None:
    taken_bytes = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (taken_bytes + MEMORY_BYTES,) * 2)
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS))


def _peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def attack(kind: str, folder: Path, count: int, seed_: int) -> Report:
    """In the main thread, whose event loop runs between one adapter and the next."""
    report = Report()
    with asyncio.Runner() as runner:
        context = application(folder, rows=False)
        app = runner.run(context.__aenter__())
        transport = httpx.ASGITransport(app=app)
        http = httpx.AsyncClient(transport=transport, base_url="http://fuzz/api/v1", timeout=60)
        one = Attack(http, folder)
        by_kind: dict[str, tuple[SearchStrategy[Any], Callable[[Any], Any]]] = {
            "inspection": (tuples(config_files, weights_files), one.inspect),
            "uploads": (uploads, one.upload),
        }
        strategy, act = by_kind[kind]
        gc.collect()
        gc.freeze()  # what is here stays: looking through it again cost a fifth of the time
        limit_this_process()
        began_bytes = _peak_bytes()

        def once(hostile: Any) -> None:
            began = time.process_time()
            outcome = runner.run(act(hostile))
            seconds = time.process_time() - began
            if seconds > CPU_SECONDS_EACH:
                raise AssertionError(f"took {seconds:.1f} s of CPU time")
            report.count += 1
            report.slowest_cpu_seconds = max(report.slowest_cpu_seconds, seconds)
            report.outcomes[outcome] = report.outcomes.get(outcome, 0) + 1

        _run(strategy, once, count, seed_)
        report.grown_bytes = _peak_bytes() - began_bytes
        runner.run(http.aclose())
        runner.run(context.__aexit__(None, None, None))
    return report


def _run(
    strategy: SearchStrategy[Any], once: Callable[[Any], None], count: int, seed_: int
) -> None:
    """In batches: hypothesis remembers all that it has made of one."""
    for begin in range(0, count, BATCH):
        batch = settings(
            max_examples=min(BATCH, count - begin),
            database=None,
            deadline=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )(seed(seed_ + begin)(given(strategy)(once)))
        batch()
        gc.collect()


if __name__ == "__main__":
    logging.basicConfig(level=logging.ERROR)
    folder_ = Path(sys.argv[2])
    (folder_ / "tmp").mkdir(parents=True)
    tempfile.tempdir = str(folder_ / "tmp")
    print(json.dumps(asdict(attack(sys.argv[1], folder_, int(sys.argv[3]), int(sys.argv[4])))))
