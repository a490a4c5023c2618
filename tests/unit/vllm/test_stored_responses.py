"""Stored responses: whose they are, how many there are, and what outlives an engine."""

import asyncio
from collections import deque
from types import SimpleNamespace
from typing import Any

import pytest
from vllm.entrypoints.openai.responses.serving import OpenAIServingResponses

from engine.vllm.responses.background import follow_responses
from engine.vllm.responses.stored import StoredResponses
from registry.auth.caller import ANONYMOUS, Caller, as_caller
from registry.auth.scopes import EVERY_SCOPE

MANY_BYTES = 2**20
ACME, OTHER = (Caller(f"{name}~app", EVERY_SCOPE) for name in ("acme", "other"))


class Response:
    """As far as vLLM's store looks at it."""

    def __init__(self, status: str = "completed") -> None:
        self.status = status


def serving_with(stored: StoredResponses) -> Any:
    """vLLM's own, without an engine."""
    serving: Any = OpenAIServingResponses.__new__(OpenAIServingResponses)
    serving.response_store_lock = asyncio.Lock()
    serving.create_error_response = lambda **said: said
    for table in ("response_store", "msg_store", "event_store", "background_tasks"):
        setattr(serving, table, {})
    follow_responses(serving, stored)
    return serving


async def store(
    serving: Any, response_id: str, caller: Caller = ANONYMOUS, prompt: object = "a prompt"
) -> None:
    """As vLLM does in the task of a request, which has ended then."""

    async def generate() -> None:
        with as_caller(caller):
            serving.msg_store[response_id] = [prompt]
            serving.response_store[response_id] = Response()

    await asyncio.create_task(generate())
    await asyncio.sleep(0)  # until that is noticed


async def found(serving: Any, response_id: str, caller: Caller = ANONYMOUS) -> bool:
    with as_caller(caller):
        answer = await serving.retrieve_responses(response_id, starting_after=None, stream=False)
    return isinstance(answer, Response)


async def test_another_tenants_response_is_unknown() -> None:
    serving = serving_with(StoredResponses(10, MANY_BYTES))
    await store(serving, "resp_1", ACME)
    assert await found(serving, "resp_1", ACME)
    for caller in (OTHER, ANONYMOUS):
        assert not await found(serving, "resp_1", caller)
        with as_caller(caller):
            refused = await serving.cancel_responses("resp_1")
            assert refused["status_code"] == 404
            assert serving.msg_store.get("resp_1") is None
            assert "resp_1" not in serving.response_store
            assert list(serving.response_store) == []


async def test_an_id_of_ones_own_choice_replaces_nobody_elses() -> None:
    serving = serving_with(StoredResponses(10, MANY_BYTES))
    await store(serving, "resp_1", ACME)
    await store(serving, "resp_1", OTHER)
    with as_caller(OTHER):
        serving.response_store["resp_1"].status = "failed"
    with as_caller(ACME):
        assert serving.response_store["resp_1"].status == "completed"


async def test_one_of_two_with_the_same_id_is_cancelled_by_its_owner_only() -> None:
    serving = serving_with(StoredResponses(10, MANY_BYTES))
    tasks = {}
    for caller in (ACME, OTHER):
        with as_caller(caller):
            serving.response_store["resp_1"] = Response("in_progress")
            tasks[caller.name] = asyncio.create_task(asyncio.Event().wait())
            serving.background_tasks["resp_1"] = tasks[caller.name]
    with as_caller(ACME):
        assert (await serving.cancel_responses("resp_1")).status == "cancelled"
    assert tasks[ACME.name].cancelled()
    assert not tasks[OTHER.name].done()
    tasks[OTHER.name].cancel()


async def test_the_oldest_make_room_with_their_messages_and_events() -> None:
    serving = serving_with(StoredResponses(2, MANY_BYTES))
    serving.event_store["resp_0"] = (deque(), asyncio.Event())
    for number in range(4):
        await store(serving, f"resp_{number}")
    assert [await found(serving, f"resp_{number}") for number in range(4)] == [0, 0, 1, 1]
    assert [len(table) for table in (serving.msg_store, serving.event_store)] == [2, 0]


async def test_what_is_worked_on_is_not_forgotten() -> None:
    serving = serving_with(StoredResponses(1, MANY_BYTES))
    work = asyncio.create_task(asyncio.Event().wait())
    serving.response_store["running"] = Response("in_progress")
    serving.background_tasks["running"] = work
    await store(serving, "resp_1")
    await store(serving, "resp_2")
    assert [await found(serving, each) for each in ("running", "resp_1", "resp_2")] == [1, 0, 1]
    work.cancel()
    await asyncio.gather(work, return_exceptions=True)
    await asyncio.sleep(0)
    assert [await found(serving, each) for each in ("running", "resp_2")] == [1, 0]


