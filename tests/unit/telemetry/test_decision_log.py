"""Decision log: the cache's events, bounded, in order, and described in sentences."""

import asyncio
from typing import get_args

import pytest

from engine.api.decision_schemas import decision_read
from engine.errors import AdapterLoadFailed, EngineUnavailable, QueueFull
from engine.events import (
    KINDS,
    CacheEvent,
    DecisionKind,
    Drained,
    Drifted,
    EngineLost,
    EngineReady,
    Evicted,
    FellBack,
    LoadFailed,
    LoadStarted,
    LookedUp,
    MovedIn,
    Pinned,
    Refused,
    Unpinned,
)
from engine.telemetry.decision_log import DecisionLog, concerns
from engine.telemetry.explain import describe_event, format_duration
from engine.types import CacheOutcome, EvictionReason, MissCause, Tier, Transition, VersionId
from tests.support.cache.controller_harness import A, B, C, adapter

GPU_HIT = LookedUp(A, CacheOutcome.GPU_HIT, None, 0.0)

SENTENCES: list[tuple[CacheEvent, str]] = [
    (GPU_HIT, "hit: it was in a GPU slot"),
    (
        LookedUp(A, CacheOutcome.HOST_HIT, None, 0.0123),
        "host hit: it was in host memory and waited 12 ms for a GPU slot",
    ),
    (
        LookedUp(A, CacheOutcome.MISS, MissCause.EVICTED, 2.04),
        "miss (evicted earlier): waited 2.0 s for disk and a GPU slot",
    ),
    (
        Refused(A, QueueFull(4, 1)),
        "a request was refused: 4 requests already wait for a GPU slot",
    ),
    (LoadStarted(A, 2), "load from disk started for 2 requests"),
    (LoadStarted(A, 1), "load from disk started for 1 request"),
    (LoadStarted(A, 0), "load from disk started ahead of any request"),
    (
        MovedIn(A, Transition.DISK_TO_HOST, 0.081),
        "loaded from disk into host memory in 81 ms",
    ),
    (MovedIn(A, Transition.HOST_TO_GPU, 0.0014, 3), "copied into GPU slot 3 in 1.4 ms"),
    (MovedIn(A, Transition.HOST_TO_GPU, 0.0014), "copied into its GPU slot in 1.4 ms"),
    (FellBack(A), "loaded, but only vLLM's own, slower path can copy it into a slot"),
    (
        LoadFailed(A, Transition.DISK_TO_HOST, AdapterLoadFailed("a1:1", "cut off")),
        "load failed: adapter a1:1 could not be loaded: cut off",
    ),
    (
        Evicted(A, Tier.GPU, EvictionReason.CAPACITY, 41.0, room_for=B, slot=3),
        "evicted from GPU slot 3 for a2:1, next in the eviction order, idle 41 s",
    ),
    (
        Evicted(A, Tier.HOST, EvictionReason.REQUESTED, 600.0),
        "evicted from host memory, requested by an operator, idle 10 min",
    ),
    (
        Drained(A, B, 0),
        "takes no new requests and leaves GPU slot 0 once idle: a2:1 has waited too long",
    ),
    (Pinned(A, Tier.GPU), "pinned in a GPU slot"),
    (Unpinned(A, Tier.HOST), "unpinned, was pinned in host memory"),
    (Drifted([A.id], [A]), "the engine had it in another place than recorded; corrected"),
    (
        EngineLost(EngineUnavailable("it died")),
        "no adapter is in memory any more: the engine does not answer: it died",
    ),
    (EngineReady(), "a new engine is ready, with no adapter in memory"),
]


@pytest.mark.parametrize(("event", "text"), SENTENCES)
def test_events_are_described_in_plain_sentences(event: CacheEvent, text: str) -> None:
    assert describe_event(event) == text


