"""What the dashboard of the adapter cache shows: every panel with its PromQL."""

from grafana.layout import Panel, Query, Row

HERE = 'instance=~"$instance"'
RATE = "$__rate_interval"
REQUESTS = "adaptry_requests_total"
LOOKUPS = "adaptry_cache_lookups_total"


def series(name: str, *matchers: str) -> str:
    """A selector that obeys the dashboard's instance variable."""
    return f"{name}{{{','.join((HERE, *matchers))}}}"


def total(name: str, by: str = "") -> str:
    """A series added up over what `by` does not name."""
    return f"sum{_grouping(by)} ({series(name)})"


def rate(name: str, *matchers: str, by: str = "") -> str:
    """Events per second, added up over what `by` does not name."""
    return f"sum{_grouping(by)} (rate({series(name, *matchers)}[{RATE}]))"


def recent(name: str) -> str:
    """How many events the last interval had."""
    return f"sum (increase({series(name)}[{RATE}]))"


def hit_ratio(*matchers: str, by: str = "") -> str:
    hits = rate(LOOKUPS, 'result="hit"', *matchers, by=by)
    return f"{hits} / {rate(LOOKUPS, *matchers, by=by)}"


def quantile(fraction: float, histogram: str, by: str = "") -> str:
    labels = f"le, {by}" if by else "le"
    return f"histogram_quantile({fraction}, {rate(f'{histogram}_bucket', by=labels)})"


def _grouping(by: str) -> str:
    return f" by ({by})" if by else ""


def number(
    title: str, expression: str, description: str, unit: str = "short", alarm: bool = False
) -> Panel:
    alarm_from = 1 if alarm else None
    return Panel(title, description, (Query(expression),), unit, kind="stat", alarm_from=alarm_from)


def graph(
    title: str, query: Query | tuple[Query, ...], description: str, unit: str = "short"
) -> Panel:
    return Panel(title, description, query if isinstance(query, tuple) else (query,), unit)


def stack(title: str, query: Query, description: str, unit: str = "short") -> Panel:
    return Panel(title, description, (query,), unit, stacked=True)


NOW = Row(
    "Now",
    (
        number(
            "In a slot when asked",
            hit_ratio('tier="gpu"'),
            "Share of requests whose adapter was in a GPU slot already.",
            "percentunit",
        ),
        number("Requests", rate(REQUESTS), "Generation requests for adapters.", "reqps"),
        number("Waiting", total("adaptry_queue_depth"), "Requests that wait for a slot."),
        number("Leases", total("adaptry_leases"), "Requests that hold an adapter in its slot."),
        number(
            "In-step loads",
            total("adaptry_in_step_loads_total"),
            "Disk loads inside an engine step since the start. Above 0 is a bug.",
            alarm=True,
        ),
        number(
            "Drift",
            total("adaptry_drift_total"),
            "Adapters that the engine held elsewhere than the controller thought.",
            alarm=True,
        ),
    ),
)

HITS = Row(
    "Hits and misses",
    (
        graph(
            "Hit ratio by tier",
            Query(hit_ratio(by="tier"), "{{tier}}"),
            "gpu: in a slot when asked. host: in host memory, of those not in a slot.",
            "percentunit",
        ),
        graph(
            "Lookups",
            Query(rate(LOOKUPS, by="tier, result"), "{{tier}} {{result}}"),
            "Requests that asked a tier for their adapter.",
            "ops",
        ),
        stack(
            "Misses by cause",
            Query(rate("adaptry_cache_misses_total", by="cause"), "{{cause}}"),
            "In neither tier: never seen (cold), put out before (evicted), or new weights.",
            "ops",
        ),
        stack(
            "Evictions",
            Query(rate("adaptry_cache_evictions_total", by="tier, reason"), "{{tier}} {{reason}}"),
            "Adapters that left a tier: no room, by hand, or because the host copy went.",
            "ops",
        ),
        stack(
            "Requests by adapter",
            Query(f"topk(10, {rate(REQUESTS, by='adapter')})", "{{adapter}}"),
            "The ten adapters asked for most often.",
            "reqps",
        ),
        stack(
            "Requests by outcome",
            Query(rate(REQUESTS, by="outcome"), "{{outcome}}"),
            "completed; refused (4xx); failed (5xx); cancelled (the client left).",
            "reqps",
        ),
    ),
)

TIME = Row(
    "Time",
    (
        graph(
            "Load time",
            (
                Query(quantile(0.5, "adaptry_load_seconds", "transition"), "p50 {{transition}}"),
                Query(quantile(0.99, "adaptry_load_seconds", "transition"), "p99 {{transition}}"),
            ),
            "One adapter from disk into host memory, and from there into a slot.",
            "s",
        ),
        graph(
            "Wait for a slot",
            (
                Query(quantile(0.5, "adaptry_slot_wait_seconds"), "p50"),
                Query(quantile(0.99, "adaptry_slot_wait_seconds"), "p99"),
            ),
            "From a request's arrival until its adapter was in a slot and leased to it.",
            "s",
        ),
        graph(
            "Queue depth",
            Query(total("adaptry_queue_depth", by="instance"), "{{instance}}"),
            "Requests that wait for a slot.",
        ),
    ),
)

PLACES = Row(
    "What is where",
    (
        stack(
            "Slots by state",
            Query(total("adaptry_slots", by="state"), "{{state}}"),
            "free; idle (resident, may be put out); leased (in use); pinned.",
        ),
        graph(
            "Resident adapters",
            Query(total("adaptry_resident", by="tier"), "{{tier}}"),
            "How many adapters each tier holds.",
        ),
        graph(
            "Host memory",
            Query(total("adaptry_host_bytes", by="instance"), "{{instance}}"),
            "What the adapters in the host tier take there.",
            "bytes",
        ),
        graph(
            "Pins",
            Query(total("adaptry_pins", by="tier"), "{{tier}}"),
            "Adapters that may not be put out.",
        ),
        stack(
            "Load failures",
            Query(rate("adaptry_load_failures_total", by="cause"), "{{cause}}"),
            "Loads that failed; the requests for that adapter got an error.",
            "ops",
        ),
        graph(
            "In-step loads and drift",
            (
                Query(recent("adaptry_in_step_loads_total"), "in-step loads"),
                Query(recent("adaptry_drift_total"), "drift"),
            ),
            "Both stay at 0.",
        ),
        graph(
            "Engine ends and fallback loads",
            (
                Query(recent("adaptry_engine_ends_total"), "engines replaced"),
                Query(recent("adaptry_fallback_loads_total"), "loads on vLLM's own path"),
            ),
            "Engines that died or hung; adapters that only vLLM's slower path can place.",
        ),
    ),
)

ROWS = (NOW, HITS, TIME, PLACES)