async def test_a_request_that_ended_without_a_response_leaves_no_messages_for_ever() -> None:
    serving = serving_with(StoredResponses(1, MANY_BYTES))

    async def fail() -> None:
        serving.msg_store["failed"] = ["a prompt"]

    await asyncio.create_task(fail())
    await asyncio.sleep(0)
    await store(serving, "resp_1")
    assert list(serving.msg_store) == ["resp_1"]


async def test_one_tenants_load_ends_nothing_that_another_has_stored() -> None:
    serving = serving_with(StoredResponses(3, MANY_BYTES))
    await store(serving, "resp_0", ACME)
    for number in range(10):
        await store(serving, f"resp_{number}", OTHER)
    assert await found(serving, "resp_0", ACME)
    assert [await found(serving, f"resp_{n}", OTHER) for n in (7, 8, 9)] == [0, 1, 1]


@pytest.mark.parametrize("text", ["x" * 1000, "\ud800" * 200, b"\xff" * 1000])
async def test_the_oldest_make_room_for_bytes(text: str | bytes) -> None:
    serving = serving_with(StoredResponses(100, 4000))
    await store(serving, "small", ACME)
    for number in range(4):
        await store(serving, f"resp_{number}", OTHER, {"content": text})
    held = [await found(serving, f"resp_{number}", OTHER) for number in range(4)]
    assert not held[0]
    assert held[-1]
    assert await found(serving, "small", ACME), "who stores more makes room"
    await store(serving, "huge", ACME, "x" * 4000)
    assert not await found(serving, "huge", ACME)
    assert serving.msg_store.get("huge") is None
    for number in range(4, 8):
        await store(serving, f"resp_{number}", OTHER)
    assert await found(serving, "resp_7", OTHER), "what has gone takes no room"


async def test_the_events_of_a_response_take_room_too() -> None:
    serving = serving_with(StoredResponses(100, 4000))

    async def stream() -> None:
        serving.response_store["resp_1"] = Response()
        serving.event_store["resp_1"] = (deque({"delta": "x" * 100} for _ in range(50)), None)

    await asyncio.create_task(stream())
    await asyncio.sleep(0)
    assert not await found(serving, "resp_1")


async def test_they_outlive_an_engine() -> None:
    stored = StoredResponses(10, MANY_BYTES)
    await store(serving_with(stored), "resp_1", ACME)
    assert await found(serving_with(stored), "resp_1", ACME)
    assert stored.holds("acme", "resp_1")
    assert not stored.holds("other", "resp_1")
    assert not stored.holds(None, "resp_1")


async def test_events_of_a_response_that_has_none_are_refused_and_not_waited_for() -> None:
    serving = serving_with(StoredResponses(10, MANY_BYTES))
    await store(serving, "resp_1")
    refused = await serving.retrieve_responses("resp_1", starting_after=None, stream=True)
    assert refused["param"] == "stream"
    unknown = await serving.retrieve_responses("resp_2", starting_after=None, stream=True)
    assert unknown["status_code"] == 404


@pytest.mark.parametrize(
    ("after", "expected"),
    [(None, ["a", "b"]), (-7, ["a", "b"]), (0, ["b"]), (1, []), (10**9, [])],
)
async def test_who_asks_for_events_behind_the_last_one_is_not_left_waiting(
    after: int | None, expected: list[str]
) -> None:
    serving = serving_with(StoredResponses(10, MANY_BYTES))

    async def generate() -> None:
        serving.event_store["resp_1"] = (deque(["a", "b"]), asyncio.Event())

    serving.background_tasks["resp_1"] = work = asyncio.create_task(generate())
    await work
    await asyncio.sleep(0)
    async with asyncio.timeout(10):
        events = serving.responses_background_stream_generator("resp_1", after)
        assert [event async for event in events] == expected


async def test_a_vllm_that_stores_in_another_way_stores_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Whoever knows an id could read it."""
    other = SimpleNamespace(response_store={}, background_tasks={}, enable_store=True)
    follow_responses(other, StoredResponses(10, MANY_BYTES))
    assert not other.enable_store
    assert "msg_store" in caplog.text
    follow_responses(None, StoredResponses(10, MANY_BYTES))
