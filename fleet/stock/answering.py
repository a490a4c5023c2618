"""Answering: how a stock server's answer gets to the client, line by line."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field

from starlette.types import Message, Send

from engine.errors import EngineError
from fleet.cut_answer import end_answer
from fleet.stock.buffered_answer import AnswerHead, BufferedAnswer
from fleet.stock.usage import AnswerUsage, uncounted_usage

_DROPPED_HEADERS = {"content-length", "transfer-encoding", "connection", "server", "date"}


class AnswerCutShort(Exception):
    """The rest of an answer will not come, and its client has been told in its stream."""


def _do_nothing() -> None:
    return


@dataclass(frozen=True, slots=True)
class Answering:
    """How an answer gets to the client. `on_read`: once the server's work has ended."""

    send: Send
    back: Callable[[bytes], bytes] = bytes
    headers: Sequence[tuple[bytes, bytes]] = ()
    on_read: Callable[[], None] = _do_nothing
    ending: asyncio.Event | None = None
    usage: AnswerUsage = field(default_factory=uncounted_usage)

    async def send_all(self, answer: BufferedAnswer) -> None:
        await self.send(self._start(await answer.head()))
        async for chunk in answer.chunks():
            await self.send(_part(self.back(chunk), more=True))
        await self.send(_part(b"", more=False))

    async def cut_short(self, head: AnswerHead, failure: EngineError, path: str) -> None:
        """Raises AnswerCutShort; of an answer that is no stream, ConnectionAbortedError."""
        end = await end_answer(failure, path, self._start(head))
        await self.send(_part(b"\n", more=True))  # ends an event of which only lines came
        for message in end:
            await self.send(message)
        raise AnswerCutShort(failure.detail) from failure

    def _start(self, head: AnswerHead) -> Message:
        headers = [*head.headers, *self.headers]
        return {"type": "http.response.start", "status": head.status, "headers": headers}


def _part(body: bytes, *, more: bool) -> Message:
    return {"type": "http.response.body", "body": body, "more_body": more}


def kept_headers(headers: Sequence[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """Those of the server's that hold for the answer as it is sent on."""
    return [(k, v) for k, v in headers if k.lower().decode() not in _DROPPED_HEADERS]


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
