"""History recorder: follows the cache's events, and saves them in the background."""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from engine.cache.snapshot import CacheSnapshot
from engine.events import CacheEvent, EngineLost, EngineReady
from engine.history.counts import Counts
from engine.history.places import Corrections, Places
from engine.history.span import Span, is_plain_hit, pack
from engine.types import VersionId
from registry.cache_history import MICROSECONDS, CacheHistoryStore, HistoryRow

logger = logging.getLogger(__name__)

FLUSH_SECONDS = 5.0
SAVE_SECONDS = 10.0  # a database that takes longer is away
PRUNE_SECONDS = 60.0
SPAN = 60 * MICROSECONDS
MAX_SPAN = 60 * SPAN  # of one in which nothing happens
MAX_UNSAVED = 3
_BACKWARDS = MICROSECONDS  # a clock that was set back


@dataclass(frozen=True, slots=True)
class _Closed:
    document: dict[str, Any]
    began: int
    ended: int
    totals: Counts

    def pack(self) -> HistoryRow:
        return pack(self.document, self.began, self.ended, self.totals)


class HistoryRecorder:
    """An observer. An event costs microseconds, whatever the database does.

    Spans that the database has not taken wait in memory, but not many: then the oldest is dropped,
    and `on_drop` is called with the number of its records. `clock`: seconds since 1970.
    """

    def __init__(
        self,
        store: CacheHistoryStore,
        *,
        on_drop: Callable[[int], None] = lambda records: None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.store = store
        self.places = Places()
        self._on_drop = on_drop
        self._clock = clock
        self._packing = asyncio.Lock()  # for one caller at a time, each takes the interpreter
        self._snapshot: Callable[[], CacheSnapshot] | None = None
        self._limits: dict[str, Any] = {}
        self._corrections = Corrections()
        self._engine_up = True
        self._sizes: dict[VersionId, int] = {}
        self._closed: deque[_Closed] = deque()
        self._last = int(clock() * MICROSECONDS)
        self._span = self._new_span(self._last)
        self._is_failing = False

    def watch(self, snapshot: Callable[[], CacheSnapshot]) -> None:
        """To be called before the first event."""
        self._snapshot, first = snapshot, snapshot()
        self._limits = {
            "slots": first.slots,
            "host_capacity": first.host_capacity,
            "host_bytes_limit": first.host_bytes_limit,
        }

    def on_event(self, event: CacheEvent) -> None:
        if is_plain_hit(event):  # nearly all
            self._span.add_hit(event.version)
            return
        at = self._tick()
        if at >= self._span.ends:
            self._roll(at)
        if isinstance(event, EngineLost | EngineReady):
            self._engine_up = isinstance(event, EngineReady)
        self._span.add(event, at)

    async def run(self) -> None:
        """Save until cancelled, and what is left then."""
        next_prune = time.monotonic()
        try:
            while True:
                if time.monotonic() >= next_prune:
                    next_prune = time.monotonic() + PRUNE_SECONDS
                    await self._guard(self.store.prune(self._tick()))
                await asyncio.sleep(FLUSH_SECONDS)
                await self.flush()
        finally:
            await self.flush()

    async def flush(self) -> None:
        """Save what is not saved yet. A database that fails is logged once."""
        self._observe()
        while self._closed:
            closed = self._closed[0]
            if not await self._save(closed):
                return
            if self._closed and self._closed[0] is closed:  # else it was dropped meanwhile
                self._closed.popleft()
        span = self._span
        if not span.is_saved:
            open_ = self._open(span)
            span.is_saved = True  # until the next event, which may come before the database answers
            span.is_saved = await self._save(open_) and span.is_saved

    def unsaved(self) -> list[Callable[[], HistoryRow]]:
        """The rows that the database may lack, to be packed elsewhere than in the event loop."""
        return [each.pack for each in (*self._closed, self._open(self._span))]

    async def servers(self) -> tuple[str]:
        return (self.store.server,)

    async def unsaved_rows(self, server: str) -> list[HistoryRow]:
        """See `engine.history.reader.Recording`, which this implements."""
        if server != self.store.server:
            return []
        async with self._packing:
            packed = self.unsaved()
            return await asyncio.to_thread(lambda: [pack() for pack in packed])

    def _observe(self) -> None:
        """Compare with the cache's own state, and close a span that has ended."""
        if self._snapshot is None:
            raise RuntimeError("the recorder watches no cache")
        at, snapshot = self._tick(), self._snapshot()
        self._sizes = {each.version.id: each.host_bytes for each in snapshot.host}
        if changed := self._corrections.find(self.places, snapshot, at):
            self._span.correct(changed, at)
        if at >= self._span.ends:
            self._end_span(at)
        self._span.sample(snapshot, at)

    def _end_span(self, at: int) -> None:
        """One in which nothing happens goes on, for an hour at most."""
        if self._span.is_empty and self._span.ends - self._span.began < MAX_SPAN:
            self._span.ends += SPAN
            self._span.is_saved = False
        else:
            self._roll(at)

    def _roll(self, at: int) -> None:
        self._closed.append(self._open(self._span, at))
        self._span = self._new_span(at)
        while len(self._closed) > MAX_UNSAVED:
            self._on_drop(len(self._closed.popleft().document["records"]))

    def _new_span(self, at: int) -> Span:
        return Span(at, (at // SPAN + 1) * SPAN, self.places, self._engine_up)

    def _open(self, span: Span, at: int | None = None) -> _Closed:
        document = self._limits | span.document(self._sizes)
        return _Closed(document, span.began, at or self._tick(), span.totals.copy())

    def _tick(self) -> int:
        """Later than any time before, so that it identifies an event."""
        now = int(self._clock() * MICROSECONDS)
        if now < self._last - _BACKWARDS:
            logger.warning("the clock was set back: the history of the cache has a gap")
            self._closed.append(self._open(self._span, self._last))
            self._span, self._last = self._new_span(now), now
        self._last = max(self._last + 1, now)
        return self._last

    async def _save(self, closed: _Closed) -> bool:
        """Whether the database has it now."""
        return await self._guard(self._pack_and_save(closed))

    async def _pack_and_save(self, closed: _Closed) -> None:
        await self.store.save(await asyncio.to_thread(closed.pack))

    async def _guard(self, work: Coroutine[Any, Any, None]) -> bool:
        """Whether it succeeded. Whatever fails must not end the server."""
        try:
            async with asyncio.timeout(SAVE_SECONDS):
                await work
        except Exception as error:
            if not self._is_failing:
                shown = str(error) or type(error).__name__
                logger.warning("the history of the cache can't be saved: %s", shown)
            self._is_failing = True
            return False
        self._is_failing = False
        return True
