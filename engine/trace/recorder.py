"""Trace recorder: takes note of each request at its end, and writes them in the background."""

import asyncio
import logging
import threading
import time
from collections.abc import Iterator
from typing import NamedTuple, Protocol

from engine.events import CacheEvent, MovedIn
from engine.trace.lines import (
    Line,
    LoadLine,
    RequestLine,
    ServerLine,
    decode_lines,
    encode_for_export,
    encode_line,
)
from engine.trace.segments import TraceSegments
from engine.types import AdapterVersion, CacheOutcome, Lease, WorkTotals

logger = logging.getLogger(__name__)

FLUSH_SECONDS = 1.0
MAX_PENDING = 100_000
_DIGITS = 6

_Load = tuple[float, MovedIn]


class EndedRequest(NamedTuple):
    """One HTTP request. `at`: when it arrived, in seconds since 1970; `version` None: for the base
    model; `tenant`: its caller's.

    `work` may still be added to for a moment, after an abort.
    """

    at: float
    version: AdapterVersion | None
    tenant: str | None
    lease: Lease | None
    work: WorkTotals | None
    outcome: str
    seconds: float


class RequestTrace(Protocol):
    """Who takes note of the end of requests."""

    def add_request(self, request: EndedRequest) -> None: ...


class NullTrace:
    """Null trace: takes note of nothing."""

    def add_request(self, request: EndedRequest) -> None:
        return


class TraceRecorder:
    """Implements `RequestTrace`, and is an observer of loads.

    A request costs one tuple; a thread makes lines of them, once a second. `dropped`: how many
    lines were lost, as the disk did not take them.
    """

    observed = frozenset({MovedIn})

    def __init__(self, segments: TraceSegments, server: ServerLine) -> None:
        self.dropped = 0
        self._segments = segments
        self._header = encode_line(server)
        self._requests: list[EndedRequest] = []
        self._loads: list[_Load] = []
        self._writing = asyncio.Lock()
        self._thread = threading.Lock()  # one goes on when the task that waits for it is cancelled
        self._is_failing = False

    def add_request(self, request: EndedRequest) -> None:
        """See the port."""
        if len(self._requests) < MAX_PENDING:
            self._requests.append(request)
        else:
            self.dropped += 1

    def on_event(self, event: CacheEvent) -> None:
        if not isinstance(event, MovedIn):
            return
        if len(self._loads) < MAX_PENDING:
            self._loads.append((time.time(), event))
        else:
            self.dropped += 1

    async def run(self) -> None:
        """Write until cancelled, and what is left then."""
        try:
            while True:
                await asyncio.sleep(FLUSH_SECONDS)
                await self.flush()
        finally:
            self._write(*self._take())

    async def flush(self) -> None:
        """Write what there is. A disk that fails is logged once, and the server serves on."""
        async with self._writing:
            if self._requests or self._loads or self._thread.locked():
                await asyncio.to_thread(self._write, *self._take())

    def export(self) -> Iterator[bytes]:
        """All lines on disk as JSON objects, the oldest first. Blocks; raises OSError."""
        return map(encode_for_export, decode_lines(self._segments.read()))

    def _take(self) -> tuple[list[EndedRequest], list[_Load]]:
        """In the event loop, which may add to them at any other time."""
        taken = self._requests, self._loads
        self._requests, self._loads = [], []
        return taken

    def _write(self, requests: list[EndedRequest], loads: list[_Load]) -> None:
        with self._thread:
            if requests or loads:
                self._write_now(requests, loads)

    def _write_now(self, requests: list[EndedRequest], loads: list[_Load]) -> None:
        noted: list[Line] = [_load_line(*each) for each in loads]
        noted += map(_request_line, requests)
        lines: list[bytes] = []
        for line in noted:
            self._encode(line, lines)
        try:
            self._segments.append(lines, self._header)
        except OSError as error:  # it must not end the server
            self.dropped += len(lines)
            self._report(error)
        else:
            self._is_failing = len(lines) < len(noted)

    def _encode(self, line: Line, lines: list[bytes]) -> None:
        try:
            lines.append(encode_line(line))
        except ValueError as error:  # of this line only
            self.dropped += 1
            self._report(error)

    def _report(self, error: Exception) -> None:
        """Once in a row."""
        if not self._is_failing:
            logger.warning("the trace of requests can't be written: %s", error)
        self._is_failing = True


def _load_line(at: float, moved: MovedIn) -> LoadLine:
    version = moved.version
    return LoadLine(
        round(at, _DIGITS),
        version.adapter,
        version.number,
        str(moved.transition),
        round(moved.seconds, _DIGITS),
        version.size_bytes,
        version.rank,
    )


def _request_line(request: EndedRequest) -> RequestLine:
    at, version, tenant, lease, work, outcome, seconds = request
    source = None if lease is None else lease.outcome
    first = None if work is None else work.first_token_at
    return RequestLine(
        at=round(at, _DIGITS),
        adapter=None if version is None else version.adapter,
        version=None if version is None else version.number,
        tenant=tenant,
        prompt_tokens=0 if work is None else work.prompt_tokens,
        generated_tokens=0 if work is None else work.generated_tokens,
        outcome=outcome,
        source=None if source is None else str(source),
        wait_seconds=0.0 if lease is None else round(lease.wait_seconds, _DIGITS),
        load_seconds=0.0 if lease is None else round(lease.load_seconds, _DIGITS),
        load_bytes=version.size_bytes if version and source is CacheOutcome.MISS else 0,
        first_token_seconds=None if first is None else round(max(first - at, 0.0), _DIGITS),
        seconds=round(seconds, _DIGITS),
    )
