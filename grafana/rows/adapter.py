"""Rows of the dashboard Adapters: one adapter, its requests and its place in the cache."""

from grafana.frame import Row
from grafana.looks import (
    CACHE_OUTCOMES,
    ERRORS,
    HIGH_IS_GOOD,
    NONE_WANTED,
    REQUEST_OUTCOMES,
    TIERS,
)
from grafana.meaning import Meaning
from grafana.panels import areas, graph, heatmap_of, number, ranking, states
from grafana.promql import (
    ADAPTER,
    RANGE,
    Query,
    buckets,
    highest,
    increase,
    quantile,
    rate,
    series,
    share,
)

REQUESTS = "adaptry_requests_total"
LOOKUPS = "adaptry_adapter_lookups_total"
EVICTIONS = "adaptry_adapter_evictions_total"
SECONDS = "adaptry_request_seconds"
TOKENS = "adaptry_tokens_total"
IN_SLOT = share(rate(LOOKUPS, ADAPTER, 'result="gpu_hit"'), rate(LOOKUPS, ADAPTER))
UNSERVED = share(rate(REQUESTS, ADAPTER, 'outcome=~"refused|failed"'), rate(REQUESTS, ADAPTER))
RESIDENT = series("vllm:lora_adapter_loaded", 'adapter_name=~"$adapter:[0-9]+"')

GLANCE = Row(
    "$adapter at a glance",
    (
        number(
            "Requests",
            Meaning(
                "Requests for this adapter per second.",
                "none, although it has users.",
                "check that they use its name: `adaptry adapter show $adapter`.",
            ),
            rate(REQUESTS, ADAPTER),
            unit="reqps",
        ),
        number(
            "Found in a slot",
            Meaning(
                "Share of its requests that found it in a GPU slot.",
                "low, for an adapter that must respond immediately.",
                "`adaptry cache pin $adapter --tier gpu`.",
                "AdaptryThrash",
            ),
            IN_SLOT,
            unit="percentunit",
            steps=HIGH_IS_GOOD,
        ),
        number(
            "Refused or failed",
            Meaning(
                "Share of its requests that ended with an error.",
                "above 1%.",
                "*Requests by outcome* shows since when; check whether a new version went live "
                "then.",
                "AdaptryLoadFailures",
            ),
            UNSERVED,
            unit="percentunit",
            steps=ERRORS,
        ),
        number(
            "Request time, p95",
            Meaning(
                "95 of 100 requests took no longer, from arrival to last token.",
                "doubled, with as many tokens.",
                "see *Cache outcome*: misses wait for the disk. Otherwise the engine is busy.",
                "AdaptrySlotWait",
            ),
            quantile(0.95, SECONDS, ADAPTER),
            unit="s",
        ),
        number(
            "Tokens generated",
            Meaning(
                "Tokens generated with this adapter per second.",
                "falls while requests don't: responses got shorter, or the engine slower.",
                "compare *Tokens* and *Request time* around the last alias move.",
            ),
            rate(TOKENS, ADAPTER, 'kind="generation"'),
            unit="short",
        ),
        number(
            "Default version",
            Meaning(
                "The version that the adapter's name resolves to.",
                "not the one that you promoted.",
                "`adaptry adapter aliases $adapter` has the history, `rollback` undoes a move.",
            ),
            highest("adaptry_alias_version", ADAPTER, 'alias="default"'),
            unit="none",
            empty="not set",
        ),
        number(
            "Misses",
            Meaning(
                "Requests that waited for the disk, in the selected time range.",
                "more than a few after its first request.",
                "pin it in host memory: `adaptry cache pin $adapter --tier host`.",
                "AdaptryThrash",
            ),
            increase(LOOKUPS, ADAPTER, 'result="miss"', within=RANGE),
        ),
        number(
            "Times evicted",
            Meaning(
                "Evictions from a tier in the selected time range.",
                "as many as its requests.",
                "pin it, or give that tier more room.",
                "AdaptryThrash",
            ),
            increase(EVICTIONS, ADAPTER, within=RANGE),
            steps=NONE_WANTED,
        ),
    ),
)

