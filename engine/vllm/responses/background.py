"""Background responses: requests that vLLM answers before it generates, with its store turned on.

Each is a task in `OpenAIServingResponses.background_tasks` (0.32). `BackgroundResponses` replaces
that table, and tells the request when the task ends: until then it is in flight. vLLM forgets a
task that fails: its response would be queued for ever, and who reads its events would wait as long.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial
from typing import Any

from engine.errors import EngineError
from engine.gateway.request_context import current_request
from registry.http.unexpected_errors import describe_exception, report_internal

_PATH = "/v1/responses"

Read = Callable[[str, int | None], AsyncGenerator[Any, None]]


@dataclass(frozen=True, slots=True)
class _End:
    """Behind the last event."""

    error: BaseException | None


class BackgroundResponses(dict[str, "asyncio.Task[None]"]):
    """`serving`: vLLM's, which puts each task here in the task of its request."""

    def __init__(self, serving: Any) -> None:
        super().__init__()
        self._serving = serving

    def __setitem__(self, response_id: str, task: "asyncio.Task[None]") -> None:
        super().__setitem__(response_id, task)
        ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        if (request := current_request()) is not None:
            request.background = ended
        task.add_done_callback(partial(self._on_end, response_id, ended))

    def _on_end(
        self, response_id: str, ended: "asyncio.Future[str]", task: "asyncio.Task[None]"
    ) -> None:
        error = None if task.cancelled() else task.exception()
        if error is not None and not isinstance(error, EngineError):
            report_internal("POST", _PATH, describe_exception(error))
        stored = self._serving.response_store.get(response_id)
        if error is not None and stored is not None and stored.status != "cancelled":
            stored.status = "failed"
        events, has_new = self._serving.event_store.get(response_id, (None, None))
        if events is not None:
            events.append(_End(error))
            has_new.set()
        if not ended.done():  # its request may have been cancelled
            ended.set_result(_outcome(task, error, stored))


def _outcome(task: "asyncio.Task[None]", error: BaseException | None, stored: Any) -> str:
    """vLLM lets a task end well that was cancelled, or whose generation failed."""
    status = None if stored is None else stored.status
    if task.cancelled() or status == "cancelled":
        return "cancelled"
    return "failed" if error is not None or status == "failed" else "completed"


def follow_background_responses(serving: Any) -> None:
    """`serving`: vLLM's, or None where the model generates nothing."""
    if isinstance(getattr(serving, "background_tasks", None), dict):
        serving.background_tasks = BackgroundResponses(serving)
        read = serving.responses_background_stream_generator
        serving.responses_background_stream_generator = partial(_read_until_end, read)


async def _read_until_end(
    read: Read, response_id: str, starting_after: int | None = None
) -> AsyncGenerator[Any, None]:
    """The request itself gets its error; who reads later finds the response `failed`."""
    async with aclosing(read(response_id, starting_after)) as events:
        async for event in events:
            if not isinstance(event, _End):
                yield event
                continue
            if event.error is not None and current_request() is not None:
                raise event.error
            return
