"""No way out of a generation leaves its request in the engine, whoever holds the lease."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager, AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import pytest
from vllm.lora.request import LoRARequest
from vllm.outputs import CompletionOutput, RequestOutput
from vllm.v1.engine.async_llm import AsyncLLM
from vllm.v1.engine.exceptions import EngineDeadError

from engine.errors import EngineUnavailable
from engine.gateway.generation import Generation
from engine.types import Lease
from engine.vllm.engine_client import LeasedAsyncLLM
from registry.auth.caller import Caller, as_caller
from registry.auth.scopes import EVERY_SCOPE


@dataclass
class Request:
    """As much of vLLM's as matters here."""

    cache_salt: str | None = None


class Core:
    """What vLLM's client hands requests to."""

    def __init__(self) -> None:
        self.added: list[Request] = []

    async def add_request_async(self, request: Request) -> None:
        self.added.append(request)


class Upstream(AsyncLLM):  # type: ignore[misc]  # vLLM is untyped here
    """vLLM's client as it is in its bad moments: cancelled, it forgets its request."""

    def __init__(self) -> None:
        self.engine_core = Core()
        self.dead = False
        self.says: list[RequestOutput] = []
        self.running = asyncio.Event()
        self.aborted: list[str] = []

    async def generate(self, *_: Any, **__: Any) -> AsyncGenerator[Any, None]:
        if self.dead:
            raise EngineDeadError
        self.running.set()
        for output in self.says:
            yield output
        if self.says:
            return
        await asyncio.Event().wait()
        yield None

    async def abort(self, request_id: str | list[str], internal: bool = False) -> None:
        self.aborted += [request_id] if isinstance(request_id, str) else request_id

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


def says(tokens: list[int], finish_reason: str | None) -> RequestOutput:
    completion = CompletionOutput(0, "", tokens, None, None, finish_reason=finish_reason)
    finished = finish_reason is not None
    return RequestOutput("request-1", "x", [1], None, [completion], finished=finished)


async def test_an_engine_that_turns_a_request_away_is_unavailable(engine: Engine) -> None:
    """One that is being stopped says that it was aborted, without a token."""
    engine.says = [says([], "abort")]
    with pytest.raises(EngineUnavailable):
        await ask(engine)


@pytest.mark.parametrize("output", [says([7], "abort"), says([], "stop")])
async def test_what_ends_early_otherwise_has_ended_well(
    engine: Engine, output: RequestOutput
) -> None:
    engine.says = [output]
    await ask(engine)
    engine.says = [says([7], None), says([], "abort")]
    await ask(engine)


async def test_no_tenant_ends_the_request_of_another_that_has_the_same_id(engine: Engine) -> None:
    async def generate() -> None:
        async for _ in engine.generate("x", None, "same"):
            pass

    with as_caller(Caller("acme~app", EVERY_SCOPE)):
        asking = asyncio.create_task(generate())
    await engine.running.wait()
    with as_caller(Caller("other~app", EVERY_SCOPE)):
        await engine.abort("same")
        await engine.abort(["same", "more"])
    await engine.abort("same")
    assert engine.aborted == ["other~same", "other~same", "other~more", "same"]
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert engine.aborted[-1] == "acme~same"


async def test_whatever_goes_to_the_engine_has_its_tenants_salt(engine: Engine) -> None:
    core = engine.engine_core
    for caller in ("acme~app", "other~app", "root"):
        with as_caller(Caller(caller, EVERY_SCOPE)):
            await core.add_request_async(Request())
            await core.add_request_async(Request("asked"))
    salts = [request.cache_salt for request in core.added]
    assert salts == ["acme~", "acme~asked", "other~", "other~asked", None, "asked"]
