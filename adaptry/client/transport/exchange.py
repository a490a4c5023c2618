"""Exchange with a server: what the blocking transport asks of httpx, or of `http.client`."""

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from typing import Protocol

from adaptry.client.transport.http import Answer
from adaptry.client.transport.requests import Request


class OpenAnswer(Answer, Protocol):
    """A response whose body has not been read."""

    def read(self) -> bytes: ...
    def iter_bytes(self) -> Iterator[bytes]: ...


class Exchange(Protocol):
    """Sends requests. Its methods raise NoAnswer, not for an answer that is an error."""

    def send(self, request: Request) -> Answer: ...
    def open(
        self, request: Request, timeout_seconds: float | None, headers: Mapping[str, str]
    ) -> AbstractContextManager[OpenAnswer]: ...
    def close(self) -> None: ...
