"""Facts that only the cache has of adapters, by which the registry's table of them is sorted."""

import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping

from engine.api.visibility import build_event_filter, filter_snapshot
from engine.cache.snapshot import CacheSnapshot
from engine.errors import EngineError
from engine.events import LookedUp
from engine.telemetry.decision_log import DecisionLog
from engine.types import CacheOutcome
from registry.auth.caller import Caller, current_caller
from registry.auth.scopes import Scope
from registry.catalog.overview_order import CacheFacts
from registry.errors import EngineAway, ScopeMissing

DECISIONS = 1000
"""Last decisions that hit ratios are of, as in the console."""

_OPERATE = frozenset({Scope.OPERATE})


class AdapterFacts:
    """Of the adapters that the caller sees: those in memory, and those that were just asked for."""

    def __init__(
        self,
        snapshots: Callable[[], Awaitable[Mapping[str, CacheSnapshot]]],
        log: DecisionLog,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._snapshots = snapshots
        self._log = log
        self._clock = clock

    async def __call__(self) -> Mapping[str, CacheFacts]:
        """Raises ScopeMissing, EngineAway."""
        caller = current_caller()
        if not caller.may(_OPERATE):
            raise ScopeMissing(sorted(_OPERATE))
        lookups, asked = self._read_log(caller)
        tiers: dict[str, int] = {}
        pinned: set[str] = set()
        for snapshot in (await self._read_snapshots()).values():
            seen = filter_snapshot(snapshot, caller)
            for tier, residents in enumerate((seen.gpu, seen.host)):
                for each in residents:
                    name = each.version.adapter
                    tiers[name] = min(tier, tiers.get(name, tier))
                    asked[name] = min(each.idle_seconds, asked.get(name, each.idle_seconds))
                    if each.pinned is not None:
                        pinned.add(name)
        return {
            name: CacheFacts(tiers.get(name), name in pinned, asked[name], _share(lookups[name]))
            for name in asked
        }

    async def _read_snapshots(self) -> Mapping[str, CacheSnapshot]:
        try:
            return await self._snapshots()
        except EngineError as error:  # the registry's routes know its own errors only
            raise EngineAway(error.detail) from error

    def _read_log(self, caller: Caller) -> tuple[Mapping[str, list[bool]], dict[str, float]]:
        """Whether each of the last lookups was a hit, and seconds since the last, by adapter."""
        hits: Mapping[str, list[bool]] = defaultdict(list)
        asked: dict[str, float] = {}
        now = self._clock()
        for logged in self._log.latest(DECISIONS, build_event_filter(caller)):
            match logged.event:
                case LookedUp(version=version, outcome=outcome):
                    hits[version.adapter].append(outcome is not CacheOutcome.MISS)
                    asked[version.adapter] = max(0.0, now - logged.seconds)
        return hits, asked


def _share(hits: list[bool]) -> float | None:
    return sum(hits) / len(hits) if hits else None
