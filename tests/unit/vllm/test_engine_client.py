"""Engine client: however a client disconnects, no request stays in the engine without a lease."""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

import pytest
from vllm.exceptions import VLLMValidationError
from vllm.lora.request import LoRARequest
from vllm.pooling_params import PoolingParams
from vllm.sampling_params import RequestOutputKind, SamplingParams
from vllm.v1.engine import EngineCoreOutput, FinishReason
from vllm.v1.engine.async_llm import AsyncLLM
from vllm.v1.engine.exceptions import EngineDeadError, EngineGenerateError
from vllm.v1.engine.output_processor import OutputProcessor, RequestOutputCollector
from vllm.v1.serial_utils import MsgpackEncoder

from engine.errors import (
    AdapterForcedOut,
    EnginePaused,
    EngineUnavailable,
    PriorityNotAllowed,
    QueueFull,
)
from engine.gateway.request_context import RequestContext
from engine.types import VersionId, WorkDone
from engine.vllm.admission.held_leases import use_held_lease
from engine.vllm.engine_client import LeasedAsyncLLM
from registry.auth.caller import Caller, as_caller
from registry.auth.scopes import EVERY_SCOPE
from tests.support.cache.controller_harness import A
from tests.support.running_requests import request_scope
from tests.support.vllm.requests import SAMPLING, engine_core_request

ADAPTER = LoRARequest("leased", 7, "/nowhere")
PRIORITIES = [("acme~", -1, False), ("acme~", 3, True), ("", -1, True)]
"""Of a tenant's requests and the platform's, and whether they enter."""


@dataclass
class Salted:
    """As much of vLLM's request as matters here."""

    cache_salt: str | None = None
    lora_request: None = None


class Core:
    """What vLLM's client hands requests to."""

    def __init__(self) -> None:
        self.added: list[Any] = []
        self.aborted: list[str] = []
        self.takes = asyncio.Event()
        self.takes.set()

    async def add_request_async(self, request: Any) -> None:
        await self.takes.wait()
        MsgpackEncoder().encode(getattr(request, "sampling_params", None))
        self.added.append(request)

    async def abort_requests_async(self, request_ids: list[str]) -> None:
        self.aborted += request_ids


class Upstream(AsyncLLM):  # type: ignore[misc]  # vLLM is untyped here
    """vLLM's client without its processes: `generate` and `abort` are its own."""

    def __init__(self) -> None:
        self.engine_core = Core()
        self.output_processor = OutputProcessor(None, log_stats=False)
        self.log_requests = False
        self.dead = False
        self.numbers = iter(range(100))

    async def add_request(
        self, request_id: str, prompt: Any, params: Any, *, priority: int, **_: Any
    ) -> Any:
        if self.dead:
            raise EngineDeadError
        request = engine_core_request(f"{request_id}-{next(self.numbers)}", params)
        request.priority = priority
        request.external_req_id = request_id
        queue = RequestOutputCollector(RequestOutputKind.DELTA, request.request_id)
        self.output_processor.add_request(request, None, None, 0, queue)
        await self.engine_core.add_request_async(request)
        return queue

    def shutdown(self, timeout: float | None = None) -> None:
        """There is nothing to end."""


class Engine(LeasedAsyncLLM, Upstream):
    """Ours over that."""

    def says(self, *tokens: int, finish: FinishReason | None = None) -> None:
        """Of every request that it works on."""
        ids = list(self.output_processor.request_states)
        outputs = [EngineCoreOutput(each, list(tokens), finish_reason=finish) for each in ids]
        self.output_processor.process_outputs(outputs)


class Admitted:
    trace_headers = None

    def __init__(self, door: "Door") -> None:
        self._door = door

    def on_end(self, work: WorkDone) -> None:
        self._door.inside -= 1
        self._door.done.append(work)

    def on_engine_death(self, error: EngineUnavailable) -> None:
        self._door.died.append(error)


class Door:
    """Admits one after the other, and knows how many are inside."""

    def __init__(self) -> None:
        self.inside = 0
        self.asked: list[VersionId | None] = []
        self.aborts: list[Callable[[], None]] = []
        self.done: list[WorkDone] = []
        self.died: list[EngineUnavailable] = []
        self.refusal: Exception | None = None

    async def admit(self, asked: VersionId | None, abort: Callable[[], None]) -> Admitted:
        if self.refusal is not None:
            raise self.refusal
        self.asked.append(asked)
        self.aborts.append(abort)
        self.inside += 1
        return Admitted(self)


@pytest.fixture
async def door() -> Door:
    return Door()


@pytest.fixture
async def engine(door: Door) -> AsyncIterator[Engine]:
    made = Engine()
    made.admission = door
    yield made
    assert door.inside == 0, "whatever was admitted has ended"


def ask(engine: Engine, request_id: str = "same") -> asyncio.Task[list[int]]:
    return asyncio.create_task(_tokens(engine, request_id))


