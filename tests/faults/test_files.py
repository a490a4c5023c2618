"""Stored files that are cut off, changed or removed under a running server."""

import asyncio
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from demo.tasks import TASKS
from tests.faults.conftest import Victim
from tests.support.traffic.fault_trial import trial

pytestmark = [pytest.mark.servers("faults")]


def cut(weights: Path) -> None:
    with weights.open("r+b") as file:
        file.truncate(weights.stat().st_size // 2)


def change(weights: Path) -> None:
    with weights.open("r+b") as file:
        file.seek(-4, 2)
        file.write(b"\xff\xff\x7f\x3f")


def remove(weights: Path) -> None:
    weights.unlink()


def quarantined(served: Victim, name: str) -> bool:
    version = served.client.get(f"/api/v1/adapters/{name}/versions/1").json()
    return version["state"] == "quarantined" and bool(version["state_reason"])


async def test_damaged_files_are_quarantined_and_other_requests_are_served(served: Victim) -> None:
    harms: dict[str, Callable[[Path], None]] = {"cut": cut, "change": change, "remove": remove}
    right = (200, TASKS["rot13"].answer("hello"))
    for resident in (False, True):
        names = {f"{what}-{resident}".lower(): harm for what, harm in harms.items()}
        for name in names:
            await asyncio.to_thread(served.new_adapter, name, "rot13")
        async with trial(served, served.kept) as running:
            for name, harm in names.items():
                if resident:
                    pin = {"reference": name, "tier": "host"}
                    answer = await asyncio.to_thread(
                        served.client.post, "/api/v1/cache/pins", json=pin
                    )
                    assert answer.status_code == 201, answer.text
                harm(await asyncio.to_thread(served.weights_of, name))
                if resident:
                    assert await asyncio.to_thread(served.ask, name) == right, "from memory"
                    await asyncio.to_thread(served.client.delete, f"/api/v1/cache/pins/{name}")
                    await asyncio.to_thread(
                        served.client.post,
                        "/api/v1/cache/evict",
                        json={"reference": name, "wait": True},
                    )
                refused = await asyncio.to_thread(served.ask, name)
                assert refused == (503, "adapter_load_failed")
                await running.until(partial(quarantined, served, name))
                refused = await asyncio.to_thread(served.ask, name)
                assert refused == (409, "version_quarantined")
