"""No way out of a generation leaves its request in the engine, whoever holds the lease."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager, AbstractContextManager, nullcontext
from typing import Any

import pytest
from vllm.lora.request import LoRARequest
from vllm.v1.engine.async_llm import AsyncLLM
from vllm.v1.engine.exceptions import EngineDeadError

from engine.errors import EngineUnavailable
from engine.generation import Generation
from engine.types import Lease
from engine.vllm_client import LeasedAsyncLLM


class Upstream(AsyncLLM):  # type: ignore[misc]  # vLLM is untyped here
    """vLLM's client as it is in its bad moments: cancelled, it forgets its request."""

    def __init__(self) -> None:
        self.dead = False
        self.running = asyncio.Event()
        self.aborted: list[str] = []

    async def generate(self, *_: Any, **__: Any) -> AsyncGenerator[Any, None]:
        if self.dead:
            raise EngineDeadError
        self.running.set()
        await asyncio.Event().wait()
        yield None

    async def abort(self, request_id: str) -> None:
        self.aborted.append(request_id)

    def shutdown(self, timeout: float | None = None) -> None:
        """There is nothing to end."""


class Engine(LeasedAsyncLLM, Upstream):
    """Ours over that."""


class Witness:
    """Of generations for whoever holds the lease: nobody asks it for another."""

    def __init__(self) -> None:
        self.died: list[EngineUnavailable] = []

    def lease_for(self, *_: Any) -> AbstractAsyncContextManager[Any]:
        raise AssertionError("there is a lease already")

    def generating(
        self, lease: Lease | None, *, deltas: bool
    ) -> AbstractContextManager[Generation]:
        return nullcontext(Generation())

    def engine_died(self, error: EngineUnavailable) -> None:
        self.died.append(error)


async def ask(engine: Engine) -> None:
    adapter = LoRARequest("leased", 1, "/nowhere")
    async for _ in engine.generate_leased("x", None, "request-1", lora_request=adapter):
        pass


@pytest.fixture
async def engine() -> Engine:
    made = Engine()
    made.guard = Witness()
    return made


async def test_a_cancelled_generation_is_aborted_before_its_lease_can_be_given_back(
    engine: Engine,
) -> None:
    asking = asyncio.create_task(ask(engine))
    await engine.running.wait()
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert engine.aborted == ["request-1"]


async def test_an_engine_that_died_is_unavailable_for_a_while(engine: Engine) -> None:
    engine.dead = True
    with pytest.raises(EngineUnavailable) as raised:
        await ask(engine)
    assert raised.value.retry_after_seconds