def test_every_kind_of_event_has_a_sentence_and_a_name() -> None:
    assert {type(event) for event, _ in SENTENCES} == set(get_args(CacheEvent)) == set(KINDS)
    assert sorted(KINDS.values()) == sorted(get_args(DecisionKind))


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.0, "0.0 ms"), (0.25, "250 ms"), (9.94, "9.9 s"), (119, "119 s"), (3600, "60 min")],
)
def test_durations_are_rounded_for_people(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


def test_decisions_have_the_facts_of_their_sentence() -> None:
    log = DecisionLog(clock=lambda: 1_000_000.5)
    log.on_event(Evicted(A, Tier.GPU, EvictionReason.CAPACITY, 41.0, room_for=B, slot=3))
    read = decision_read(log.latest(1)[0]).model_dump(mode="json", exclude_none=True)
    assert read == {
        "id": 1_000_000_500_001,
        "at": "1970-01-12T13:46:40.500000Z",
        "kind": "evicted",
        "adapter": "a1",
        "reference": "a1:1",
        "version_id": 1,
        "tier": "gpu",
        "slot": 3,
        "reason": "capacity",
        "idle_seconds": 41.0,
        "for_reference": "a2:1",
        "count": 1,
        "sentence": "evicted from GPU slot 3 for a2:1, next in the eviction order, idle 41 s",
    }


def test_the_log_drops_the_oldest_events_and_ids_increase() -> None:
    log = DecisionLog(capacity=3)
    first = log.newest_id + 1
    for _ in range(5):
        log.on_event(LoadStarted(A, 0))
    assert [logged.id for logged in log.latest(10)] == [first + 2, first + 3, first + 4]
    assert (log.oldest_id, log.newest_id) == (first + 2, first + 4)
    assert [logged.id for logged in log.after(first + 2, 1)] == [first + 3]
    later = DecisionLog(clock=lambda: log.newest_id / 1e6 + 1)
    assert later.newest_id > log.newest_id, "a reader from before a restart is not ahead"


def test_consecutive_hits_are_one_entry_in_a_versions_own_list() -> None:
    log = DecisionLog()
    for event in (GPU_HIT, GPU_HIT, GPU_HIT, LoadStarted(A, 0), GPU_HIT):
        log.on_event(event)
    assert [(logged.event, logged.count) for logged in log.about(A.id)] == [
        (GPU_HIT, 1),
        (LoadStarted(A, 0), 1),
        (GPU_HIT, 3),
    ]
    assert describe_event(GPU_HIT, 3) == "hit: it was in a GPU slot, 3 times"
    assert len(log.latest(10)) == 5


def test_a_versions_list_has_events_of_others_that_concern_it() -> None:
    log = DecisionLog()
    drained, lost = Drained(A, B, 0), EngineLost(EngineUnavailable("it died"))
    log.on_event(drained)
    log.on_event(LoadStarted(C, 0))
    log.on_event(lost)
    assert [logged.event for logged in log.about(A.id)] == [lost, drained]
    assert [logged.event for logged in log.about(B.id)] == [lost, drained]
    assert [logged.event for logged in log.latest(9, lambda logged: concerns(logged, "a1"))] == [
        drained,
        lost,
    ]


def test_each_version_and_the_number_of_versions_are_bounded() -> None:
    log = DecisionLog(per_version=2, max_versions=3)
    for number in range(1, 6):
        for _ in range(4):
            log.on_event(LoadStarted(adapter(number), number))
    assert [len(log.about(VersionId(number))) for number in range(1, 6)] == [0, 0, 2, 2, 2]


async def test_waiting_ends_with_the_next_event() -> None:
    log = DecisionLog()
    waits = [asyncio.create_task(log.wait_for_newer(log.newest_id)) for _ in range(2)]
    await asyncio.sleep(0)
    assert not any(wait.done() for wait in waits)
    log.on_event(GPU_HIT)
    async with asyncio.timeout(30):
        await asyncio.gather(*waits)
