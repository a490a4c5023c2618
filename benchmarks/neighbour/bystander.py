"""Bystander: a client that streams one completion after the other, and times their tokens.

It shares the machine's cores with the server, as clients elsewhere would not: httpx would take
three times as much of them for each token.
"""

import contextlib
import json
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http import HTTPStatus
from http.client import HTTPConnection
from urllib.parse import urlsplit

TOKENS = 24
PATIENCE_SECONDS = 300.0

_REQUEST = json.dumps(
    {
        "model": "upper",
        "prompt": "hello=",
        "max_tokens": TOKENS,
        "ignore_eos": True,
        "temperature": 0,
        "stream": True,
    }
).encode()


@dataclass(slots=True)
class Times:
    """Milliseconds."""

    first_tokens: list[float] = field(default_factory=list)
    gaps: list[float] = field(default_factory=list)

    @property
    def first_token(self) -> float:
        return statistics.median(self.first_tokens)

    @property
    def gap(self) -> float:
        """The mean: a median would not see that the event loop stands now and then."""
        return statistics.fmean(self.gaps)

    @property
    def longest_gap(self) -> float:
        return max(self.gaps)


def stream_while(url: str, goes_on: Callable[[], bool]) -> Times:
    times = Times()
    place = urlsplit(url)
    with contextlib.closing(
        HTTPConnection(place.hostname or "", place.port, timeout=300)
    ) as server:
        while goes_on():
            _stream(server, times)
    return times


def _stream(server: HTTPConnection, times: Times) -> None:
    last = time.perf_counter()
    server.request("POST", "/v1/completions", _REQUEST, {"Content-Type": "application/json"})
    answer = server.getresponse()
    if answer.status != HTTPStatus.OK:
        raise SystemExit(f"the bystander was answered {answer.status}: {answer.read()[:500]!r}")
    is_first = True
    while line := answer.readline():
        if not line.startswith(b"data: {"):
            continue
        now = time.perf_counter()
        (times.first_tokens if is_first else times.gaps).append((now - last) * 1000)
        last, is_first = now, False


def measure_idle(url: str, seconds: float) -> Times:
    ends = time.monotonic() + seconds
    return stream_while(url, lambda: time.monotonic() < ends)
