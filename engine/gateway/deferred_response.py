"""Deferred response: its head is held until the lease is acquired, and replaced if that fails."""

import asyncio
from collections.abc import Awaitable, Callable

from starlette.types import Message, Receive, Scope, Send

from engine.errors import EngineError, EngineUnavailable, GenerationIncomplete
from engine.gateway.openai_errors import (
    ERROR_EVENTS,
    end_of_stream,
    error_event,
    send_refusal,
    status_of_event,
)
from engine.gateway.request_context import SAY_WHY_THEY_END, TRANSLATED, RequestContext
from registry.begun import Begun
from registry.errors import InternalError, RegistryError
from registry.http.headers import is_event_stream
from registry.http.problems import route_path
from registry.http.unexpected_errors import report_internal
from registry.redaction import mask_keys

_INTERNAL = 500


class DeferredResponse:
    """Passes messages from the application to the server; parts of a good stream unchanged."""

    def __init__(
        self,
        request: RequestContext,
        scope: Scope,
        receive: Receive,
        send: Send,
        unavailable: Callable[[], EngineUnavailable | None],
        begin_answer: Callable[[], None],
    ) -> None:
        """`begin_answer` is called with the first part of a good stream."""
        self._request = request
        self._begin_answer: Callable[[], None] | None = begin_answer
        self._unavailable = unavailable
        self._path = route_path(scope)
        self._says_why = self._path in SAY_WHY_THEY_END and TRANSLATED not in scope
        self._receive = receive
        self._send = send
        self._head: Message | None = None  # held
        self._early: list[Message] = []  # held with it
        self._last = b""  # part of the body
        self._sending_head: asyncio.Future[None] | None = None
        self.status: int | None = None  # once the response has started
        self._is_streaming = False
        self._is_events = False
        self._replaced = False
        self._complete = False
        self._error_event: int | None = None  # its status
        self.client_disconnected = False
        """Before its response was complete, however the application handled that."""
        self._replacement: EngineError | RegistryError | None = None
        request.on_lease = self._on_lease

    @property
    def refusal(self) -> EngineError | RegistryError | None:
        """The error that the client gets in place of the application's response."""
        return self._replacement or (self._request.failure if self.status is None else None)

    async def receive(self) -> Message:
        message = await self._receive()
        if message["type"] == "http.disconnect" and not self._complete:
            self.client_disconnected = True
        return message

    def send(self, message: Message) -> Awaitable[None]:
        request = self._request
        is_good = self._is_streaming and request.failure is None and request.cut is None
        is_next = is_good and not self._early and message.get("more_body")
        if is_next and not message["body"].startswith(ERROR_EVENTS):
            if self._begin_answer is not None:
                begin, self._begin_answer = self._begin_answer, None
                begin()
            self._last = message["body"]
            return self._send(message)
        return self._send_checked(message)

    async def _send_checked(self, message: Message) -> None:
        if self._replaced:
            return
        if message["type"] == "http.response.start":
            self._head = message
            if self._request.is_head_final:
                await self._send_head()
            return
        if self._is_early(message):
            self._early.append(message)
            return
        if self._head is not None or self._sending_head is not None:
            await self._send_head()
        if self._replaced:
            return
        if self._early:
            await self._send_early()
        if self._is_events and (cut := self._untold_cut()) is not None:
            await self._break_off(cut)
            return
        await self._send_body(message)
        if message["type"] == "http.response.body" and not message.get("more_body", False):
            self._complete = True

    def _is_early(self, message: Message) -> bool:
        """An event of a stream that its route sends before it asks the engine."""
        request = self._request
        if self.status is not None or request.is_admitted or request.asks_within:
            return False
        is_last = not message.get("more_body")
        return not (is_last or message.get("body", b"").startswith(ERROR_EVENTS))

    async def _send_early(self) -> None:
        early, self._early = self._early, []
        for message in early:
            await self._send_body(message)

    async def _send_body(self, message: Message) -> None:
        body = message.get("body")
        if body and (rewritten := self._rewrite(body)) is not body:
            message = {**message, "body": rewritten}
        await self._send(message)
        self._last = body or self._last

    def _rewrite(self, body: bytes) -> bytes:
        if (self.status or 0) >= 400:  # vLLM's errors quote the request
            return mask_keys(body)
        if not body.startswith(ERROR_EVENTS):
            return body
        self._error_event = status_of_event(body)
        failure: EngineError | RegistryError | None = self._request.failure
        if failure is None and self._error_event == _INTERNAL:
            failure = self._report("an event of its stream")
        return body if failure is None else error_event(failure, self._path, self._last)

    def _report(self, where: str) -> InternalError:
        """vLLM's text may be an exception's. It has logged the exception's type and place."""
        return report_internal("POST", self._path, f"vLLM's route says so in {where}")

    def _on_lease(self) -> None:
        """Send the head, which is final now: the client reads it while the engine works.

        Nothing waits for it: a client that reads nothing must not keep its request from the engine,
        and with it the lease.
        """
        if self._head is None:
            return
        try:
            sending = Begun(self._send_held_head())
        except Exception as error:  # the application's to handle, not the engine's
            self._sending_head = asyncio.get_running_loop().create_future()
            self._sending_head.set_exception(error)
            return
        if not sending.is_done:  # the client reads slowly
            self._sending_head = asyncio.ensure_future(sending)

    async def _send_head(self) -> None:
        if self._sending_head is not None:
            await self._sending_head
        await self._send_held_head()

    async def _send_held_head(self) -> None:
        head, self._head = self._head, None
        if head is None:
            return
        failure: EngineError | RegistryError | None = self._request.failure
        if failure is None and head["status"] >= 500:
            failure = self._unavailable()  # vLLM only reports an issue with its engine
            if failure is None and head["status"] == 500 and not self._request.is_reported:
                failure = self._report("its answer")
        if failure is None and head["status"] < 400:
            failure = self._untold_cut()
        if failure is not None:
            await self._replace(failure)
            return
        self.status = head["status"]
        await self._send({**head, "headers": [*head["headers"], *self._request.headers()]})
        self._is_streaming = head["status"] < 400
        self._is_events = is_event_stream(head)

    def _untold_cut(self) -> EngineError | None:
        """Of an answer that does not say why it ended: it would read as if it were whole."""
        if self._request.cut is None or self._says_why:
            return None
        return self._request.why_cut(self._unavailable())

    async def _break_off(self, failure: EngineError) -> None:
        """End a stream of events, whatever its route would say."""
        self._replaced = self._complete = True
        self._request.failure = failure
        await self._send_early()
        end = end_of_stream(failure, self._path, self._last)
        await self._send({"type": "http.response.body", "body": end, "more_body": False})

    async def _replace(self, failure: EngineError | RegistryError) -> None:
        self._replaced = self._complete = True
        self.status = failure.status
        self._replacement = failure
        await send_refusal(self._send, failure, self._request.headers(), path=self._path)

    async def finish(self) -> None:
        """Respond for an application that ended without a response because the lease failed."""
        if self._sending_head is not None:
            await self._sending_head
        failure = self._request.failure
        if failure is None or self._complete:
            return
        if self.status is None:
            await self._replace(failure)
        elif self.is_open_stream:
            await self._break_off(failure)

    @property
    def is_open_stream(self) -> bool:
        """Of events, whose client expects more."""
        return self._is_events and not self._complete and not self.client_disconnected

    def outcome(self, ended: str | None = None) -> str | None:
        """How the request ended; None if it did not generate (for example `/tokenize`).

        `ended`: of work behind its answer, whether its client stayed or not.
        """
        failure = self._request.failure
        if ended is not None and (ended != "failed" or failure is None):
            return self._request.cut or ended if ended == "completed" else ended
        if ended is None and (self.client_disconnected or self._request.cut == "cancelled"):
            return "cancelled"
        status = failure.status if failure is not None else self._error_event or self.status
        if status is None or status >= 500:
            return "failed"
        if status >= 400:
            return "refused"
        if not self._request.is_admitted:
            return None
        return self._request.cut or ("completed" if self._complete else "failed")

    @property
    def error_code(self) -> str | None:
        """Of what ended it, though its status may say that all is well."""
        if (failure := self._request.failure) is not None:
            return failure.code
        if self._error_event is not None and self._error_event < _INTERNAL:
            return "invalid_request"
        if self._error_event is not None or not self._complete:
            return InternalError.code
        return None if self._request.cut is None else GenerationIncomplete.code
