"""Background responses: requests that vLLM answers before it generates, with its store turned on.

Each is a task in `OpenAIServingResponses.background_tasks` (0.32). `BackgroundResponses` replaces
that table, and tells the request when the task ends: until then it is in flight. vLLM forgets a
task that fails: its response would be queued for ever, and who reads its events would wait as long.
So would who asks for events behind the last one, or for those of a response that has none.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial
from typing import Any

from openai.types.responses import ResponseErrorEvent

from engine.errors import EngineError
from engine.gateway.request_context import current_request
from engine.vllm.responses.stored import Key, OwnTable, StoredResponses
from registry.errors import InternalError
from registry.http.unexpected_errors import describe_exception, report_internal

logger = logging.getLogger(__name__)

_PATH = "/v1/responses"
_UNFORESEEN = "an unexpected error: the server's log has it"
_REPLACED = (
    *("response_store", "msg_store", "event_store", "background_tasks"),
    *("responses_background_stream_generator", "retrieve_responses"),
)

Read = Callable[[str, int | None], AsyncGenerator[Any, None]]


@dataclass(frozen=True, slots=True)
class _End:
    """Behind the last event."""

    error: BaseException | None


class BackgroundResponses(OwnTable):
    """`serving`: vLLM's, which puts each task here in the task of its request."""

    def __init__(self, serving: Any, stored: StoredResponses) -> None:
        super().__init__(self._follow)
        self._serving = serving
        self._stored = stored

    def _follow(self, key: Key) -> None:
        task: asyncio.Task[None] = self.values_by_key[key]
        self._stored.note_work(key, task)
        ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        if (request := current_request()) is not None:
            request.background = ended
        task.add_done_callback(partial(self._on_end, key[1], ended))

    def _on_end(
        self, response_id: str, ended: "asyncio.Future[str]", task: "asyncio.Task[None]"
    ) -> None:
        error = None if task.cancelled() else task.exception()
        if error is not None and _known(error) is None:
            report_internal("POST", _PATH, describe_exception(error))
        stored = self._serving.response_store.get(response_id)
        if error is not None and stored is not None and stored.status != "cancelled":
            stored.status = "failed"
        events, has_new = self._serving.event_store.get(response_id, (None, None))
        if events is not None:
            events.append(_End(error))
            has_new.set()
        ended.set_result(_outcome(task, error, stored))


def _outcome(task: "asyncio.Task[None]", error: BaseException | None, stored: Any) -> str:
    """vLLM lets a task end well that was cancelled, or whose generation failed."""
    status = None if stored is None else stored.status
    if task.cancelled() or status == "cancelled":
        return "cancelled"
    return "failed" if error is not None or status == "failed" else "completed"


def follow_responses(serving: Any, stored: StoredResponses) -> None:
    """`serving`: vLLM's, or None where the model generates nothing.

    A vLLM that stores in another way stores nothing: anyone could read it.
    """
    if serving is None:
        return
    if missing := [name for name in _REPLACED if not hasattr(serving, name)]:
        serving.enable_store = False
        logger.warning("responses are not stored: this vLLM has no %s", ", ".join(missing))
        return
    stored.attach(serving)
    serving.background_tasks = BackgroundResponses(serving, stored)
    serving.create_responses = partial(_create, serving.create_responses)
    read = serving.responses_background_stream_generator
    serving.responses_background_stream_generator = partial(_read_until_end, read)
    retrieve = serving.retrieve_responses
    serving.retrieve_responses = partial(_retrieve, serving, retrieve)


async def _create(create: Callable[..., Awaitable[Any]], *asked: Any, **options: Any) -> Any:
    """What an operator ends would be stored as `completed`, half as it is."""
    if (request := current_request()) is not None:
        request.fails_if_cut = True
    return await create(*asked, **options)


async def _read_until_end(
    read: Read, response_id: str, starting_after: int | None = None
) -> AsyncGenerator[Any, None]:
    """The request itself gets its error; who reads later gets an event, and the response is
    `failed`.
    """
    number = -1
    async with aclosing(read(response_id, None)) as events:
        async for event in events:
            number += 1
            if not isinstance(event, _End):
                if starting_after is None or number > starting_after:
                    yield event
                continue
            if event.error is not None and current_request() is not None:
                raise event.error
            if event.error is not None:
                yield _error_event(event.error, number)
            return


def _error_event(error: BaseException, number: int) -> ResponseErrorEvent:
    known = _known(error)
    code, text = (known.code, known.detail) if known else (InternalError.code, _UNFORESEEN)
    return ResponseErrorEvent(
        type="error", sequence_number=number, code=code, message=text, param=None
    )


def _known(error: BaseException) -> EngineError | None:
    """It, or what vLLM has wrapped, if that is one of ours."""
    found = error if isinstance(error, EngineError) else error.__cause__
    return found if isinstance(found, EngineError) else None


async def _retrieve(
    serving: Any,
    retrieve: Callable[..., Awaitable[Any]],
    response_id: str,
    starting_after: int | None,
    stream: bool | None,
) -> Any:
    has_events = response_id in serving.event_store
    if stream and not has_events and response_id in serving.response_store:
        return serving.create_error_response(
            err_type="invalid_request_error",
            message=f"Response '{response_id}' was no stream in the background: it has no events.",
            param="stream",
        )
    return await retrieve(response_id, starting_after, stream)