async def _tokens(engine: Engine, request_id: str) -> list[int]:
    tokens: list[int] = []
    params = SamplingParams(**SAMPLING)
    async for output in engine.generate("x", params, request_id, lora_request=ADAPTER):
        tokens += output.outputs[0].token_ids
    return tokens


async def rounds(count: int = 5) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def test_a_request_is_admitted_by_its_adapter_and_its_outputs_are_vllms(
    engine: Engine, door: Door
) -> None:
    asking = ask(engine)
    await rounds()
    engine.says(7)
    await rounds()
    engine.says(8, finish=FinishReason.LENGTH)
    assert door.inside == 0, "it is over when the engine is done, not when it was read"
    assert await asking == [7, 8]
    assert door.asked == [7]
    assert [done.generated_tokens for done in door.done] == [2]
    assert engine.engine_core.aborted == []


async def test_a_refused_request_never_reaches_the_engine(engine: Engine, door: Door) -> None:
    door.refusal = QueueFull(1, 1)
    with pytest.raises(EngineGenerateError) as raised:  # vLLM's word for whatever came
        await ask(engine)
    assert isinstance(raised.value.__cause__, QueueFull)
    assert engine.engine_core.added == []


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"top_k": 2**64}, "more than 64 bits"),
        ({"extra_args": {"x": "\ud800"}}, "half a character"),
    ],
)
async def test_what_can_not_be_sent_to_the_engine_is_the_clients_fault(
    engine: Engine, options: dict[str, Any], says: str
) -> None:
    params = SamplingParams(**SAMPLING | options)
    with pytest.raises(VLLMValidationError, match=says):
        await anext(engine.generate("x", params, "id", lora_request=ADAPTER))
    assert engine.engine_core.added == []


@pytest.mark.parametrize(("tenant", "priority", "enters"), PRIORITIES)
async def test_a_tenants_request_goes_before_no_other(
    engine: Engine, door: Door, tenant: str, priority: int, enters: bool
) -> None:
    with as_caller(Caller(f"{tenant}app", EVERY_SCOPE)):
        generated = engine.generate("x", SamplingParams(**SAMPLING), "id", priority=priority)
        asking = asyncio.ensure_future(anext(generated))
    await rounds()
    assert len(engine.engine_core.added) == len(door.asked) == enters
    assert [each.priority for each in engine.engine_core.added] == [priority] * enters
    if enters:
        engine.says(7, finish=FinishReason.LENGTH)
        await asking
    else:
        with pytest.raises(EngineGenerateError) as raised:
            await asking
        assert isinstance(raised.value.__cause__, PriorityNotAllowed)


async def test_a_cancelled_reader_ends_its_request(engine: Engine, door: Door) -> None:
    asking = ask(engine)
    await rounds()
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    await rounds()
    assert len(engine.engine_core.aborted) == 1


async def test_a_request_cancelled_while_it_is_added_is_aborted(engine: Engine, door: Door) -> None:
    """vLLM forgets to."""
    engine.engine_core.takes.clear()
    asking = ask(engine)
    await rounds()
    assert door.inside == 1
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    await rounds()
    assert len(engine.engine_core.aborted) == 1


async def test_a_lease_that_is_revoked_ends_its_request_though_no_client_reads(
    engine: Engine, door: Door
) -> None:
    stream = engine.generate("x", SamplingParams(**SAMPLING), "r", lora_request=ADAPTER)
    first = asyncio.create_task(anext(stream))
    await rounds()
    engine.says(7)
    await first
    door.aborts[0]()
    await rounds()
    assert door.inside == 0
    assert len(engine.engine_core.aborted) == 1
    await stream.aclose()


@pytest.mark.parametrize(
    ("ended_by", "cut"), [("force", "failed"), ("pause", "failed"), ("id", "cancelled"), ("", None)]
)
async def test_a_request_knows_who_ended_its_work(
    engine: Engine, door: Door, ended_by: str, cut: str | None
) -> None:
    """vLLM answers 200 with what there was."""
    request = RequestContext("a1", A)
    with request_scope(request):
        asking = ask(engine, "mine")
        await rounds()
    engine.says(7)
    if ended_by == "force":
        door.aborts[0]()
    elif ended_by == "id":
        await engine.abort("mine")
    else:
        engine.says(finish=FinishReason.ABORT if ended_by else FinishReason.LENGTH)
    assert await asking == [7]
    assert (request.cut, request.failure) == (cut, None)


async def test_a_response_that_would_be_stored_half_as_it_is_fails(
    engine: Engine, door: Door
) -> None:
    request = RequestContext("a1", A, fails_if_cut=True)
    with request_scope(request):
        asking = ask(engine, "mine")
        await rounds()
    engine.says(7)
    door.aborts[0]()
    with pytest.raises(EngineGenerateError) as raised:
        await asking
    assert isinstance(raised.value.__cause__, AdapterForcedOut)
    assert request.failure is raised.value.__cause__


