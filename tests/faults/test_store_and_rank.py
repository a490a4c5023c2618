"""A store that is not mounted, and a restart with arguments that the versions don't fit."""

import asyncio
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import httpx
import pytest

from demo.tasks import TASKS
from tests.faults.conftest import Victim
from tests.support.traffic.fault_trial import trial

pytestmark = [pytest.mark.servers("faults")]

QUARANTINES = "adaptry_quarantines_total"
RETRYABLE = ("store_unavailable", "adapter_files_missing", "warming_failed")


@contextmanager
def empty_mount(store: Path) -> Iterator[None]:
    """An empty disk over the store."""
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(store)]
    subprocess.run(command, check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(store)], check=True)


def state(served: Victim, name: str) -> str:
    found: str = served.client.get(f"/api/v1/adapters/{name}/versions/1").json()["state"]
    return found


def is_served(served: Victim, name: str, does: str) -> bool:
    return served.ask(name) == (200, TASKS[does].answer("hello"))


async def test_a_disk_that_is_not_mounted_condemns_nothing_under_traffic(served: Victim) -> None:
    names = [f"unmounted-{number}" for number in range(4)]
    for name in names:
        await asyncio.to_thread(served.new_adapter, name, "rot13")
    before = served.total(QUARANTINES)
    async with trial(served, served.kept, retryable=RETRYABLE) as running:
        with empty_mount(served.folder / "store"):
            for name in names:
                refused = await asyncio.to_thread(served.ask, name)
                assert refused == (503, "store_unavailable")
            await asyncio.to_thread(served.wait_until, lambda: not served.is_ready(), 10)
            await running.goes_on(10)
        await asyncio.to_thread(served.wait_until, served.is_ready, 10)
        for name in names:
            soon = partial(is_served, served, name, "rot13")
            await asyncio.to_thread(served.wait_until, soon, 20)
    assert {state(served, name) for name in names} == {"ready"}
    assert served.total(QUARANTINES) == before


async def test_a_restart_with_a_smaller_rank_condemns_nothing(served: Victim) -> None:
    """The hottest versions are what a server loads by itself when it starts."""
    hot = {"hot-1": "stars", "hot-2": "vowels"}
    for name, does in hot.items():
        await asyncio.to_thread(served.new_adapter, name, does)
        assert await asyncio.to_thread(is_served, served, name, does)
    await asyncio.to_thread(served.wait_until, lambda: _is_saved(served, hot), 10)
    await asyncio.to_thread(served.stop)
    served.more = ("--max-lora-rank", "1")
    await asyncio.to_thread(served.start)
    try:
        assert served.cache()["host"] == [], "nothing is warmed up that does not fit"
        for name in hot:
            answer: httpx.Response = await asyncio.to_thread(served.complete, name)
            assert (answer.status_code, answer.json()["error"]["code"]) == (503, "rank_too_large")
            assert answer.headers["retry-after"]
            assert state(served, name) == "ready"
        assert served.total(QUARANTINES) == 0
    finally:
        served.more = ()
        await asyncio.to_thread(served.stop)
        await asyncio.to_thread(served.start)
    for name, does in hot.items():
        assert await asyncio.to_thread(is_served, served, name, does)


def _is_saved(served: Victim, names: dict[str, str]) -> bool:
    resident = {each["reference"].partition(":")[0] for each in served.cache()["host"]}
    return names.keys() <= resident
