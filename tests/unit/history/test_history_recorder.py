"""History recorder: bounded in memory and in the database, and never in the way of the cache."""

import asyncio
import logging
import random
from typing import Any

import pytest

from engine.errors import EngineUnavailable
from engine.events import EngineLost, EngineReady, Evicted, LookedUp, Refused
from engine.history.recorder import MAX_UNSAVED, HistoryRecorder
from engine.history.replay import RecordedSpan
from engine.history.span import MAX_COUNTED, MAX_RECORDS_PER_SECOND, unpack_counts
from engine.types import CacheOutcome, EvictionReason, MissCause, Tier
from registry.cache_history import CacheHistoryStore, HistoryRow
from registry.database.engine import Database
from registry.errors import DatabaseUnavailable
from tests.support.cache.controller_harness import A, B, Cache, adapter, running, settle

MINUTE = 60.0


class Clock:
    now = 1_700_000_040.0

    def __call__(self) -> float:
        return self.now


class Store(CacheHistoryStore):
    """Keeps rows in memory; `fails` and `hangs` as a database does."""

    def __init__(self) -> None:
        super().__init__(Database("sqlite://"), "here", keep_seconds=86400, max_bytes=10**6)
        self.rows: dict[int, HistoryRow] = {}
        self.saves = 0
        self.fails: Exception | None = None
        self.hangs = False

    async def save(self, row: HistoryRow) -> None:
        self.saves += 1
        if self.hangs:
            await asyncio.sleep(3600)
        if self.fails is not None:
            raise self.fails
        self.rows[row.began_at] = row

    async def prune(self, now: int) -> None:
        return


class Recording:
    def __init__(self) -> None:
        self.clock, self.store, self.dropped = Clock(), Store(), 0
        self.recorder = HistoryRecorder(self.store, on_drop=self._drop, clock=self.clock)
        self.cache = Cache(slots=2, host=4, besides=self.recorder)
        self.recorder.watch(self.cache.controller.snapshot)

    def _drop(self, records: int) -> None:
        self.dropped += records

    def miss(self) -> None:
        self.recorder.on_event(LookedUp(A, CacheOutcome.MISS, MissCause.COLD, 0.5))

    def spans(self) -> list[RecordedSpan]:
        return [RecordedSpan(self.store.rows[began]) for began in sorted(self.store.rows)]


async def test_a_minute_is_one_row_that_grows_and_the_next_one_continues_it() -> None:
    recording = Recording()
    recording.miss()
    await recording.recorder.flush()
    recording.miss()
    await recording.recorder.flush()
    [row] = recording.store.rows.values()
    assert row.totals["misses"] == 2
    assert row.totals["longest_wait_seconds"] == 0.5
    recording.clock.now += MINUTE
    recording.miss()
    await recording.recorder.flush()
    one, other = recording.spans()
    assert one.ended == other.began


async def test_nothing_is_written_while_nothing_happens_but_that_the_server_runs() -> None:
    recording = Recording()
    for _ in range(120):  # ten minutes
        await recording.recorder.flush()
        recording.clock.now += 5
    await recording.recorder.flush()
    [row] = recording.store.rows.values()
    assert recording.store.saves <= 12
    assert row.ended_at - row.began_at >= 9 * MINUTE * 1e6


async def test_hits_without_a_wait_are_counted_only() -> None:
    recording = Recording()
    for _ in range(500):
        recording.recorder.on_event(LookedUp(A, CacheOutcome.GPU_HIT, None, 0.0))
    await recording.recorder.flush()
    [span] = recording.spans()
    assert list(span.events()) == []
    assert list(unpack_counts(recording.store.rows[span.began])) == [("a1", {"hits": 500})]


