"""Cache counters: Prometheus counters and histograms, fed by the cache's events."""

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.registry import Collector

from engine.errors import AdapterLoadFailed, AdapterTooLarge, EngineError
from engine.events import (
    KINDS,
    CacheEvent,
    Drained,
    Drifted,
    Evicted,
    FellBack,
    LoadFailed,
    LookedUp,
    MovedIn,
)
from engine.telemetry.unread_counts import UnreadCounts
from engine.types import (
    CacheOutcome,
    EvictionReason,
    LoadFailure,
    MissCause,
    Tier,
    Transition,
    VersionId,
)
from registry.telemetry.label_children import LabelChildren
from registry.telemetry.label_limit import OTHER_ADAPTERS, LabelLimit

_LOAD_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_WAIT_BUCKETS = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2, 5, 10, 30, 60, 120)
TOO_LARGE = "too_large"
_SLOT_HIT = CacheOutcome.GPU_HIT

TraceIdOf = Callable[[VersionId, Transition], str | None]
"""Trace id of a request that waits for this transition of the version, if it is traced."""


def _no_trace(version: VersionId, transition: Transition) -> str | None:
    return None


class CacheCounters:
    """An observer. Label children exist from the start, so that every series reads 0.

    Who reads the series has to call `add_slot_hits` first.
    """

    def __init__(self, labels: LabelLimit, registry: CollectorRegistry) -> None:
        self.trace_id_of: TraceIdOf = _no_trace
        self._labels = labels
        self._registry = registry
        self._lookups = self._counter(
            "adaptry_cache_lookups",
            "Lookups of a tier by requests.",
            *("tier", "result"),
        )
        self._misses = self._counter(
            "adaptry_cache_misses",
            "Requests whose adapter was in neither tier, by cause.",
            "cause",
        )
        self._evictions = self._counter(
            "adaptry_cache_evictions", "Evictions from a tier, by reason.", "tier", "reason"
        )
        self._adapter_lookups = self._counter(
            "adaptry_adapter_lookups",
            "Lookups of one adapter, by where it was found.",
            *("adapter", "result"),
        )
        self._adapter_evictions = self._counter(
            "adaptry_adapter_evictions", "Evictions of one adapter from a tier.", "adapter", "tier"
        )
        self._load_seconds = self._histogram(
            "adaptry_load_seconds",
            "Time of one load from disk, or of one copy into a slot.",
            _LOAD_BUCKETS,
            "transition",
        )
        self._load_failures = self._counter(
            "adaptry_load_failures",
            "Loads and copies that failed, by cause.",
            "transition",
            "cause",
        )
        self._fallback_loads = self._counter(
            "adaptry_fallback_loads",
            "Loads of adapters that only vLLM's own, slower path can copy into a slot.",
        )
        self._slot_wait = self._histogram(
            "adaptry_slot_wait_seconds",
            "Time from a request's arrival until its adapter was in a slot and leased to it.",
            _WAIT_BUCKETS,
        )
        self._drains = self._counter(
            "adaptry_drains", "Hot adapters that drained for one that had waited too long."
        )
        self._drift = self._counter(
            "adaptry_drift",
            "Adapters that the engine had in another place than the controller recorded.",
        )
        self._decisions = self._counter("adaptry_decisions", "Cache events, by kind.", "kind")
        self._slot_hits = UnreadCounts()
        self._lookups_of = LabelChildren(self._lookups)
        self._adapter_lookups_of = LabelChildren(self._adapter_lookups)
        self._decisions_of = LabelChildren(self._decisions)
        self._create_children()
        labels.on_new.append(self._add_adapter)
        self._add_adapter(OTHER_ADAPTERS)

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(name, text, labels, registry=self._registry)

    def _histogram(
        self, name: str, text: str, buckets: tuple[float, ...], *labels: str
    ) -> Histogram:
        return Histogram(name, text, labels, buckets=buckets, registry=self._registry)

    @property
    def collectors(self) -> tuple[Collector, ...]:
        return (
            self._lookups,
            self._misses,
            self._evictions,
            self._adapter_lookups,
            self._adapter_evictions,
            self._load_seconds,
            self._load_failures,
            self._fallback_loads,
            self._slot_wait,
            self._drains,
            self._drift,
            self._decisions,
        )

    def _create_children(self) -> None:
        for tier in Tier:
            for result in ("hit", "miss"):
                self._lookups_of.of(tier, result)
            for reason in set(EvictionReason) - {EvictionReason.HOST_EVICTED}:
                self._evictions.labels(tier, reason)
        self._evictions.labels(Tier.GPU, EvictionReason.HOST_EVICTED)
        for cause in MissCause:
            self._misses.labels(cause)
        for transition in Transition:
            self._load_seconds.labels(transition)
        for failure in LoadFailure:
            self._load_failures.labels(Transition.DISK_TO_HOST, failure)
        self._load_failures.labels(Transition.DISK_TO_HOST, TOO_LARGE)
        self._load_failures.labels(Transition.HOST_TO_GPU, LoadFailure.ENGINE)
        for kind in KINDS.values():
            self._decisions_of.of(kind)

    def _add_adapter(self, adapter: str) -> None:
        for outcome in CacheOutcome:
            self._adapter_lookups_of.of(adapter, outcome)
        for tier in Tier:
            self._adapter_evictions.labels(adapter, tier)

    # ---- Observer ------------------------------------------------------------------------

    def on_event(self, event: CacheEvent) -> None:
        if isinstance(event, LookedUp) and event.outcome is _SLOT_HIT and not event.wait_seconds:
            self._slot_hits.add(self._labels.of(event.version.adapter))
            return
        self._decisions_of.of(KINDS[type(event)]).inc()
        match event:
            case LookedUp():
                self._count_lookup(event)
            case Evicted(version=version, tier=tier, reason=reason):
                self._evictions.labels(tier, reason).inc()
                self._adapter_evictions.labels(self._labels.of(version.adapter), tier).inc()
            case MovedIn():
                self._observe_load(event)
            case FellBack():
                self._fallback_loads.inc()
            case LoadFailed(transition=transition, error=error):
                self._load_failures.labels(transition, _failure_cause(error)).inc()
            case Drained():
                self._drains.inc()
            case Drifted(ids=ids):
                self._drift.inc(len(ids))

    def add_slot_hits(self) -> int:
        """Add those that were only counted so far to their series; returns how many."""
        hits = self._slot_hits.take()
        for adapter, count in hits.items():
            self._adapter_lookups_of.of(adapter, _SLOT_HIT).inc(count)
        if total := sum(hits.values()):
            self._slot_wait._buckets[0].inc(total)  # as so many times `observe(0.0)`
            self._decisions_of.of(KINDS[LookedUp]).inc(total)
            self._lookups_of.of(Tier.GPU, "hit").inc(total)
        return total

    def _count_lookup(self, lookup: LookedUp) -> None:
        in_slot = lookup.outcome is CacheOutcome.GPU_HIT
        self._lookups_of.of(Tier.GPU, "hit" if in_slot else "miss").inc()
        if not in_slot:
            in_host = lookup.outcome is CacheOutcome.HOST_HIT
            self._lookups_of.of(Tier.HOST, "hit" if in_host else "miss").inc()
        if lookup.cause is not None:
            self._misses.labels(lookup.cause).inc()
        self._adapter_lookups_of.of(self._labels.of(lookup.version.adapter), lookup.outcome).inc()
        self._slot_wait.observe(lookup.wait_seconds)

    def _observe_load(self, moved: MovedIn) -> None:
        trace_id = self.trace_id_of(moved.version.id, moved.transition)
        exemplar = None if trace_id is None else {"trace_id": trace_id}
        self._load_seconds.labels(moved.transition).observe(moved.seconds, exemplar)


def _failure_cause(error: EngineError) -> str:
    if isinstance(error, AdapterLoadFailed):
        return error.failure
    return TOO_LARGE if isinstance(error, AdapterTooLarge) else LoadFailure.ENGINE