async def test_a_pause_ends_pooling_itself_and_leaves_the_rest_to_vllms_engine(
    engine: Engine, door: Door
) -> None:
    pooled, params = RequestContext("a1", A), PoolingParams(task="embed")
    staying = ask(engine)
    with request_scope(pooled):
        answer = engine.encode("x", params, "mine", lora_request=ADAPTER)
        asking = asyncio.create_task(anext(answer))
        await rounds()
    engine.suspended = EnginePaused()
    engine.end_requests()
    assert not len((await asking).outputs.data)
    await answer.aclose()
    assert isinstance(pooled.failure, EnginePaused)
    assert not staying.done()
    engine.says(7, finish=FinishReason.ABORT)
    assert await staying == [7]


async def test_a_vector_that_is_not_computed_is_an_error(engine: Engine, door: Door) -> None:
    """vLLM answers with an empty one."""
    request = RequestContext("a1", A)
    params = PoolingParams(task="embed")
    with request_scope(request):
        answer = engine.encode("x", params, "mine", lora_request=ADAPTER)
        asking = asyncio.create_task(anext(answer))
        await rounds()
    door.aborts[0]()
    assert not len((await asking).outputs.data)
    assert isinstance(request.failure, AdapterForcedOut)
    await answer.aclose()


async def test_a_lease_that_is_revoked_before_vllm_gets_the_request_ends_it(
    engine: Engine, door: Door
) -> None:
    engine.engine_core.takes.clear()
    asking = ask(engine)
    await rounds()
    door.aborts[0]()
    engine.engine_core.takes.set()
    assert await asking == []
    assert engine.engine_core.aborted


async def test_a_request_is_notified_of_a_dead_engine(engine: Engine, door: Door) -> None:
    engine.dead = True
    with pytest.raises(EngineDeadError):
        await ask(engine)
    assert len(door.died) == 1
    assert door.died[0].retry_after_seconds


async def test_an_engine_that_dies_under_its_requests_ends_them(engine: Engine, door: Door) -> None:
    asking = [ask(engine), ask(engine)]
    await rounds()
    engine.output_processor.propagate_error(EngineDeadError())
    answers = await asyncio.gather(*asking, return_exceptions=True)
    assert all(isinstance(answer, EngineDeadError) for answer in answers)
    assert len(door.died) == 2


async def test_two_requests_with_one_id_do_not_affect_each_other(
    engine: Engine, door: Door
) -> None:
    staying, leaving = ask(engine), ask(engine)
    await rounds()
    leaving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaving
    await rounds()
    engine.says(7, finish=FinishReason.LENGTH)
    assert await staying == [7]
    assert len(engine.engine_core.aborted) == 1


async def test_abort_finds_all_requests_by_the_id_that_the_client_chose(engine: Engine) -> None:
    asking = [ask(engine, "mine"), ask(engine, "mine"), ask(engine, "other")]
    await rounds()
    await engine.abort("mine")
    await rounds()
    assert [task.done() for task in asking] == [True, True, False]
    await engine.abort(["other", "unknown"])
    assert await asyncio.gather(*asking) == [[], [], []]
    assert engine._engine_ids == {}


async def test_no_tenant_ends_the_request_of_another_that_has_the_same_id(engine: Engine) -> None:
    with as_caller(Caller("acme~app", EVERY_SCOPE)):
        asking = ask(engine)
    await rounds()
    with as_caller(Caller("other~app", EVERY_SCOPE)):
        await engine.abort("same")
    await engine.abort(["same", "more"])
    assert engine.engine_core.aborted == []
    with as_caller(Caller("acme~app", EVERY_SCOPE)):
        await engine.abort("same")
    assert await asking == []


async def test_a_caller_with_a_lease_of_its_own_is_not_admitted_again(
    engine: Engine, door: Door
) -> None:
    async def probe() -> list[int]:
        async with use_held_lease():
            return await _tokens(engine, "probe")

    probing = asyncio.create_task(probe())
    await rounds()
    engine.says(7, finish=FinishReason.LENGTH)
    assert await probing == [7]
    assert door.asked == []


async def test_a_held_lease_lasts_until_a_cancelled_request_has_left_the_engine(
    engine: Engine,
) -> None:
    engine.engine_core.takes.clear()
    given_back_after: list[list[str]] = []

    async def probe() -> None:
        try:
            async with use_held_lease():
                await _tokens(engine, "probe")
        finally:
            given_back_after.append(list(engine.engine_core.aborted))

    probing = asyncio.create_task(probe())
    await rounds()
    probing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await probing
    assert len(given_back_after[0]) == 1


async def test_every_engine_request_has_its_tenants_salt(engine: Engine) -> None:
    core = engine.engine_core
    for caller in ("acme~app", "other~app", "root"):
        with as_caller(Caller(caller, EVERY_SCOPE)):
            await core.add_request_async(Salted())
            await core.add_request_async(Salted("asked"))
    salts = [request.cache_salt for request in core.added]
    assert salts == ["acme~", "acme~asked", "other~", "other~asked", None, "asked"]
