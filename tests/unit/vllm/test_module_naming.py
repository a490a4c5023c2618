"""The bridge from an inspection's thread to the engine that is asked for its names."""

import asyncio
from collections.abc import Sequence

import pytest

from engine.errors import EngineDied
from engine.operations.module_naming import EngineNaming
from registry.errors import EngineAway

NAMES = ["base_model.model.a.lora_A.weight", "base_model.model.b.lora_A.weight"]


async def test_an_engine_is_asked_once_for_a_kind_of_adapter() -> None:
    questions: list[Sequence[str]] = []

    async def ask(tensors: Sequence[str]) -> Sequence[str | None]:
        questions.append(tensors)
        return ["a", None]

    naming = EngineNaming(ask)
    for _ in range(3):
        assert await asyncio.to_thread(naming.places, NAMES) == ["a", None]
    await asyncio.to_thread(naming.places, NAMES[:1])
    assert [len(names) for names in questions] == [2, 1]


async def test_while_the_engine_is_started_again_the_answer_is_to_come_back_later() -> None:
    async def ask(tensors: Sequence[str]) -> Sequence[str | None]:
        raise EngineDied("it is being started again")

    with pytest.raises(EngineAway) as caught:
        await asyncio.to_thread(EngineNaming(ask).places, NAMES)
    assert "started again" in caught.value.detail
    assert caught.value.retry_after_seconds


async def test_an_engine_that_hangs_is_not_waited_for_for_ever() -> None:
    async def ask(tensors: Sequence[str]) -> Sequence[str | None]:
        await asyncio.Event().wait()
        return []

    with pytest.raises(EngineAway):
        await asyncio.to_thread(EngineNaming(ask, answer_seconds=0.1).places, NAMES)
