"""Calls of our functions for each request and each token: a count, which no clock disturbs."""

import sys
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

from benchmarks.overhead.streams import Streams

_ROOT = Path(__file__).parents[2]
_OURS = tuple(f"{_ROOT}/{name}/" for name in ("adaptry", "engine", "fleet", "guest", "registry"))
_REQUESTS = 16
_TOKENS = 129


@dataclass(frozen=True, slots=True)
class Calls:
    """`per_token`: of each token after the first, and in `functions` by function."""

    per_request: float
    per_token: float
    functions: dict[str, float] = field(default_factory=dict)


async def count_calls(streams: Streams) -> Calls:
    """Of answers with one token and with many, which are streamed by `streams`."""
    short = await _least(streams, 1)
    more = await _least(streams, _TOKENS) - short
    tokens = _REQUESTS * (_TOKENS - 1)
    functions = {name: calls / tokens for name, calls in more.most_common(10)}
    return Calls(short.total() / _REQUESTS, more.total() / tokens, functions)


async def _least(streams: Streams, tokens: int) -> Counter[str]:
    """Of three blocks: without what runs once a second."""
    return min([await _count(streams, tokens) for _ in range(3)], key=Counter.total)


async def _count(streams: Streams, tokens: int) -> Counter[str]:
    calls: Counter[str] = Counter()

    def note(frame: FrameType, event: str, _: object) -> None:
        code = frame.f_code
        if event == "call" and code.co_filename.startswith(_OURS):
            calls[f"{code.co_filename.removeprefix(f'{_ROOT}/')}: {code.co_qualname}"] += 1

    sys.setprofile(note)
    try:
        await streams.ask(_REQUESTS, tokens)
    finally:
        sys.setprofile(None)
    return calls
