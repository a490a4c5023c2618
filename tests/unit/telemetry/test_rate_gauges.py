"""Gauges of rates: what tenants used of their limits, as of the scrape."""

from prometheus_client import CollectorRegistry

from registry.auth.rate_limits import RateLimits
from registry.rates.windows import RateWindows
from registry.telemetry.rate_gauges import RateGauges

NAME = "adaptry_tenant_rate_used_ratio"
LIMITS = {
    "acme": RateLimits(max_requests_per_minute=10, max_tokens_per_minute=1000),
    "rival": RateLimits(max_requests_per_minute=10),
    "closed": RateLimits(max_requests_per_minute=0),
}


def gauges(most: int) -> tuple[RateWindows, CollectorRegistry]:
    windows, registry = RateWindows(), CollectorRegistry()
    RateGauges(windows, LIMITS.items, most, registry)
    return windows, registry


def value(registry: CollectorRegistry, tenant: str, limit: str) -> float | None:
    return registry.get_sample_value(NAME, {"tenant": tenant, "limit": limit})


async def test_the_part_of_each_limit_that_is_used_is_exported() -> None:
    windows, registry = gauges(10)
    assert value(registry, "acme", "tokens_per_minute") == 0
    await windows.take("tokens of tenant acme", 1000, 250)
    await windows.take("requests of tenant rival", 10, 9)
    assert value(registry, "acme", "tokens_per_minute") == 0.25
    assert value(registry, "rival", "requests_per_minute") == 0.9
    assert value(registry, "rival", "tokens_per_minute") is None, "it has none"
    assert value(registry, "closed", "requests_per_minute") is None, "none of nothing is used"


async def test_of_more_tenants_than_labels_those_nearest_to_their_limits_are_exported() -> None:
    windows, registry = gauges(1)
    await windows.take("requests of tenant rival", 10, 2)
    assert value(registry, "rival", "requests_per_minute") == 0.2
    assert value(registry, "acme", "tokens_per_minute") is None
