"""Gauges of rates: how much of its limits per minute each tenant has used, as of the scrape."""

from collections.abc import Callable, Iterable, Iterator
from heapq import nlargest

from prometheus_client import REGISTRY, CollectorRegistry
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from registry.auth.rate_limits import RateLimits
from registry.rates.caller_rates import LIMIT_OF, UNITS, Subject
from registry.rates.windows import RateWindows

_NAME = "adaptry_tenant_rate_used_ratio"
_TEXT = "What a tenant used of a limit in the last minute, as this server knows it."


class RateGauges(Collector):
    """Of the `most` limits of which the largest part is used. `rates`: tenants with limits."""

    def __init__(
        self,
        windows: RateWindows,
        rates: Callable[[], Iterable[tuple[str, RateLimits]]],
        most: int,
        registry: CollectorRegistry = REGISTRY,
    ) -> None:
        self._windows = windows
        self._rates = rates
        self._most = most
        self._registry = registry
        registry.register(self)

    def close(self) -> None:
        self._registry.unregister(self)

    def collect(self) -> Iterable[Metric]:
        family = GaugeMetricFamily(_NAME, _TEXT, labels=["tenant", "limit"])
        for ratio, tenant, limit in nlargest(self._most, self._ratios()):
            family.add_metric([tenant, limit], ratio)
        yield family

    def _ratios(self) -> Iterator[tuple[float, str, str]]:
        for tenant, limits in self._rates():
            subject = Subject.of_tenant(tenant, limits)
            for unit in UNITS:
                if most := subject.most(unit):
                    used = self._windows.known_used(subject.key(unit), most)
                    yield used / most, tenant, LIMIT_OF[unit].value
