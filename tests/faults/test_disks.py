"""A disk that is full, and one that does not answer."""

import asyncio
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from demo.tasks import TASKS
from registry.storage.integrity import verify
from tests.faults.conftest import Victim
from tests.support.traffic.fault_trial import trial

pytestmark = [pytest.mark.servers("faults")]

REFUSED = ("store_unavailable", "database_unavailable")


def fill(filler: Path) -> None:
    """Until not one more byte fits."""
    with filler.open("wb", buffering=0) as file:
        for size in (2**20, 4096, 1):
            try:
                while True:
                    file.write(os.urandom(size))
            except OSError:
                continue


def left_over(store: Path) -> list[str]:
    """What no registration that has ended should leave."""
    found = [str(path) for path in (store / "quarantine").iterdir()]
    found += [str(path) for path in (store / "seals").iterdir() if path.suffix != ".json"]
    return found


async def test_a_full_disk_refuses_what_needs_room_and_nothing_else(served: Victim) -> None:
    store = served.folder / "store"
    async with trial(served, served.kept, retryable=REFUSED) as running:
        fill(served.folder / "filler")
        try:
            with pytest.raises(AssertionError, match=r"store_unavailable|database_unavailable"):
                await asyncio.to_thread(served.new_adapter, "no-room", "double")
            await running.goes_on(30)
        finally:
            (served.folder / "filler").unlink()
        await asyncio.to_thread(served.new_adapter, "room", "double")
    assert await asyncio.to_thread(served.ask, "room") == (200, TASKS["double"].answer("hello"))
    await asyncio.to_thread(served.wait_until, lambda: left_over(store) == [], 90)
    for folder in (store / "adapters").glob("??/*"):
        verify(folder, folder.name)  # raises if it is not whole


async def test_a_load_from_a_disk_that_does_not_answer_stalls_no_other_load(served: Victim) -> None:
    await asyncio.to_thread(served.new_adapter, "cold", "stars")
    await asyncio.to_thread(served.new_adapter, "hot", "vowels")
    await asyncio.to_thread(served.ask, "hot")
    with ThreadPoolExecutor(1) as pool:
        served.harm.stop_disk()
        try:
            cold = pool.submit(served.ask, "cold")
            await asyncio.to_thread(served.wait_until, lambda: served.cache()["waiting"] == 1)
            for _ in range(15):
                answer = await asyncio.to_thread(served.ask, "hot")
                assert answer == (200, TASKS["vowels"].answer("hello"))
            assert served.client.get("/api/v1/adapters").status_code == 200
            assert not cold.done()
        finally:
            served.harm.end()
        assert cold.result() == (200, TASKS["stars"].answer("hello"))
