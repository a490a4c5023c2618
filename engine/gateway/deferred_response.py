"""One response on its way out: held until the lease is there, replaced if that failed."""

from collections.abc import Callable

from starlette.types import Message, Receive, Send

from engine.errors import EngineError, EngineUnavailable
from engine.gateway.openai_errors import error_event, send_engine_error
from engine.gateway.request_context import EngineRequest
from registry.redaction import mask_keys

# vLLM's last word in a stream; its code is 500 whatever happened
_ERROR_EVENT = b'data: {"error"'


class Exchange:
    """Between the application and the server."""

    def __init__(
        self,
        request: EngineRequest,
        receive: Receive,
        send: Send,
        unavailable: Callable[[], EngineUnavailable | None],
    ) -> None:
        self._request = request
        self._unavailable = unavailable
        self._receive = receive
        self._send = send
        self._held: Message | None = None
        self._status: int | None = None
        self._replaced = False
        self._complete = False
        self._client_left = False
        self._replaced_by: EngineError | None = None
        request.when_leased = self._send_held

    @property
    def started(self) -> bool:
        return self._status is not None

    @property
    def status(self) -> int | None:
        return self._status

    @property
    def refusal(self) -> EngineError | None:
        """What the client is told in place of the application's answer."""
        return self._replaced_by or (None if self.started else self._request.failure)

    async def receive(self) -> Message:
        message = await self._receive()
        if message["type"] == "http.disconnect" and not self._complete:
            self._client_left = True
        return message

    async def send(self, message: Message) -> None:
        if self._replaced:
            return
        if message["type"] == "http.response.start":
            self._held = message
            if self._request.lease is not None:
                await self._send_held()
            return
        if self._held is not None:
            await self._send_held()
            if self._replaced:
                return
        body = message.get("body")
        if body and (told := self._told(body)) is not body:
            message = {**message, "body": told}
        await self._send(message)
        if message["type"] == "http.response.body" and not message.get("more_body", False):
            self._complete = True

    def _told(self, body: bytes) -> bytes:
        if (self._status or 0) >= 400:  # vLLM's errors repeat what was sent
            return mask_keys(body)
        failure = self._request.failure
        if failure is not None and body.startswith(_ERROR_EVENT):
            return error_event(failure)
        return body

    async def _send_held(self) -> None:
        """As soon as it can't be replaced any more, not with the first token: a client reads it
        while the engine works on that."""
        held, self._held = self._held, None
        if held is None:
            return
        failure = self._request.failure
        if failure is None and held["status"] >= 500:
            failure = self._unavailable()  # vLLM says only that its engine has an issue
        if failure is not None:
            await self._replace(failure)
            return
        self._status = held["status"]
        await self._send({**held, "headers": [*held["headers"], *self._request.headers()]})

    async def _replace(self, failure: EngineError) -> None:
        self._replaced = self._complete = True
        self._status = failure.status
        self._replaced_by = failure
        await send_engine_error(self._send, failure, self._request.headers())

    async def finish(self) -> None:
        """Answer for an application that ended without a word, because the lease had failed."""
        if not self.started and self._request.failure is not None:
            await self._replace(self._request.failure)

    def outcome(self) -> str | None:
        """How the request ended; None if it was no generation at all (say, `/tokenize`)."""
        if self._client_left and not self._complete:
            return "cancelled"
        failure = self._request.failure
        status = failure.status if failure is not None else self._status
        if status is None or status >= 500:
            return "failed"
        if status >= 400:
            return "refused"
        return "completed" if self._request.lease is not None else None
