"""Visibility: of other tenants in the cache a tenant sees their number, and no name."""

import pytest

from engine.api.decision_schemas import decision_read
from engine.api.visibility import (
    build_event_filter,
    check_ownership,
    count_hidden,
    filter_events,
    filter_snapshot,
)
from engine.cache.snapshot import CacheSnapshot, ResidentAdapter
from engine.events import Drained, EngineReady, Evicted, LookedUp
from engine.telemetry.decision_log import DecisionLog
from engine.types import AdapterVersion, CacheOutcome, EvictionReason, Tier, VersionId
from registry.auth.caller import ANONYMOUS, Caller
from registry.auth.scopes import EVERY_SCOPE
from registry.errors import NotOwner, UnknownAdapter


def _version(number: int, adapter: str) -> AdapterVersion:
    return AdapterVersion(
        id=VersionId(number),
        adapter=adapter,
        number=1,
        digest="0" * 64,
        path="/nowhere",
        rank=4,
        size_bytes=1,
    )


OWN, OTHER = _version(1, "acme~own"), _version(2, "other~zebra")
ACME = Caller("acme~boss", EVERY_SCOPE)


def _log() -> DecisionLog:
    log = DecisionLog()
    for event in (
        LookedUp(OTHER, CacheOutcome.MISS, None, 0.1),
        Evicted(OWN, Tier.GPU, EvictionReason.CAPACITY, 1.0, room_for=OTHER, slot=0),
        Drained(OWN, OTHER, 1),
        Drained(OTHER, OWN, 2),
        EngineReady(),
    ):
        log.on_event(event)
    return log


def test_a_tenant_sees_its_own_adapters_and_no_other_name() -> None:
    log = _log()
    wanted = build_event_filter(ACME)
    found = filter_events(log.latest(99, wanted), ACME)
    assert [type(logged.event) for logged in found] == [Evicted, Drained, EngineReady]
    for logged in found + filter_events(log.about(OWN.id), ACME):
        assert "zebra" not in decision_read(logged).model_dump_json()
    assert decision_read(found[1]).sentence.endswith("another adapter has waited too long")


def test_a_tenant_sees_the_adapters_it_is_granted() -> None:
    granted = Caller("acme~boss", EVERY_SCOPE, frozenset({"other~zebra"}))
    log = _log()
    assert filter_events(log.latest(99, build_event_filter(granted)), granted) == log.latest(99)


def test_the_platform_sees_everything() -> None:
    log = _log()
    assert build_event_filter(ANONYMOUS) is None
    assert filter_events(log.latest(99), ANONYMOUS) == log.latest(99)


def test_a_grant_to_use_an_adapter_is_none_to_move_it() -> None:
    granted = Caller("acme~boss", EVERY_SCOPE, frozenset({"other~zebra"}))
    check_ownership(granted, "acme~own:1")
    check_ownership(ANONYMOUS, "other~zebra")
    for reference in ("other~zebra", "other~zebra:1", "other~zebra@default"):
        with pytest.raises(NotOwner):
            check_ownership(granted, reference)
    with pytest.raises(UnknownAdapter):
        check_ownership(ACME, "other~zebra:1")


def _resident(version: AdapterVersion, slot: int | None = None) -> ResidentAdapter:
    return ResidentAdapter(
        version=version,
        host_bytes=8,
        leases=0,
        waiting=0,
        pinned=None,
        hits=1,
        slot=slot,
        idle_seconds=1.0,
        leaving=False,
    )


def test_of_others_in_the_tiers_only_their_number_is_shown() -> None:
    third = _version(3, "other~quagga")
    snapshot = CacheSnapshot(
        slots=2,
        host_capacity=4,
        host_bytes_limit=None,
        gpu=(_resident(OTHER, 0), _resident(OWN, 1)),
        host=(_resident(OTHER), _resident(third), _resident(OWN)),
        loading=(third,),
        waiting=1,
        pinned=dict.fromkeys(Tier, 0),
    )
    seen = filter_snapshot(snapshot, ACME)
    assert [resident.version for resident in seen.gpu + seen.host] == [OWN, OWN]
    assert seen.loading == ()
    assert count_hidden(snapshot, seen) == {"gpu": 1, "host": 2}
    assert count_hidden(snapshot, filter_snapshot(snapshot, ANONYMOUS)) == {"gpu": 0, "host": 0}