@pytest.mark.parametrize("error", [DatabaseUnavailable("away"), ValueError("unexpected")])
async def test_a_database_that_is_away_costs_the_oldest_records_and_no_memory(
    error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    recording = Recording()
    recording.store.fails = error
    for _ in range(10):
        for _ in range(MAX_RECORDS_PER_SECOND):
            recording.miss()
        with caplog.at_level(logging.WARNING):
            await recording.recorder.flush()
        recording.clock.now += MINUTE
    assert len(recording.recorder._closed) <= MAX_UNSAVED
    assert recording.dropped >= 6 * MAX_RECORDS_PER_SECOND
    assert caplog.text.count("the history of the cache can't be saved") == 1
    recording.store.fails = None
    await recording.recorder.flush()
    assert len(recording.spans()) == MAX_UNSAVED + 1
    assert recording.spans()[-1].state_at(recording.recorder._last).slots == 2


async def test_an_error_with_any_text_is_recorded() -> None:
    recording = Recording()
    recording.recorder.on_event(Refused(A, EngineUnavailable("no file \udcff")))
    await recording.recorder.flush()
    [refused] = recording.spans()[0].events()
    assert isinstance(refused.event, Refused)
    assert refused.event.error.detail.endswith("no file ?")


async def test_a_row_that_cannot_be_packed_does_not_end_the_server(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object) -> HistoryRow:
        raise TypeError("no JSON")

    recording = Recording()
    with monkeypatch.context() as patch:
        patch.setattr("engine.history.recorder.pack", fail)
        await recording.recorder.flush()
    assert "the history of the cache can't be saved: no JSON" in caplog.text
    await recording.recorder.flush()
    assert len(recording.spans()) == 1


async def test_a_database_that_hangs_holds_up_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.history.recorder.SAVE_SECONDS", 0.05)
    recording = Recording()
    recording.store.hangs = True
    flush = asyncio.create_task(recording.recorder.flush())
    recording.miss()
    async with asyncio.timeout(30):
        async with running(recording.cache):
            await recording.cache.use(B)
        await flush
    recording.store.hangs = False
    await recording.recorder.flush()
    [span] = recording.spans()
    assert [
        each.event.version.id for each in span.events() if isinstance(each.event, LookedUp)
    ] == [A.id, B.id]


async def test_what_happens_while_a_row_is_saved_is_saved_next() -> None:
    recording = Recording()
    flush = asyncio.create_task(recording.recorder.flush())
    await asyncio.sleep(0)
    recording.miss()
    await flush
    await recording.recorder.flush()
    assert sum(row.totals.get("misses", 0) for row in recording.store.rows.values()) == 1


async def test_a_thrashing_server_stays_within_the_bytes_that_the_docs_promise() -> None:
    recording, rng = Recording(), random.Random(1)
    versions = [adapter(n) for n in range(1, 2 * MAX_COUNTED)]
    for _ in range(600):  # a minute with 200 decisions a second
        for _ in range(100):
            version, other = rng.choice(versions), rng.choice(versions)
            idle = rng.random()
            event = Evicted(
                version, Tier.GPU, EvictionReason.CAPACITY, idle, other, rng.randrange(4)
            )
            recording.recorder.on_event(event)
            recording.recorder.on_event(LookedUp(other, CacheOutcome.MISS, MissCause.EVICTED, idle))
        recording.clock.now += 0.1 * 10
        if recording.clock.now >= 1_700_000_100:
            break
    recording.recorder._observe()
    size = max(len(pack().content) for pack in recording.recorder.unsaved())
    assert 1000 < size < 128 * 1024


async def test_of_too_many_adapters_only_some_are_counted_each() -> None:
    recording = Recording()
    for number in range(1, MAX_COUNTED + 100):
        recording.recorder.on_event(Refused(adapter(number), EngineUnavailable("no")))
    await recording.recorder.flush()
    [span] = recording.spans()
    row = recording.store.rows[span.began]
    assert len(list(unpack_counts(row))) == MAX_COUNTED
    assert row.totals["refused"] == MAX_COUNTED + 99


async def test_a_lost_engine_holds_nothing_until_there_is_another() -> None:
    recording = Recording()
    async with running(recording.cache):
        await recording.cache.use(A)
        await settle()
        before = recording.recorder._tick()
        recording.recorder.on_event(EngineLost(EngineUnavailable("it died")))
        lost = recording.recorder._tick()
        recording.recorder.on_event(EngineReady())
    await recording.recorder.flush()
    [span] = recording.spans()
    assert span.state_at(before).places
    assert not span.state_at(lost).places
    assert [span.state_at(at).engine_up for at in (before, lost, span.ended)] == [True, False, True]


async def test_a_clock_that_is_set_back_begins_a_new_row() -> None:
    recording = Recording()
    recording.miss()
    recording.clock.now -= 3600
    recording.miss()
    await recording.recorder.flush()
    assert [len(list(span.events())) for span in recording.spans()] == [1, 1]


async def test_nothing_is_there_since_a_later_time_after_a_clock_was_set_back() -> None:
    recording = Recording()
    async with running(recording.cache):
        await recording.cache.use(A)
        await settle()
        recording.clock.now -= 3600
        recording.miss()
        [place] = recording.recorder.places.values()
        [*_, pack] = recording.recorder.unsaved()
    span = RecordedSpan(pack())
    assert span.state_at(span.began).places[place.version.id].slot_since == span.began


async def test_what_is_left_is_saved_at_the_end() -> None:
    recording = Recording()
    run: asyncio.Task[Any] = asyncio.create_task(recording.recorder.run())
    await asyncio.sleep(0.01)
    recording.miss()
    run.cancel()
    with pytest.raises(asyncio.CancelledError):
        await run
    assert len(recording.spans()) == 1
