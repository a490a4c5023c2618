"""Bystander: a client that streams one completion after the other, and times their tokens."""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import httpx

TOKENS = 24


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


def stream_while(client: httpx.Client, goes_on: Callable[[], bool]) -> Times:
    times = Times()
    body = {
        "model": "upper",
        "prompt": "hello=",
        "max_tokens": TOKENS,
        "ignore_eos": True,
        "temperature": 0,
        "stream": True,
    }
    while goes_on():
        last = time.perf_counter()
        is_first = True
        with client.stream("POST", "/v1/completions", json=body) as answer:
            answer.raise_for_status()
            for line in answer.iter_lines():
                if not line.startswith("data: {"):
                    continue
                now = time.perf_counter()
                (times.first_tokens if is_first else times.gaps).append((now - last) * 1000)
                last, is_first = now, False
    return times


def measure_idle(client: httpx.Client, seconds: float) -> Times:
    ends = time.monotonic() + seconds
    return stream_while(client, lambda: time.monotonic() < ends)
