"""What this server's own failures do to versions: nothing, but for files that look damaged."""

import asyncio

import pytest

from engine.artifact_files import load_error
from engine.errors import AdapterUnfit, EngineError, EngineUnavailable
from engine.events import LoadFailed
from engine.operations.quarantine import MOST_A_MINUTE, Quarantine
from engine.types import AdapterVersion, LoadFailure, Transition, VersionId
from tests.support.cache.controller_harness import adapter

A = adapter(1)


class Registry:
    """`proves`: whether it finds the files to be damaged."""

    def __init__(self, *, proves: bool = True) -> None:
        self.proves = proves
        self.asked: list[VersionId] = []
        self.now = 0.0
        self.quarantine = Quarantine(self.condemn, lambda: self.now)

    async def condemn(self, version: AdapterVersion) -> bool:
        self.asked.append(version.id)
        await asyncio.sleep(0)
        return self.proves

    async def hear(self, error: EngineError, version: AdapterVersion = A) -> None:
        self.quarantine.on_event(LoadFailed(version, Transition.DISK_TO_HOST, error))
        for _ in range(5):
            await asyncio.sleep(0)


@pytest.mark.parametrize("failure", sorted(set(LoadFailure) - {LoadFailure.FILES}))
async def test_no_trouble_of_the_engine_is_a_reason_to_examine_a_version(
    failure: LoadFailure,
) -> None:
    registry = Registry()
    await registry.hear(load_error("a:1", "on purpose", failure))
    await registry.hear(AdapterUnfit("a:1", "on purpose", failure, "rank_too_large"))
    await registry.hear(EngineUnavailable("gone"))
    assert registry.asked == []


async def test_files_that_look_damaged_are_examined_once_at_a_time() -> None:
    registry = Registry()
    damaged = load_error("a:1", "changed", LoadFailure.FILES)
    for _ in range(3):
        registry.quarantine.on_event(LoadFailed(A, Transition.DISK_TO_HOST, damaged))
    await registry.hear(damaged)
    assert registry.asked == [A.id]


async def test_a_store_full_of_damage_is_no_mass_quarantine() -> None:
    registry = Registry()
    for number in range(1, MOST_A_MINUTE + 5):
        version = adapter(number)
        await registry.hear(load_error("a", "changed", LoadFailure.FILES), version)
    assert len(registry.asked) == MOST_A_MINUTE == 10
    registry.now = 60.0
    await registry.hear(load_error("a", "changed", LoadFailure.FILES), adapter(99))
    assert registry.asked[-1] == 99


async def test_what_is_not_proven_does_not_count() -> None:
    registry = Registry(proves=False)
    for number in range(1, 2 * MOST_A_MINUTE):
        error = load_error("a", "changed", LoadFailure.FILES)
        await registry.hear(error, adapter(number))
    assert len(registry.asked) == 2 * MOST_A_MINUTE - 1
