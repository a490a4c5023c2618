"""Visibility: a caller sees its own adapters in the cache, and those granted to it.

Totals over all adapters (slots by state, bytes, waiting requests) name none, and are not filtered.
"""

from collections.abc import Awaitable, Callable
from dataclasses import replace

from msgspec import structs

from engine.cache.snapshot import CacheSnapshot
from engine.events import Drained, Evicted
from engine.telemetry.decision_log import EventFilter, LoggedEvent, concerns
from registry.auth.caller import Caller
from registry.references import check_name, parse_reference


def check_ownership(caller: Caller, reference: str) -> None:
    """Checked before any operation on it. Raises InvalidReference, UnknownAdapter, NotOwner."""
    caller.check_owns(parse_reference(reference).adapter)


def filter_snapshot(snapshot: CacheSnapshot, caller: Caller) -> CacheSnapshot:
    """Only the adapters that the caller may see."""
    if caller.is_platform:
        return snapshot
    return replace(
        snapshot,
        gpu=tuple(r for r in snapshot.gpu if caller.sees(r.version.adapter)),
        host=tuple(r for r in snapshot.host if caller.sees(r.version.adapter)),
        loading=tuple(v for v in snapshot.loading if caller.sees(v.adapter)),
    )


def count_hidden(snapshot: CacheSnapshot, seen: CacheSnapshot) -> dict[str, int]:
    """Count of hidden adapters in each tier: other tenants' adapters take places too."""
    return {"gpu": len(snapshot.gpu) - len(seen.gpu), "host": len(snapshot.host) - len(seen.host)}


def build_event_filter(caller: Caller, adapter: str | None = None) -> EventFilter | None:
    """For all adapters or one; None accepts all. Raises InvalidReference, UnknownAdapter."""
    if adapter is not None:
        caller.check_sees(check_name(adapter))
        return lambda logged: concerns(logged, adapter)
    return None if caller.is_platform else lambda logged: _sees(caller, logged)


def filter_events(events: list[LoggedEvent], caller: Caller) -> list[LoggedEvent]:
    """Only the events that the caller may see, without the names of hidden adapters."""
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
                event = replace(logged.event, room_for=None)
                return structs.replace(logged, event=event)
    return logged


Current = Callable[[Caller], Awaitable[Caller]]
"""Returns the caller with its current grants."""


async def keep_caller(caller: Caller) -> Caller:
    """For servers whose grants don't change."""
    return caller


class StreamReader:
    """A client of the decision stream, which may outlast its grants."""

    def __init__(self, caller: Caller, adapter: str | None, current: Current) -> None:
        """Raises InvalidReference, UnknownAdapter."""
        self.caller = caller
        self.wanted = build_event_filter(caller, adapter)
        self._adapter = adapter
        self._current = current

    async def refresh(self) -> None:
        """Reload the grants. Raises UnknownAdapter if the adapter is no longer visible."""
        self.caller = await self._current(self.caller)
        self.wanted = build_event_filter(self.caller, self._adapter)
