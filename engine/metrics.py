"""Every Prometheus series of the cache. They appear on vLLM's own /metrics endpoint."""

from collections.abc import Callable, Iterable

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Histogram
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from engine.cache_events import (
    CacheEvent,
    Drifted,
    Evicted,
    FellBack,
    LoadFailed,
    LookedUp,
    MovedIn,
)
from engine.errors import AdapterLoadFailed, AdapterTooLarge, EngineError, LoadFailure
from engine.snapshot import CacheSnapshot
from engine.types import CacheOutcome, EvictionReason, MissCause, Tier, Transition

_LOAD_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_WAIT_BUCKETS = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2, 5, 10, 30, 60, 120)
REQUEST_OUTCOMES = ("completed", "refused", "failed", "cancelled")
ENGINE_ENDS = ("died", "hung")
TOO_LARGE = "too_large"
OTHER_ADAPTERS = "_other"  # no adapter can have this name


class CacheMetrics:
    """The Observer that counts. Label children exist from the start, so a series reads 0."""

    def __init__(
        self, registry: CollectorRegistry = REGISTRY, *, max_adapter_labels: int = 100
    ) -> None:
        self._registry = registry
        self._adapter_labels: set[str] = set()
        self._max_adapter_labels = max_adapter_labels
        self._requests = Counter(
            "adaptry_requests",
            "Generation requests that named an adapter, by how they ended.",
            ["adapter", "outcome"],
            registry=registry,
        )
        self._lookups = Counter(
            "adaptry_cache_lookups",
            "Engine requests that asked a tier for their adapter.",
            ["tier", "result"],
            registry=registry,
        )
        self._misses = Counter(
            "adaptry_cache_misses",
            "Engine requests whose adapter was in neither tier, by cause.",
            ["cause"],
            registry=registry,
        )
        self._evictions = Counter(
            "adaptry_cache_evictions",
            "Adapters that left a tier, by reason.",
            ["tier", "reason"],
            registry=registry,
        )
        self._load_seconds = Histogram(
            "adaptry_load_seconds",
            "Time one adapter took for one transition.",
            ["transition"],
            buckets=_LOAD_BUCKETS,
            registry=registry,
        )
        self._load_failures = Counter(
            "adaptry_load_failures",
            "Transitions that failed, by cause.",
            ["transition", "cause"],
            registry=registry,
        )
        self._fallback_loads = Counter(
            "adaptry_fallback_loads",
            "Adapters loaded that only vLLM's own, slower path can place.",
            registry=registry,
        )
        self._slot_wait = Histogram(
            "adaptry_slot_wait_seconds",
            "Time from a request's arrival until its adapter was in a slot and leased to it.",
            buckets=_WAIT_BUCKETS,
            registry=registry,
        )
        self._drift = Counter(
            "adaptry_drift",
            "Adapters that the engine held elsewhere than the controller thought.",
            registry=registry,
        )
        self._engine_ends = Counter(
            "adaptry_engine_ends",
            "Engines that died or hung, and were replaced.",
            ["cause"],
            registry=registry,
        )
        self._state: _CacheState | None = None
        self._own: tuple[Collector, ...] = (
            self._requests,
            self._lookups,
            self._misses,
            self._evictions,
            self._load_seconds,
            self._load_failures,
            self._fallback_loads,
            self._slot_wait,
            self._drift,
            self._engine_ends,
        )
        self._create_children()

    def _create_children(self) -> None:
        for tier in Tier:
            for result in ("hit", "miss"):
                self._lookups.labels(tier, result)
            for reason in set(EvictionReason) - {EvictionReason.HOST_EVICTED}:
                self._evictions.labels(tier, reason)
        self._evictions.labels(Tier.GPU, EvictionReason.HOST_EVICTED)
        for cause in MissCause:
            self._misses.labels(cause)
        for end in ENGINE_ENDS:
            self._engine_ends.labels(end)
        for transition in Transition:
            self._load_seconds.labels(transition)
        for failure in LoadFailure:
            self._load_failures.labels(Transition.DISK_TO_HOST, failure)
        self._load_failures.labels(Transition.DISK_TO_HOST, TOO_LARGE)
        self._load_failures.labels(Transition.HOST_TO_GPU, LoadFailure.ENGINE)

    def watch(
        self, snapshot: Callable[[], CacheSnapshot], in_step_loads: Callable[[], int]
    ) -> None:
        """Export the gauges, read at each scrape; calling the engine there would stall it."""
        self._state = _CacheState(snapshot, in_step_loads)
        self._registry.register(self._state)

    def close(self) -> None:
        """Take every series off the registry again, so that another server can be started."""
        for collector in (self._state, *self._own):
            if collector is not None:
                self._registry.unregister(collector)

    def request_ended(self, adapter: str, outcome: str) -> None:
        """Count one HTTP request. `outcome` is one of REQUEST_OUTCOMES."""
        self._requests.labels(self._label_for(adapter), outcome).inc()

    def engine_ended(self, cause: str) -> None:
        """Count one engine. `cause` is one of ENGINE_ENDS."""
        self._engine_ends.labels(cause).inc()

    def _label_for(self, adapter: str) -> str:
        """The first adapters asked for get their own label: thousands would drown Prometheus."""
        if adapter in self._adapter_labels:
            return adapter
        if len(self._adapter_labels) >= self._max_adapter_labels:
            return OTHER_ADAPTERS
        self._adapter_labels.add(adapter)
        for outcome in REQUEST_OUTCOMES:
            self._requests.labels(adapter, outcome)
        return adapter

    # ---- Observer ------------------------------------------------------------------------

    def saw(self, event: CacheEvent) -> None:
        match event:
            case LookedUp():
                self._looked_up(event)
            case Evicted(tier=tier, reason=reason):
                self._evictions.labels(tier, reason).inc()
            case MovedIn(transition=transition, seconds=seconds):
                self._load_seconds.labels(transition).observe(seconds)
            case FellBack():
                self._fallback_loads.inc()
            case LoadFailed(transition=transition, error=error):
                self._load_failures.labels(transition, _cause_of(error)).inc()
            case Drifted(ids=ids):
                self._drift.inc(len(ids))

    def _looked_up(self, lookup: LookedUp) -> None:
        in_slot = lookup.outcome is CacheOutcome.GPU_HIT
        self._lookups.labels(Tier.GPU, "hit" if in_slot else "miss").inc()
        if not in_slot:
            in_host = lookup.outcome is CacheOutcome.HOST_HIT
            self._lookups.labels(Tier.HOST, "hit" if in_host else "miss").inc()
        if lookup.cause is not None:
            self._misses.labels(lookup.cause).inc()
        self._slot_wait.observe(lookup.wait_seconds)


