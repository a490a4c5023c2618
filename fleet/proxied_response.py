"""Proxied response: a replica's response to the client, replaceable until it has started."""

import asyncio
import json
from collections.abc import Callable
from http import HTTPStatus

from starlette.types import Message, Receive, Send

from engine.errors import EngineAsleep, EnginePaused, EngineUnavailable
from engine.gateway.openai_errors import send_refusal
from fleet.cut_answer import end_answer
from registry.errors.defects import Defect
from registry.http.headers import is_event_stream, response_header

REPLICA_HEADER = b"x-adaptry-replica"
_EVENT = b"data: "

_ELSEWHERE = frozenset(
    [
        *(error.code for error in (EngineUnavailable, EnginePaused, EngineAsleep)),
        str(Defect.RANK_TOO_LARGE),  # replicas may serve ranks up to different limits
    ]
)
_LOST = "the replica that handled the request has died"
NONE_ANSWERS = "none of the servers behind this one answers now: it goes on asking them"
MISSING = "no replica with room for the adapter's rank is up, and not all have started"


class ProxiedResponse:
    """Buffers a response that only reports that this engine can't serve it now: another may."""

    def __init__(self, send: Send, path: str, begin_answer: Callable[[], None]) -> None:
        """`begin_answer` is called with the first part of a good answer."""
        self._begin_answer: Callable[[], None] | None = begin_answer
        self._send = send
        self._path = path
        self._buffered: list[Message] = []
        self._head: Message | None = None
        self.started = False
        self.is_good = False
        self.events = 0
        """Of a good stream, so far."""
        self._last = b""  # part of a stream
        self._is_whole = False
        self.replica: frozenset[str] = frozenset()

    async def receive(self, message: Message) -> None:
        """Take the next message of a replica's response."""
        if self.started:
            if self._begin_answer is not None and "body" in message and self.is_good:
                begin, self._begin_answer = self._begin_answer, None
                begin()
            self._note(message)
            await self._send(message)
            return
        self._buffered.append(message)
        if self._buffered[0]["status"] != EngineUnavailable.status or self._is_final(message):
            await self._release()

    def _is_final(self, message: Message) -> bool:
        """The response is complete, and not one that another replica could better."""
        is_body = message["type"] == "http.response.body"
        return is_body and not message.get("more_body", False) and not self._is_for_another()

    async def _release(self) -> None:
        self.started = True
        buffered, self._buffered = self._buffered, []
        self.is_good = buffered[0]["status"] == HTTPStatus.OK
        self.replica = _replica(buffered[0])
        self._head = buffered[0]
        for message in buffered:
            self._note(message)
            await self._send(message)

    def _note(self, message: Message) -> None:
        if message["type"] == "http.response.body":
            if self.is_stream and (events := message.get("body", b"").count(_EVENT)):
                self.events += events
                self._last = message["body"]
            self._is_whole = not message.get("more_body", False)

    @property
    def is_stream(self) -> bool:
        """A good one, of Server-Sent Events."""
        return self.is_good and self._head is not None and is_event_stream(self._head)

    def until_whole(self, receive: Receive) -> Receive:
        """A `receive` whose client never leaves once it has the whole response: what its replica
        tells behind it is waited for.
        """

        async def receive_until_whole() -> Message:
            message = await receive()
            if message["type"] == "http.disconnect" and self._is_whole:
                await asyncio.Event().wait()
            return message

        return receive_until_whole

    def _is_for_another(self) -> bool:
        return self._code() in _ELSEWHERE

    @property
    def is_of_rank(self) -> bool:
        """No replica that was tried has room for the adapter's rank."""
        return not self.started and self._code() == Defect.RANK_TOO_LARGE

    def _code(self) -> str | None:
        body = b"".join(message.get("body", b"") for message in self._buffered[1:])
        try:
            return str(json.loads(body)["error"]["code"])
        except (ValueError, LookupError, TypeError):
            return None

    def drop(self) -> frozenset[str]:
        """Discard the buffered response; returns the name of its replica."""
        buffered, self._buffered = self._buffered, []
        return _replica(buffered[0]) if buffered else frozenset()

    async def finish(self) -> None:
        """No replica is left to try: send what is buffered, or the error that nothing came."""
        if self._buffered:
            await self._release()
        else:
            await self.refuse(_LOST)

    async def refuse(self, why: str) -> None:
        """In place of what is buffered: the client may try again."""
        self._buffered, self.started = [], True
        await send_refusal(self._send, EngineUnavailable(why), path=self._path)

    async def abort(self) -> None:
        """End a stream with an error event; the server cuts off a body of declared length."""
        for message in await end_answer(
            EngineUnavailable(_LOST), self._path, self._head, self._last
        ):
            await self._send(message)


def _replica(start: Message) -> frozenset[str]:
    """The replica's name, from its header."""
    name = response_header(start, REPLICA_HEADER).decode()
    return frozenset({name} if name else ())
