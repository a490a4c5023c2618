"""What a caller is shown of the cache: its own adapters and those that it was granted.

What is counted over all (slots by state, bytes, requests that wait) names nobody, and stays.
"""

from collections.abc import Awaitable, Callable
from dataclasses import replace

from engine.cache.snapshot import CacheSnapshot
from engine.events import Drained, Evicted
from engine.telemetry.decision_log import EventFilter, LoggedEvent, concerns
from registry.auth.caller import Caller
from registry.references import check_name, parse_reference


def check_ownership(caller: Caller, reference: str) -> None:
    """Before its adapter is steered. Raises InvalidReference, UnknownAdapter, NotOwner."""
    caller.check_owns(parse_reference(reference).adapter)


def filter_snapshot(snapshot: CacheSnapshot, caller: Caller) -> CacheSnapshot:
    """Who is where, of those that the caller sees."""
    if caller.is_platform:
        return snapshot
    return replace(
        snapshot,
        gpu=tuple(r for r in snapshot.gpu if caller.sees(r.version.adapter)),
        host=tuple(r for r in snapshot.host if caller.sees(r.version.adapter)),
        loading=tuple(v for v in snapshot.loading if caller.sees(v.adapter)),
    )


def count_hidden(snapshot: CacheSnapshot, seen: CacheSnapshot) -> dict[str, int]:
    """How many more are in each tier: who is none of the caller's takes places all the same."""
    return {"gpu": len(snapshot.gpu) - len(seen.gpu), "host": len(snapshot.host) - len(seen.host)}


def build_event_filter(caller: Caller, adapter: str | None = None) -> EventFilter | None:
    """Of all adapters or of one; None: all of them. Raises InvalidReference, UnknownAdapter."""
    if adapter is not None:
        caller.check_sees(check_name(adapter))
        return lambda logged: concerns(logged, adapter)
    return None if caller.is_platform else lambda logged: _sees(caller, logged)


def filter_events(events: list[LoggedEvent], caller: Caller) -> list[LoggedEvent]:
    """Those that the caller sees, none of which names an adapter that it doesn't see."""
    if caller.is_platform:
        return events
    return [_without_others(logged, caller) for logged in events if _sees(caller, logged)]


def _sees(caller: Caller, logged: LoggedEvent) -> bool:
    version = logged.version
    return version is None or caller.sees(version.adapter)


def _without_others(logged: LoggedEvent, caller: Caller) -> LoggedEvent:
    match logged.event:
        case Evicted(room_for=room_for) | Drained(room_for=room_for) if room_for is not None:
            if not caller.sees(room_for.adapter):
                return replace(logged, event=replace(logged.event, room_for=None))
    return logged


Current = Callable[[Caller], Awaitable[Caller]]
"""The same caller with what it is granted now."""


async def keep_caller(caller: Caller) -> Caller:
    """Where grants don't change."""
    return caller


class StreamReader:
    """Whoever follows decisions, of all adapters or of one: longer than a grant may last."""

    def __init__(self, caller: Caller, adapter: str | None, current: Current) -> None:
        """Raises InvalidReference, UnknownAdapter."""
        self.caller = caller
        self.wanted = build_event_filter(caller, adapter)
        self._adapter = adapter
        self._current = current

    async def refresh(self) -> None:
        """Raises UnknownAdapter if it may not see the one that it follows any more."""
        self.caller = await self._current(self.caller)
        self.wanted = build_event_filter(self.caller, self._adapter)
