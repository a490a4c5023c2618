"""Metrics: all Prometheus series of the engine, which docs/metrics.md lists."""

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Info
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from engine.cache.snapshot import CacheSnapshot
from engine.events import CacheEvent
from engine.telemetry.cache_counters import CacheCounters, TraceIdOf
from engine.telemetry.cache_gauges import CacheGauges, NamesOf
from engine.telemetry.request_counters import RequestCounters
from engine.telemetry.router_series import RouterSeries
from engine.telemetry.shadows import Shadows
from engine.telemetry.tenant_counters import TenantCounters
from engine.telemetry.thrash import ThrashWindow
from registry.telemetry.label_limit import LabelLimit

ENGINE_ENDS = ("died", "hung")


class CacheMetrics(Collector):
    """An observer of the cache that also counts the requests reported by the gateway.

    `labels`: which adapters have a label of their own, here and in the registry's series.
    `model_name`: the base model's, for routers.
    """

    def __init__(
        self,
        registry: CollectorRegistry = REGISTRY,
        *,
        model_name: str = "",
        max_adapter_labels: int = 100,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.labels = LabelLimit(max_adapter_labels)
        self._registry = registry
        self._reading = threading.Lock()
        registry.register(self)
        self._max_residents = max_adapter_labels
        self._cache = CacheCounters(self.labels, registry)
        self._requests = requests = RequestCounters(self.labels, registry)
        self.count_request, self.count_refusal = requests.count_request, requests.count_refusal
        self.observe_first_token = requests.observe_first_token
        self.count_tokens = requests.count_tokens
        self.count_shared_prefix = requests.count_shared_prefix
        self._router = RouterSeries(model_name)
        registry.register(self._router)
        self.tenants = TenantCounters(max_adapter_labels, registry)
        self._thrash = ThrashWindow(clock)
        self._engine_ends = Counter(
            "adaptry_engine_ends",
            "Engines that died or hung and were replaced.",
            ["cause"],
            registry=registry,
        )
        for end in ENGINE_ENDS:
            self._engine_ends.labels(end)
        self._build = Info("adaptry_build", "Versions of Adaptry and vLLM.", registry=registry)
        self._state: CacheGauges | None = None

    def watch(
        self,
        snapshot: Callable[[], CacheSnapshot],
        in_step_loads: Callable[[], int],
        names_of: NamesOf = lambda version: (),
        shadows: Shadows | None = None,
    ) -> None:
        """Export the gauges, computed at each scrape; calling the engine there would stall it."""
        self._state = CacheGauges(
            snapshot,
            in_step_loads,
            self._thrash.ratio,
            list if shadows is None else shadows.windows,
            self._max_residents,
            self._router,
            names_of,
        )
        self._registry.register(self._state)

    @contextmanager
    def freeze_gauges(self) -> Iterator[None]:
        """Scrapes in the block, in any thread, report the state at its start."""
        if self._state is None:
            yield
            return
        with self._state.freeze_gauges():
            yield

    def close(self) -> None:
        """Unregister every series, so that another server can be started."""
        collectors: list[Collector] = [
            *self._cache.collectors,
            *self._requests.collectors,
            *self.tenants.collectors,
            self._engine_ends,
            self._build,
            self._router,
            self,
        ]
        if self._state is not None:
            collectors.append(self._state)
        for collector in collectors:
            self._registry.unregister(collector)

    def set_build_info(self, version: str, vllm_version: str) -> None:
        self._build.info({"version": version, "vllm_version": vllm_version})

    def link_exemplars(self, trace_id_of: TraceIdOf) -> None:
        """Loads that a traced request waits for have its trace as their exemplar."""
        self._cache.trace_id_of = trace_id_of

    def describe(self) -> Iterable[Metric]:
        return ()  # has no series of its own

    def collect(self) -> Iterable[Metric]:
        """The first collector: those after it then have all."""
        with self._reading:
            if count := self._cache.add_slot_hits():
                self._router.add_slot_hits(count)
        return ()

    def on_event(self, event: CacheEvent) -> None:
        self._cache.on_event(event)
        self._router.on_event(event)
        self._thrash.on_event(event)

    def count_engine_end(self, cause: str) -> None:
        """Count one engine. `cause` is one of ENGINE_ENDS."""
        self._engine_ends.labels(cause).inc()
