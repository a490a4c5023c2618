"""Cache gauges: computed from one snapshot per scrape, so that they can't go stale."""

import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from itertools import islice

from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from engine.cache.snapshot import CacheSnapshot, ResidentAdapter
from engine.telemetry.router_series import RouterSeries
from engine.telemetry.shadows import Window
from engine.types import AdapterVersion, Tier, VersionId

NamesOf = Callable[[VersionId], Sequence[str]]
"""The aliases and served names that mean a version."""

_MAX_NAMES = 64  # of one version


@dataclass(frozen=True, slots=True)
class Scrape:
    """The state that one scrape reports."""

    cache: CacheSnapshot
    in_step_loads: int
    thrash_ratio: float
    windows: Sequence[Window]


_scrape: ContextVar[Scrape | None] = ContextVar("adaptry_scrape", default=None)


class CacheGauges(Collector):
    """`max_residents`: how many adapters in memory have a series of their own."""

    def __init__(
        self,
        snapshot: Callable[[], CacheSnapshot],
        in_step_loads: Callable[[], int],
        thrash_ratio: Callable[[], float],
        windows: Callable[[], Sequence[Window]],
        max_residents: int,
        router: RouterSeries,
        names_of: NamesOf,
    ) -> None:
        self._snapshot = snapshot
        self._in_step_loads = in_step_loads
        self._thrash_ratio = thrash_ratio
        self._windows = windows
        self._max_residents = max_residents
        self._router = router
        self._names_of = names_of

    @contextmanager
    def freeze_gauges(self) -> Iterator[None]:
        """In the block, and in threads that it starts, `collect` reports the state at its start.

        The cache lives on one event loop: other threads must not read it while it changes.
        """
        token = _scrape.set(self._take_scrape())
        try:
            yield
        finally:
            _scrape.reset(token)

    def _take_scrape(self) -> Scrape:
        ratio, loads = self._thrash_ratio(), self._in_step_loads()
        return Scrape(self._snapshot(), loads, ratio, self._windows())

    def describe(self) -> Iterable[Metric]:
        return ()  # so that registering takes no snapshot

    def collect(self) -> Iterable[Metric]:
        scrape = _scrape.get() or self._take_scrape()
        text = "1 while an engine serves, 0 while it is being replaced."
        yield _gauge("adaptry_engine_up", text, int(scrape.cache.engine_up))
        yield from _occupancy(scrape.cache)
        yield from _limits(scrape.cache)
        yield _loaded_adapters(scrape.cache, self._max_residents, self._names_of)
        yield _lora_requests_info(scrape.cache, self._names_of)
        yield from self._router.gauges(scrape.cache)
        yield _gauge(
            "adaptry_thrash_ratio",
            "Share of recent lookups that missed an adapter evicted less than a minute before.",
            scrape.thrash_ratio,
        )
        yield _regret(scrape.windows)
        yield CounterMetricFamily(
            "adaptry_in_step_loads",
            "Disk loads within an engine step. Must stay 0.",
            value=scrape.in_step_loads,
        )


def _regret(windows: Sequence[Window]) -> Metric:
    family = GaugeMetricFamily(
        "adaptry_regret_ratio",
        "Share of the last lookups that another policy would have hit and the live one did not.",
        labels=["tier", "policy"],
    )
    for window in windows:
        regret = window.regret()
        for policy in regret.ratios:
            family.add_metric([regret.tier.value, policy], regret.regret(policy))
    return family


