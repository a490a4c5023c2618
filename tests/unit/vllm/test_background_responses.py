"""Background responses: vLLM's own routes' work behind their answer, without an engine."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from typing import Any

import pytest
from vllm.entrypoints.openai.responses.serving import OpenAIServingResponses

from engine.errors import QueueFull
from engine.gateway.request_context import RequestContext
from engine.vllm.responses.background import follow_responses
from engine.vllm.responses.stored import StoredResponses
from tests.support.running_requests import request_scope


class Stored:
    """A response, as far as its status."""

    def __init__(self) -> None:
        self.status = "queued"


class Asked:
    def __init__(self) -> None:
        self.request_id = "resp_1"


class Work:
    """One response in vLLM's own store, and the task that works on it."""

    def __init__(self) -> None:
        serving: Any = OpenAIServingResponses.__new__(OpenAIServingResponses)
        serving.response_store_lock = asyncio.Lock()
        for table in ("response_store", "msg_store", "event_store", "background_tasks"):
            setattr(serving, table, {})
        follow_responses(serving, StoredResponses(10, 2**20))
        serving.response_store["resp_1"] = Stored()
        self.serving = serving
        self.request = RequestContext("a", None)
        self.go_on = asyncio.Event()
        self.error: Exception | None = None

    @property
    def status(self) -> str:
        return str(self.serving.response_store["resp_1"].status)

    def begin(self, *, stream: bool = False) -> "asyncio.Future[str]":
        """As vLLM's route does, in the task of its request."""
        self.serving.responses_full_generator = self._generate
        self.serving.responses_stream_generator = self._events
        run = self.serving._run_background_request
        if stream:
            run = self.serving._run_background_request_stream
        with request_scope(self.request):
            task = asyncio.create_task(run(Asked()))
            self.serving.background_tasks["resp_1"] = task
        task.add_done_callback(lambda _: self.serving.background_tasks.pop("resp_1", None))
        assert self.request.background is not None
        return self.request.background

    async def _generate(self, asked: Asked) -> None:
        await self.go_on.wait()
        if self.error is not None:
            raise self.error
        self.serving.response_store["resp_1"].status = "completed"

    async def _events(self, asked: Asked) -> AsyncIterator[str]:
        yield "created"
        await self._generate(asked)

    async def read(self) -> list[Any]:
        """As the request itself."""
        with request_scope(self.request):
            return await self.read_later()

    async def read_later(self) -> list[Any]:
        events = self.serving.responses_background_stream_generator("resp_1")
        return [event async for event in events]


async def test_the_request_is_told_when_its_work_ends() -> None:
    work = Work()
    ended = work.begin()
    await asyncio.sleep(0)
    assert not ended.done()
    work.go_on.set()
    assert await asyncio.wait_for(ended, 10) == "completed"
    assert work.serving.background_tasks == {}


async def test_work_that_is_refused_is_a_failed_response_and_no_queued_one() -> None:
    work = Work()
    work.error = QueueFull(1, 1)
    ended = work.begin()
    work.go_on.set()
    assert await asyncio.wait_for(ended, 10) == "failed"
    assert work.status == "failed"


async def test_an_unexpected_error_is_logged_without_its_text(
    caplog: pytest.LogCaptureFixture,
) -> None:
    work = Work()
    work.error = RuntimeError("quotes a prompt")
    ended = work.begin()
    work.go_on.set()
    assert await asyncio.wait_for(ended, 10) == "failed"
    assert "internal error" in caplog.text
    assert "quotes a prompt" not in caplog.text


async def test_cancelled_work_is_counted_as_that() -> None:
    work = Work()
    ended = work.begin()
    await asyncio.sleep(0)
    answer = await work.serving.cancel_responses("resp_1")
    assert answer.status == "cancelled"
    assert await asyncio.wait_for(ended, 10) == "cancelled"
    assert work.status == "cancelled"


@pytest.mark.parametrize("fails", [False, True])
async def test_who_reads_its_events_is_not_left_waiting(fails: bool) -> None:
    """The request itself gets its error, as that of any stream."""
    work = Work()
    work.error = QueueFull(1, 1) if fails else None
    ended = work.begin(stream=True)
    await asyncio.sleep(0)
    own, other = asyncio.create_task(work.read()), asyncio.create_task(work.read_later())
    work.go_on.set()
    async with asyncio.timeout(10):
        await ended
        told = ["created", "error"] if fails else ["created"]
        for events in (await other, await work.read_later()):
            assert [getattr(event, "type", event) for event in events] == told
            assert not fails or (events[1].code, events[1].sequence_number) == ("queue_full", 1)
        if not fails:
            assert await own == ["created"]
        else:
            with pytest.raises(QueueFull):
                await own
    kept: deque[Any] = work.serving.event_store["resp_1"][0]
    assert len(kept) == 2