USE = Row(
    "Requests and versions",
    (
        areas(
            "Requests by outcome",
            Meaning(
                "completed; refused (4xx); failed (5xx); cancelled (the client left).",
                "failed above 0, from an alias move on.",
                "roll back: `adaptry adapter rollback $adapter`.",
                "AdaptryLoadFailures",
            ),
            Query(rate(REQUESTS, ADAPTER, by="outcome"), "{{outcome}}"),
            unit="reqps",
            coloured=REQUEST_OUTCOMES,
        ),
        areas(
            "Tokens",
            Meaning(
                "Prompt and generated tokens per second.",
                "generation far from its value before an alias move.",
                "compare both versions before you roll back.",
            ),
            Query(rate(TOKENS, ADAPTER, by="kind"), "{{kind}}"),
        ),
        graph(
            "Request time",
            Meaning(
                "From arrival to last token: median, 95th and 99th percentile.",
                "p99 far above the others: some requests wait for a load or a slot.",
                "see *Cache outcome* at the same time.",
                "AdaptrySlotWait",
            ),
            tuple(
                Query(quantile(fraction, SECONDS, ADAPTER), name)
                for fraction, name in ((0.5, "p50"), (0.95, "p95"), (0.99, "p99"))
            ),
            unit="s",
        ),
        heatmap_of(
            "Request times",
            Meaning(
                "How often each request time occurred.",
                "two bands: requests in the upper one had to wait.",
                "see *Cache outcome* at the same time.",
                "AdaptrySlotWait",
            ),
            buckets(SECONDS, ADAPTER),
        ),
        states(
            "Versions live",
            Meaning(
                "The version that each alias points at; if it is split, the one with the largest "
                "weight.",
                "a move that you did not expect.",
                "`adaptry adapter aliases $adapter` says who moved it and why.",
            ),
            Query(highest("adaptry_alias_version", ADAPTER, by="alias"), "{{alias}}"),
            width=16,
        ),
    ),
)

CACHED = Row(
    "Cache activity",
    (
        areas(
            "Cache outcome",
            Meaning(
                "Where its requests found it: in a slot, in host memory, or in neither.",
                "miss or host_hit on an adapter in constant use.",
                "pin it, or give the tier more room.",
                "AdaptryThrash",
            ),
            Query(rate(LOOKUPS, ADAPTER, by="result"), "{{result}}"),
            unit="ops",
            coloured=CACHE_OUTCOMES,
        ),
        areas(
            "Evictions",
            Meaning(
                "Its evictions from a tier.",
                "each request is followed by an eviction.",
                "`adaptry cache why $adapter` names the adapters that it makes room for.",
                "AdaptryThrash",
            ),
            Query(rate(EVICTIONS, ADAPTER, by="tier"), "{{tier}}"),
            unit="ops",
            coloured=TIERS,
        ),
        graph(
            "Servers with it in memory",
            Meaning(
                "How many servers have each of its versions in memory, by tier.",
                "an old version stays long after a promotion, or a pinned one is not the live one.",
                "`adaptry cache unpin $adapter:N`; unused versions are evicted in time.",
                "AdaptryPinBudgetExhausted",
            ),
            Query(f"sum by (adapter_name, level) ({RESIDENT})", "{{adapter_name}} {{level}}"),
        ),
        ranking(
            "Compared with other adapters",
            Meaning(
                "Requests of the ten busiest adapters in the selected time range.",
                "others crowd it out.",
                "pin it, or move the busiest to a separate server.",
                "AdaptryThrash",
            ),
            f"topk(10, {increase(REQUESTS, by='adapter', within=RANGE)})",
        ),
    ),
)
