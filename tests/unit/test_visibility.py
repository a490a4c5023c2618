"""What a tenant is shown of decisions about others: nothing, and no name in its own."""

from engine.cache_events import Drained, EngineReady, Evicted, LookedUp
from engine.decision_log import DecisionLog
from engine.decision_schemas import decision_read
from engine.types import AdapterVersion, CacheOutcome, EvictionReason, Tier, VersionId
from engine.visibility import shown, shown_events
from registry.keys.caller import ANYBODY, Caller
from registry.keys.scopes import EVERY_SCOPE


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
        log.saw(event)
    return log


def test_a_tenant_is_told_of_its_own_adapters_and_of_no_other_name() -> None:
    log = _log()
    wanted = shown_events(ACME)
    found = shown(log.latest(99, wanted), ACME)
    assert [type(logged.event) for logged in found] == [Evicted, Drained, EngineReady]
    for logged in found + shown(log.about(OWN.id), ACME):
        assert "zebra" not in decision_read(logged).model_dump_json()
    assert decision_read(found[1]).sentence.endswith("another one has waited too long")


def test_whom_it_is_granted_it_is_told_of() -> None:
    granted = Caller("acme~boss", EVERY_SCOPE, frozenset({"other~zebra"}))
    log = _log()
    assert shown(log.latest(99, shown_events(granted)), granted) == log.latest(99)


def test_the_platform_is_told_everything() -> None:
    log = _log()
    assert shown_events(ANYBODY) is None
    assert shown(log.latest(99), ANYBODY) == log.latest(99)
