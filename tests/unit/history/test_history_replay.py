"""History of a cache: the replay of what was recorded is what the controller held at that time."""

import asyncio
import random
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.errors import EngineError, EngineUnavailable
from engine.history.places import Place
from engine.history.recorder import HistoryRecorder
from engine.history.replay import PastState, RecordedSpan
from engine.types import Tier, VersionId
from registry.cache_history import CacheHistoryStore
from registry.database.engine import Database
from tests.support.cache.controller_harness import Cache, adapter, running, settle

VERSIONS = [adapter(n) for n in range(1, 8)]
Held = tuple[dict[VersionId, int | None], set[VersionId], dict[VersionId, Tier]]


class Clock:
    """Seconds since 1970, which pass when the test says so."""

    def __init__(self) -> None:
        self.now = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now


def recorded(clock: Callable[[], float]) -> tuple[Cache, HistoryRecorder]:
    store = CacheHistoryStore(Database("sqlite://"), "here", keep_seconds=3600, max_bytes=10**6)
    recorder = HistoryRecorder(store, clock=clock)
    cache = Cache(slots=2, host=4, besides=recorder)
    recorder.watch(cache.controller.snapshot)
    return cache, recorder


def held(cache: Cache) -> Held:
    now = cache.controller.snapshot()
    pinned = {each.version.id: each.pinned for each in now.host if each.pinned is not None}
    slots = {each.version.id: each.slot for each in now.gpu}
    return slots, {each.version.id for each in now.host}, pinned


def replayed(state: PastState) -> Held:
    places = state.places
    in_host = {id_: each for id_, each in places.items() if each.host_since is not None}
    return (
        {id_: each.slot for id_, each in places.items() if each.slot_since is not None},
        set(in_host),
        {id_: each.pinned for id_, each in in_host.items() if each.pinned is not None},
    )


async def act(cache: Cache, action: str, number: int) -> None:
    version = VERSIONS[number]
    try:
        match action:
            case "use":
                await cache.use(version)
            case "use many":
                await asyncio.gather(*(cache.use(each) for each in VERSIONS[number:]))
            case "use and leave":
                task = asyncio.create_task(cache.use(version))
                for _ in range(number):
                    await asyncio.sleep(0)
                task.cancel()
            case "pin":
                await cache.controller.pin(version, Tier.GPU if number % 2 else Tier.HOST)
            case "unpin":
                cache.controller.unpin(version.id)
            case "evict":
                await cache.controller.evict(version)
            case "prefetch":
                cache.controller.prefetch(version)
            case "lose engine":
                cache.backend.gpu.clear()
                cache.backend.host.clear()
                await cache.controller.on_engine_lost(EngineUnavailable("lost on purpose"))
                cache.controller.on_engine_ready()
    except EngineError:
        pass


ACTIONS = ("use", "use many", "use and leave", "pin", "unpin", "evict", "prefetch", "lose engine")
STEPS = st.lists(
    st.tuples(st.sampled_from(ACTIONS), st.integers(0, 6), st.floats(0, 40)), max_size=25
)


@settings(max_examples=50)
@given(STEPS)
def test_the_replay_at_every_moment_is_what_the_cache_held_then(
    steps: list[tuple[str, int, float]],
) -> None:
    async def run() -> None:
        clock = Clock()
        cache, recorder = recorded(clock)
        truth: list[tuple[int, Held]] = []
        spans: list[RecordedSpan] = []
        async with running(cache):
            for action, number, seconds in steps:
                clock.now += seconds
                await asyncio.wait_for(act(cache, action, number), 10)
                await settle()
                assert replayed_places(recorder) == held(cache), "no event is missing"
                recorder._observe()
                spans += [RecordedSpan(pack()) for pack in recorder.unsaved()[:-1]]
                recorder._closed.clear()
                truth.append((recorder._tick(), held(cache)))
            spans += [RecordedSpan(pack()) for pack in recorder.unsaved()]
        for at, was in truth:
            [span] = [each for each in spans if each.began <= at <= each.ended]
            assert replayed(span.state_at(at)) == was

    asyncio.run(run())


def replayed_places(recorder: HistoryRecorder) -> Held:
    return replayed(PastState(0, 0, 0, None, True, recorder.places, {}))


async def test_an_eviction_that_is_decided_before_its_entry_is_reported_leaves_nothing() -> None:
    cache, recorder = recorded(Clock())
    cache.backend.round_trip = asyncio.Event()
    async with running(cache):
        users = [asyncio.create_task(cache.use(each)) for each in VERSIONS[:5]]
        await settle()
        cache.backend.round_trip.set()
        await asyncio.gather(*users)
        await settle()
        assert replayed_places(recorder) == held(cache)
        assert not any(each.slot_owed or each.host_owed for each in recorder.places.values())


@pytest.mark.parametrize("seed", range(3))
async def test_beyond_the_most_records_of_a_second_the_state_stays_exact(seed: int) -> None:
    clock, rng = Clock(), random.Random(seed)
    cache, recorder = recorded(clock)
    async with running(cache):
        for _ in range(100):  # some hundred decisions in one second
            await act(cache, "use", rng.randrange(7))
        await settle()
        within = recorder._last
        clock.now += 1
        await act(cache, "use", 0)
        await settle()
        [pack] = recorder.unsaved()
        span = RecordedSpan(pack())
        assert replayed(span.state_at(span.ended)) == held(cache)
        [more] = span.more()
        events = list(span.events())
        assert len([each for each in events if each.id <= within]) == 20
        assert more.count > 100
        assert not span.state_at(more.since).is_exact
        assert span.state_at(more.at).is_exact
        assert span.state_at(events[0].id).is_exact


async def test_what_was_not_recorded_singly_is_told_as_it_was_before_the_next_event() -> None:
    clock = Clock()
    cache, recorder = recorded(clock)
    async with running(cache):
        for version in (VERSIONS[n % 7] for n in range(30)):  # the last few are not recorded singly
            await cache.use(version)
        await settle()
        busy, was = recorder._tick(), held(cache)
        last = next(each for each in VERSIONS if each.id in was[0])
        for _ in range(2):
            clock.now += 3
            await cache.controller.evict(last)
            await settle()
        clock.now += 3
        await cache.use(last)
        await settle()
        [pack] = recorder.unsaved()
        span = RecordedSpan(pack())
        assert replayed(span.state_at(busy + 2_000_000)) == was
        assert replayed(span.state_at(span.ended)) == held(cache)


async def test_what_no_event_tells_of_is_corrected_at_the_second_look() -> None:
    cache, recorder = recorded(Clock())
    async with running(cache):
        await cache.use(VERSIONS[0])
        await settle()
        recorder.places.put(Place(VERSIONS[1], host_since=1, slot_since=1, slot=0))
        recorder.places.put(Place(VERSIONS[0]))
        recorder._observe()
        assert replayed_places(recorder) != held(cache), "it might be a move in flight"
        recorder._observe()
        assert replayed_places(recorder) == held(cache)
        [pack] = recorder.unsaved()
        assert replayed(RecordedSpan(pack()).state_at(recorder._last)) == held(cache)
