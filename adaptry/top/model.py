"""Model of `adaptry cache top`: the cache now, and counts over the last minute's decisions."""

from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from adaptry.client.models import CacheRead, DecisionRead, ResidentRead

WINDOW = timedelta(seconds=60)
MAX_DECISIONS = 10_000
COUNTED = {"evicted": "evictions", "refused": "refusals", "drained": "drains"}


@dataclass(slots=True)
class Recent:
    """The decisions of the last minute."""

    decisions: deque[DecisionRead] = field(default_factory=lambda: deque(maxlen=MAX_DECISIONS))

    def add(self, found: Iterable[DecisionRead], now: datetime) -> None:
        self.decisions.extend(found)
        while self.decisions and self.decisions[0].at < now - WINDOW:
            self.decisions.popleft()

    def lookups(self) -> Counter[str]:
        """By outcome: gpu_hit, host_hit, miss."""
        return Counter(each.outcome for each in self.decisions if each.outcome)

    def lookups_of(self, reference: str) -> Counter[str]:
        own = (each for each in self.decisions if each.reference == reference)
        return Counter(each.outcome for each in own if each.outcome)

    def counted(self) -> Counter[str]:
        """Loads from disk, evictions by tier, and other decisions that delay requests."""
        counts: Counter[str] = Counter()
        for each in self.decisions:
            if each.kind == "moved_in" and each.tier == "host":
                counts["loads"] += 1
            elif each.kind == "evicted":
                counts[f"{each.tier} evictions"] += 1
            elif each.kind in COUNTED:
                counts[COUNTED[each.kind]] += 1
        return counts

    def load_seconds(self) -> float | None:
        """The mean of the loads from disk."""
        loads = [
            each.seconds
            for each in self.decisions
            if each.kind == "moved_in" and each.tier == "host" and each.seconds is not None
        ]
        return sum(loads) / len(loads) if loads else None


@dataclass(frozen=True, slots=True)
class Row:
    """One version. `resident` is None on disk; `lookups` are those within the window."""

    tier: str
    reference: str
    resident: ResidentRead | None
    lookups: Counter[str]


@dataclass(frozen=True, slots=True)
class Sample:
    """One sample of the cache. `hit_ratio` None: there was no lookup within the window."""

    cache: CacheRead
    lookups: Counter[str]
    counted: Counter[str]
    load_seconds: float | None
    by_reference: dict[str, Counter[str]]

    @property
    def hit_ratio(self) -> float | None:
        """The share of lookups that found their adapter in a GPU slot."""
        total = self.lookups.total()
        return self.lookups["gpu_hit"] / total if total else None

    def rows(self) -> list[Row]:
        """Adapters in slots by slot; then those only in host memory, last used first; then those
        on disk that were requested within the window."""
        in_slots = {each.reference for each in self.cache.gpu}
        gpu = sorted(self.cache.gpu, key=lambda each: (each.slot is None, each.slot))
        host = [each for each in self.cache.host if each.reference not in in_slots]
        host.sort(key=lambda each: each.idle_seconds)
        rows = [
            *(self._row("gpu", each.reference, each) for each in gpu),
            *(self._row("host", each.reference, each) for each in host),
        ]
        resident = {each.reference for each in self.cache.host} | in_slots
        on_disk = [name for name in self.by_reference if name not in resident]
        on_disk.sort(key=lambda name: -self.by_reference[name].total())
        return [*rows, *(self._row("disk", name, None) for name in on_disk)]

    def _row(self, tier: str, reference: str, resident: ResidentRead | None) -> Row:
        return Row(tier, reference, resident, self.by_reference.get(reference, Counter()))

    def as_json(self) -> dict[str, object]:
        return {
            "window_seconds": WINDOW.total_seconds(),
            "lookups": {kind: self.lookups[kind] for kind in ("gpu_hit", "host_hit", "miss")},
            "hit_ratio": self.hit_ratio,
            "load_seconds": self.load_seconds,
            "counts": dict(self.counted),
            "lookups_by_reference": {name: dict(own) for name, own in self.by_reference.items()},
            "cache": self.cache.model_dump(mode="json"),
        }


def take_sample(cache: CacheRead, recent: Recent) -> Sample:
    references = {each.reference for each in recent.decisions if each.reference and each.outcome}
    return Sample(
        cache=cache,
        lookups=recent.lookups(),
        counted=recent.counted(),
        load_seconds=recent.load_seconds(),
        by_reference={name: recent.lookups_of(name) for name in sorted(references)},
    )
