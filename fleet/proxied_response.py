"""One answer on its way to the client, while it may still be asked for elsewhere."""

import json
from http import HTTPStatus

from starlette.types import Message, Send

from engine.errors import EngineUnavailable
from engine.gateway.openai_errors import error_event, send_engine_error

REPLICA_HEADER = b"x-adaptry-replica"

_LOST = "the replica that was asked has died"


class Answer:
    """Holds back what says only that this replica's engine is away: another one may be there."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._held: list[Message] = []
        self._is_stream = False
        self.started = False
        self.is_good = False
        self.replica: frozenset[str] = frozenset()

    @property
    def is_held(self) -> bool:
        """The client has got nothing yet."""
        return not self.started

    async def take(self, message: Message) -> None:
        """The next message of a replica's answer."""
        if self.started:
            await self._send(message)
            return
        self._held.append(message)
        if self._held[0]["status"] != EngineUnavailable.status or self._is_final(message):
            await self._release()

    def _is_final(self, message: Message) -> bool:
        """The answer is complete, and no other replica would have a better one."""
        return not message.get("more_body", True) and not self._says_that_the_engine_is_away()

    async def _release(self) -> None:
        self.started = True
        held, self._held = self._held, []
        self.is_good = held[0]["status"] == HTTPStatus.OK
        self.replica = _replica(held[0])
        self._is_stream = _header(held[0], b"content-type").startswith(b"text/event-stream")
        for message in held:
            await self._send(message)

    def _says_that_the_engine_is_away(self) -> bool:
        body = b"".join(message.get("body", b"") for message in self._held[1:])
        try:
            return bool(json.loads(body)["error"]["code"] == EngineUnavailable.code)
        except (ValueError, LookupError, TypeError):
            return False

    def drop(self) -> frozenset[str]:
        """Forget what is held; the name of the replica that it came from."""
        held, self._held = self._held, []
        return _replica(held[0]) if held else frozenset()

    async def give(self) -> None:
        """There is nobody else to be asked: what is held is the answer, or that nothing came."""
        if self._held:
            await self._release()
        else:
            self.started = True
            await send_engine_error(self._send, EngineUnavailable(_LOST))

    async def break_off(self) -> None:
        """A stream ends with its reason; what was promised a length is cut off by the server."""
        if not self._is_stream:
            raise ConnectionAbortedError(_LOST)
        lost = error_event(EngineUnavailable(_LOST))
        await self._send({"type": "http.response.body", "body": lost + b"data: [DONE]\n\n"})


def _replica(start: Message) -> frozenset[str]:
    """Its name, if it says that."""
    name = _header(start, REPLICA_HEADER).decode()
    return frozenset({name} if name else ())


def _header(start: Message, name: bytes) -> bytes:
    headers: dict[bytes, bytes] = dict(start["headers"])
    return headers.get(name, b"")