def _cause_of(error: EngineError) -> str:
    if isinstance(error, AdapterLoadFailed):
        return error.failure
    return TOO_LARGE if isinstance(error, AdapterTooLarge) else LoadFailure.ENGINE


class _CacheState(Collector):
    """Gauges made from a snapshot at scrape time, so that they can't go stale."""

    def __init__(
        self, snapshot: Callable[[], CacheSnapshot], in_step_loads: Callable[[], int]
    ) -> None:
        self._snapshot = snapshot
        self._in_step_loads = in_step_loads

    def describe(self) -> Iterable[Metric]:
        return ()  # so that registering asks for no snapshot

    def collect(self) -> Iterable[Metric]:
        now = self._snapshot()
        yield _by("adaptry_slots", "GPU slots by state.", "state", now.slots_by_state())
        resident = {Tier.GPU.value: len(now.gpu), Tier.HOST.value: len(now.host)}
        yield _by("adaptry_resident", "Adapters resident in a tier.", "tier", resident)
        pinned = {tier.value: count for tier, count in now.pinned.items()}
        yield _by("adaptry_pins", "Pinned adapters by tier.", "tier", pinned)
        yield _one(
            "adaptry_host_bytes", "What the adapters in host memory take there.", now.host_bytes
        )
        yield _one("adaptry_queue_depth", "Requests that wait for a slot.", now.waiting)
        leases = sum(resident_adapter.leases for resident_adapter in now.gpu)
        yield _one("adaptry_leases", "Requests that hold an adapter in its slot.", leases)
        yield CounterMetricFamily(
            "adaptry_in_step_loads",
            "Disk loads inside an engine step. Anything above 0 is a bug.",
            value=self._in_step_loads(),
        )


def _one(name: str, text: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, text, value=value)


def _by(name: str, text: str, label: str, values: dict[str, int]) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, text, labels=[label])
    for key, value in values.items():
        family.add_metric([key], value)
    return family
