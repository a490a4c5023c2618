"""What a call does, told without doing it: requests and pauses that either client carries out."""

from collections.abc import AsyncIterable, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from typing import IO, Any, Literal, TypeAlias, TypeVar
from urllib.parse import quote

from adaptry.client.errors import InvalidReference, UnexpectedAnswer

FOR_EVER = float("inf")
NOT_OURS = "this server does not speak Adaptry's API"

R = TypeVar("R")
QueryValue: TypeAlias = str | int | float | bool | Sequence[str] | None


class Unset(Enum):
    """What a parameter is that was left out, where None means something else."""

    UNSET = "unset"

    def __repr__(self) -> str:
        return "UNSET"


UNSET: Literal[Unset.UNSET] = Unset.UNSET


@dataclass(frozen=True, slots=True)
class Request:
    """One request. `patience_seconds`: how long an answer may take; None: the client's timeout."""

    method: str
    path: str
    query: Mapping[str, QueryValue] = field(default_factory=dict)
    body: Mapping[str, object] | None = None
    files: Sequence[tuple[str, tuple[str, IO[bytes]]]] | None = None
    fields: Mapping[str, str] | None = None
    content: Iterable[bytes] | AsyncIterable[bytes] | None = None
    media_type: str | None = None
    patience_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Pause:
    seconds: float


@dataclass(frozen=True, slots=True)
class Reply:
    """A success. `content` is empty where there was none."""

    status: int
    content: dict[str, Any]


Step: TypeAlias = Request | Pause
Flow: TypeAlias = Generator[Step, Reply, R]
"""Yields what to do next, is sent the reply to a request, and returns the call's result."""


@dataclass(frozen=True, slots=True)
class Given:
    """What a call's arguments become: parts of the path, the query, the body."""

    path: Mapping[str, str | int] = field(default_factory=dict)
    query: Mapping[str, QueryValue] = field(default_factory=dict)
    body: Mapping[str, object] | None = None
    patience_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Route:
    """An operation of the OpenAPI document."""

    method: str
    path: str

    def request(self, given: Given) -> Request:
        parts = {name: quote(str(value), safe="@:") for name, value in given.path.items()}
        query = {name: value for name, value in given.query.items() if value is not None}
        return Request(
            self.method,
            self.path.format(**parts),
            query=query,
            body=given.body,
            patience_seconds=given.patience_seconds,
        )


def version_of(reference: str) -> dict[str, str | int]:
    """The parts of a path that `name:3` stands for. Raises InvalidReference."""
    name, _, number = reference.partition(":")
    if not (number.isascii() and number.isdigit() and len(number) <= 10):
        raise InvalidReference(
            f"{reference!r} names no version: write NAME:VERSION, such as upper:3"
        )
    return {"name": name, "number": int(number)}


def given(**fields: object) -> dict[str, object]:
    """A body without what is None: the server's own defaults hold."""
    return {name: value for name, value in fields.items() if value is not None}


def changed(**fields: object) -> dict[str, object]:
    """A body without what is UNSET: None takes a value away."""
    return {name: value for name, value in fields.items() if value is not UNSET}


def moment(at: datetime | str | None) -> str | None:
    """A time as the server reads it; without a zone it is refused there."""
    return at.isoformat() if isinstance(at, datetime) else at


def reply_of(status: int, content: object) -> Reply:
    if not isinstance(content, dict):
        raise UnexpectedAnswer(NOT_OURS)
    return Reply(status, content)
