"""Answering: how a stock server's answer gets to the client, line by line."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import NoReturn

from starlette.types import Message, Send

from engine.errors import AdapterForcedOut, EngineError
from engine.gateway.openai_errors import ERROR_EVENTS, status_of_event
from engine.types import AdapterVersion
from fleet.cut_answer import end_answer
from fleet.stock.buffered_answer import AnswerHead, BufferedAnswer
from fleet.stock.usage import AnswerUsage, uncounted_usage
from registry.http.headers import is_event_stream

_DROPPED_HEADERS = frozenset(
    {
        *(b"content-length", b"content-encoding", b"server", b"date"),  # it is sent on decoded
        *(b"connection", b"keep-alive", b"proxy-authenticate", b"proxy-connection", b"te"),
        *(b"trailer", b"transfer-encoding", b"upgrade"),
    }
)
_EVENT = b"data: "


class AnswerCutShort(Exception):
    """The rest of an answer will not come, and its client has been told in its stream."""


def _do_nothing() -> None:
    return


@dataclass(slots=True)
class _Told:
    """`last`: the lines that came last and have an event."""

    last: bytes = b""

    def note(self, lines: bytes) -> None:
        if _EVENT in lines:
            self.last = lines


@dataclass(frozen=True, slots=True)
class Answering:
    """How an answer gets to the client. `on_read`: once the server's work has ended.

    `version`: what it is generated with; None: the base model. `ending`: once an operator has
    forced that out.
    """

    send: Send
    back: Callable[[bytes], bytes] = bytes
    headers: Sequence[tuple[bytes, bytes]] = ()
    on_read: Callable[[], None] = _do_nothing
    version: AdapterVersion | None = None
    ending: asyncio.Event = field(default_factory=asyncio.Event)
    begun: asyncio.Event = field(default_factory=asyncio.Event)  # the client has its start
    usage: AnswerUsage = field(default_factory=uncounted_usage)
    told: _Told = field(default_factory=_Told)

    async def send_all(self, answer: BufferedAnswer) -> int:
        """Its status; of a stream that ends with an error, that of the error."""
        start = self._start(await answer.head())
        status: int = start["status"]
        self.begun.set()
        await self.send(start)
        streams = is_event_stream(start)
        async for chunk in answer.chunks():
            await self.send(_part(self.back(chunk), more=True))
            if streams:
                status = _status_of_error(chunk) or status
                self.told.note(chunk)
        await self.send(_part(b"", more=False))
        return status

    async def force_out(self, answer: BufferedAnswer, path: str) -> NoReturn:
        """Tell the client that an operator has ended it. Raises AdapterForcedOut if no response has
        started, else what `cut_short` raises.
        """
        failure = AdapterForcedOut(
            "the adapter" if self.version is None else self.version.reference
        )
        if not self.begun.is_set():
            raise failure
        await self.cut_short(await answer.head(), failure, path)

    async def cut_short(self, head: AnswerHead, failure: EngineError, path: str) -> NoReturn:
        """Raises AnswerCutShort; of an answer that is no stream, ConnectionAbortedError."""
        end = await end_answer(failure, path, self._start(head), self.told.last)
        await self.send(_part(b"\n", more=True))  # ends an event of which only lines came
        for message in end:
            await self.send(message)
        raise AnswerCutShort(failure.detail) from failure

    def _start(self, head: AnswerHead) -> Message:
        headers = [*head.headers, *self.headers]
        return {"type": "http.response.start", "status": head.status, "headers": headers}


def outcome_of(status: int) -> str:
    """How a request ended that was answered with it."""
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return "failed"
    return "refused" if status >= HTTPStatus.BAD_REQUEST else "completed"


def _status_of_error(lines: bytes) -> int | None:
    """None if none of these lines of a stream begins an error."""
    at = min((found for sign in ERROR_EVENTS if (found := _at_line(lines, sign)) >= 0), default=-1)
    return None if at < 0 else status_of_event(lines[at:]) or HTTPStatus.BAD_GATEWAY


def _at_line(lines: bytes, sign: bytes) -> int:
    return 0 if lines.startswith(sign) else lines.find(b"\n" + sign)


def _part(body: bytes, *, more: bool) -> Message:
    return {"type": "http.response.body", "body": body, "more_body": more}


def kept_headers(headers: Sequence[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """Those of the server's that hold for the answer as it is sent on: not its connection's."""
    listed = b",".join(v for k, v in headers if k.lower() == b"connection").lower().split(b",")
    dropped = _DROPPED_HEADERS.union(map(bytes.strip, listed))
    return [(k, v) for k, v in headers if k.lower() not in dropped]


def restore_model(name: str, requested: str) -> Callable[[bytes], bytes]:
    """Responses name the model as the client did; no text holds an engine name by chance."""
    ours, theirs = json.dumps(name).encode(), json.dumps(requested).encode()
    return lambda chunk: chunk.replace(ours, theirs)


async def whole_lines(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Chunks that end with a line, so that no name is cut: JSON and events keep it on one line."""
    rest: list[bytes] = []  # joined once: an answer of many embeddings is one long line
    async for chunk in chunks:
        whole, newline, after = chunk.rpartition(b"\n")
        if not newline:
            rest.append(chunk)
            continue
        yield b"".join((*rest, whole, newline))
        rest = [after] if after else []
    if rest:
        yield b"".join(rest)
