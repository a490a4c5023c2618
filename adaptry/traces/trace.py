"""Trace: requests, loads and servers, as recorded by a server or by another tool."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from engine.trace import FORMAT


class TracedRequest(NamedTuple):
    """One request. `source`: where it found its adapter; None: unknown, or it got no lease."""

    at: float
    adapter: str | None  # with its version, if that is known; None: the base model
    generated_tokens: int
    prompt_tokens: int = 0
    outcome: str = "completed"
    source: str | None = None
    wait_seconds: float = 0.0
    first_token_seconds: float | None = None
    seconds: float = 0.0


class TracedLoad(NamedTuple):
    """One load from disk, or one copy into a slot, when it was done."""

    at: float
    adapter: str
    transition: str
    seconds: float
    size_bytes: int
    rank: int


class TracedServer(NamedTuple):
    """The limits of the server that recorded what follows."""

    server: str
    base: str
    slots: int
    host_places: int
    host_bytes: int | None
    max_rank: int
    max_loads: int
    slot_wait_seconds: float
    eviction_policy: str


@dataclass(slots=True)
class Trace:
    """`requests` in order of time."""

    requests: list[TracedRequest] = field(default_factory=list)
    loads: list[TracedLoad] = field(default_factory=list)
    server: TracedServer | None = None  # the last one

    def add(self, line: Mapping[str, Any]) -> None:
        """One exported line. Raises KeyError, TypeError, ValueError, OverflowError."""
        match line["kind"]:
            case "request":
                self.requests.append(_request(line))
            case "load":
                self.loads.append(_load(line))
            case "server":
                if (format_ := int(line["format"])) > FORMAT:
                    raise ValueError(
                        f"its format is {format_}, newer than {FORMAT}: update adaptry"
                    )
                fields = TracedServer._fields
                self.server = TracedServer(*(line[name] for name in fields))
            case other:
                raise ValueError(f"a line of the kind {other!r}")

    def sort(self) -> None:
        """Lines are recorded when requests end, not when they arrive."""
        self.requests.sort(key=lambda request: request.at)


def trace_of(lines: Iterable[Mapping[str, Any]]) -> Trace:
    """Raises what `add` raises."""
    trace = Trace()
    for line in lines:
        trace.add(line)
    trace.sort()
    return trace


def finite(seconds: float) -> float:
    """Python reads NaN and Infinity in JSON, and no clock comes to them. Raises ValueError."""
    if not math.isfinite(seconds):
        raise ValueError(f"{seconds} is no time")
    return seconds


def _reference(line: Mapping[str, Any]) -> str:
    name, version = line["adapter"], line["version"]
    if not isinstance(name, str):
        raise TypeError("the adapter has no name")
    return f"{name}:{int(version)}"


def _request(line: Mapping[str, Any]) -> TracedRequest:
    first = line["first_token_seconds"]
    return TracedRequest(
        at=finite(float(line["at"])),
        adapter=None if line["adapter"] is None else _reference(line),
        generated_tokens=int(line["generated_tokens"]),
        prompt_tokens=int(line["prompt_tokens"]),
        outcome=str(line["outcome"]),
        source=line["source"],
        wait_seconds=float(line["wait_seconds"]),
        first_token_seconds=None if first is None else float(first),
        seconds=float(line["seconds"]),
    )


def _load(line: Mapping[str, Any]) -> TracedLoad:
    return TracedLoad(
        finite(float(line["at"])),
        _reference(line),
        str(line["transition"]),
        finite(float(line["seconds"])),
        int(line["size_bytes"]),
        int(line["rank"]),
    )