def _occupancy(now: CacheSnapshot) -> Iterable[Metric]:
    yield _labelled_gauge("adaptry_slots", "GPU slots by state.", "state", now.slots_by_state())
    resident = {Tier.GPU.value: len(now.gpu), Tier.HOST.value: len(now.host)}
    yield _labelled_gauge("adaptry_resident", "Adapters resident in a tier.", "tier", resident)
    pinned = {tier.value: count for tier, count in now.pinned.items()}
    yield _labelled_gauge("adaptry_pins", "Pinned adapters by tier.", "tier", pinned)
    yield _gauge("adaptry_host_bytes", "Bytes of the adapters in host memory.", now.host_bytes)
    yield _gauge("adaptry_queue_depth", "Requests waiting for a slot.", now.waiting)
    text = "Longest current wait for a slot; 0 if no request waits."
    yield _gauge("adaptry_oldest_wait_seconds", text, now.oldest_wait_seconds)
    leases = sum(resident_adapter.leases for resident_adapter in now.gpu)
    yield _gauge("adaptry_leases", "Requests that hold an adapter in its slot.", leases)


def _limits(now: CacheSnapshot) -> Iterable[Metric]:
    yield _gauge(
        "adaptry_host_capacity", "Maximum number of adapters in host memory.", now.host_capacity
    )
    limit = math.inf if now.host_bytes_limit is None else now.host_bytes_limit
    yield _gauge(
        "adaptry_host_bytes_limit", "Limit of bytes in host memory; +Inf if there is none.", limit
    )
    budget = {Tier.GPU.value: now.slots - 1, Tier.HOST.value: now.host_capacity - 1}
    text = "How many adapters may be pinned: in slots, and in total."
    yield _labelled_gauge("adaptry_pin_budget", text, "tier", budget)


def _loaded_adapters(now: CacheSnapshot, most: int, names_of: NamesOf) -> Metric:
    """Adapters in slots first, then pinned ones, then the most recently used.

    Each by its reference and by all names that mean it. A name that means two versions is there
    once, for the one in the higher level.
    """
    in_slots = {resident.version.id for resident in now.gpu}
    host_only = [r for r in reversed(now.host) if r.version.id not in in_slots]
    host_only.sort(key=lambda resident: resident.pinned is None)
    levels = [("gpu", r) for r in reversed(now.gpu)] + [("cpu", r) for r in host_only]
    family = GaugeMetricFamily(
        "vllm:lora_adapter_loaded",
        "1 for each adapter in memory, at its highest level, by each of its names.",
        labels=["adapter_name", "level", "pinned", "rank"],
    )
    seen: set[str] = set()
    for level, resident in islice(levels, most):
        for name in _names(resident.version, names_of):
            if name not in seen:
                seen.add(name)
                family.add_metric([name, level, *_facts(resident)], 1)
    return family


def _lora_requests_info(now: CacheSnapshot, names_of: NamesOf) -> Metric:
    """One series, as llm-d's router reads vLLM's: of several it would use the latest.

    Routers look for the `model` of a request among the names, so all that mean a version are there.
    """
    family = GaugeMetricFamily(
        "vllm:lora_requests_info",
        "Time of the scrape; adapters in a slot, and adapters that requests wait for.",
        labels=["max_lora", "running_lora_adapters", "waiting_lora_adapters"],
    )
    in_slots = [resident.version for resident in now.gpu]
    awaited = [each.version for each in now.host if each.waiting] + list(now.loading)
    known = {version.id for version in in_slots}
    waiting = sorted((v for v in awaited if v.id not in known), key=lambda v: v.reference)
    shown = (_join_names(versions, names_of) for versions in (in_slots, waiting))
    family.add_metric([str(now.slots), *shown], time.time())
    return family


def _join_names(versions: Iterable[AdapterVersion], names_of: NamesOf) -> str:
    """A name with a comma would be read as two."""
    names = (name for version in versions for name in _names(version, names_of) if "," not in name)
    return ",".join(dict.fromkeys(names))


def _names(version: AdapterVersion, names_of: NamesOf) -> Iterable[str]:
    return version.reference, *islice(names_of(version.id), _MAX_NAMES)


def _facts(resident: ResidentAdapter) -> tuple[str, str]:
    return "false" if resident.pinned is None else "true", str(resident.version.rank)


def _gauge(name: str, text: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, text, value=value)


def _labelled_gauge(name: str, text: str, label: str, values: dict[str, int]) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, text, labels=[label])
    for key, value in values.items():
        family.add_metric([key], value)
    return family
