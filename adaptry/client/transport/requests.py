"""Requests of the client, described without I/O, so that both transports can execute them."""

from collections.abc import AsyncIterable, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from typing import IO, Any, Literal, TypeAlias, TypeVar
from urllib.parse import quote

from adaptry.client.errors import InvalidReference, UnexpectedAnswer

DEFAULT_SERVER = "http://127.0.0.1:8000"
NO_TIMEOUT = float("inf")
WRONG_SERVER = "this server does not speak Adaptry's API"

R = TypeVar("R")
QueryValue: TypeAlias = str | int | float | bool | Sequence[str] | None


class Unset(Enum):
    """The type of UNSET: a parameter was left out, where None means something else."""

    UNSET = "unset"

    def __repr__(self) -> str:
        return "UNSET"


UNSET: Literal[Unset.UNSET] = Unset.UNSET


@dataclass(frozen=True, slots=True)
class Request:
    """One HTTP request. `timeout_seconds` None: the client's timeout."""

    method: str
    path: str
    query: Mapping[str, QueryValue] = field(default_factory=dict)
    body: Mapping[str, object] | None = None
    files: Sequence[tuple[str, tuple[str, IO[bytes]]]] | None = None
    fields: Mapping[str, str] | None = None
    content: Iterable[bytes] | AsyncIterable[bytes] | None = None
    media_type: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    timeout_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Pause:
    seconds: float


@dataclass(frozen=True, slots=True)
class Response:
    """A successful response. `content` is empty if it had none."""

    status: int
    content: dict[str, Any]


Action: TypeAlias = Request | Pause
RequestFlow: TypeAlias = Generator[Action, Response, R]
"""Yields what to do next, is sent the response to each request, and returns the result."""


@dataclass(frozen=True, slots=True)
class Parameters:
    """A method's arguments as parts of a request: in the path, the query and the body."""

    path: Mapping[str, str | int] = field(default_factory=dict)
    query: Mapping[str, QueryValue] = field(default_factory=dict)
    body: Mapping[str, object] | None = None
    timeout_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Route:
    """An operation of the OpenAPI document."""

    method: str
    path: str

    def request(self, parameters: Parameters) -> Request:
        parts = {name: quote(str(value), safe="@:") for name, value in parameters.path.items()}
        query = {name: value for name, value in parameters.query.items() if value is not None}
        return Request(
            self.method,
            self.path.format(**parts),
            query=query,
            body=parameters.body,
            timeout_seconds=parameters.timeout_seconds,
        )


def parse_version(reference: str) -> dict[str, str | int]:
    """The path parameters of `name:3`. Raises InvalidReference."""
    name, _, number = reference.partition(":")
    if not (number.isascii() and number.isdigit() and len(number) <= 10):
        raise InvalidReference(
            f"{reference!r} names no version: write NAME:VERSION, such as upper:3"
        )
    return {"name": name, "number": int(number)}


def without_none(**fields: object) -> dict[str, object]:
    """A body without the fields that are None: the server's defaults apply."""
    return {name: value for name, value in fields.items() if value is not None}


def without_unset(**fields: object) -> dict[str, object]:
    """A body without the fields that are UNSET: None clears a value."""
    return {name: value for name, value in fields.items() if value is not UNSET}


def format_time(at: datetime | str | None) -> str | None:
    """A time as the server parses it; the server refuses one without a zone."""
    return at.isoformat() if isinstance(at, datetime) else at


def parse_response(status: int, content: object) -> Response:
    """Raises UnexpectedAnswer."""
    if not isinstance(content, dict):
        raise UnexpectedAnswer(WRONG_SERVER)
    return Response(status, content)
