"""Cache rows: lookups and waiting times."""

from grafana.frame import Row
from grafana.looks import TIERS
from grafana.meaning import Meaning
from grafana.panels import areas, graph, heatmap_of
from grafana.promql import Query, buckets, highest, or_zero, quantile, rate, share, total
from grafana.rows.cache_health import LOOKUPS, MISSES

DRAIN_SECONDS = 2.0  # max_slot_wait_seconds unless set otherwise

HITS = Row(
    "Cache lookups",
    (
        graph(
            "Hit ratio by tier",
            Meaning(
                "gpu: in a slot at the lookup. host: in host memory, of those that were in no "
                "slot.",
                "gpu falls while host stays: too few slots. Both fall: too little host memory, or "
                "new adapters.",
                "compare *Misses by cause* and *Evictions by reason* at the same time.",
                "AdaptryHitRatioCollapsed",
            ),
            Query(
                share(rate(LOOKUPS, 'result="hit"', by="tier"), rate(LOOKUPS, by="tier")),
                "{{tier}}",
            ),
            unit="percentunit",
            coloured=TIERS,
        ),
        graph(
            "Regret by policy",
            Meaning(
                "Share of the last 1,000 lookups that another policy would have hit more, by tier: "
                "LRU, the optimum that knows what comes, and the candidate of `--shadow-policy`.",
                "the candidate stays above 0; or the optimum stays high while the hit ratio is "
                "low: more places are needed.",
                "try the candidate as `--eviction-policy`; `GET /api/v1/cache/policy` says how "
                "many places would help.",
            ),
            Query(highest("adaptry_regret_ratio", by="tier, policy"), "{{tier}} {{policy}}"),
            unit="percentunit",
        ),
        areas(
            "Misses by cause",
            Meaning(
                "Requests whose adapter was in neither tier. cold: first use. evicted: it was "
                "resident "
                "before. new_version: another version was. restart: it was resident before a "
                "restart.",
                "evicted: host memory is too small for the mix of adapters.",
                "raise `--max-cpu-loras` or `--host-cache-bytes`; prefetch after a promotion.",
                "AdaptryThrash",
            ),
            Query(rate(MISSES, by="cause"), "{{cause}}"),
            unit="ops",
        ),
        areas(
            "Shared prefix tokens",
            Meaning(
                "Prompt tokens before the invocation of activated adapters that were found "
                "computed, by adapter: the base model's own work, or another activated one's.",
                "0 while an activated adapter answers: its prompts lack the invocation, or begin "
                "otherwise than those before.",
                "look at `x-adaptry-invocation` and `cached_tokens` of an answer; keep what "
                "changes, such as the time, at the end of a prompt.",
            ),
            Query(rate("adaptry_shared_prefix_tokens_total", by="adapter"), "{{adapter}}"),
            unit="short",
        ),
        areas(
            "Evictions by reason",
            Meaning(
                "Evictions from a tier. capacity: to make room for another adapter. host_evicted: "
                "from its slot, as it was evicted from host memory. requested: by an operator. "
                "tenant_limit: its tenant needed the bytes for another of its adapters. drift: the "
                "engine's state differed.",
                "capacity as high as the requests: each request evicts an adapter.",
                "look at *Most evicted*; the tier named here is too small.",
                "AdaptryThrash",
            ),
            Query(rate("adaptry_cache_evictions_total", by="tier, reason"), "{{tier}} {{reason}}"),
            unit="ops",
        ),
        graph(
            "Thrash",
            Meaning(
                "Share of recent lookups that missed an adapter evicted less than a minute before.",
                "above the dashed line for minutes.",
                "find the adapters under *Most evicted*, pin one, and see this fall.",
                "AdaptryThrash",
            ),
            Query(highest("adaptry_thrash_ratio", by="instance"), "{{instance}}"),
            unit="percentunit",
            steps=((None, "transparent"), (0.2, "red")),
        ),
        graph(
            "Time to first token by cache outcome",
            Meaning(
                "Median and 95th percentile of the time to the first token, by cache outcome.",
                "miss far above gpu_hit: the cost of a cold adapter to its user.",
                "prefetch or pin the adapters that must respond immediately.",
                "AdaptryHitRatioCollapsed",
            ),
            (
                Query(quantile(0.5, "adaptry_first_token_seconds", by="result"), "p50 {{result}}"),
                Query(quantile(0.95, "adaptry_first_token_seconds", by="result"), "p95 {{result}}"),
            ),
            unit="s",
        ),
        areas(
            "Decisions",
            Meaning(
                "All events of the cache, by kind. `/api/v1/cache/decisions` has the last ones in "
                "words.",
                "refused, load_failed or drifted among them.",
                "`/api/v1/cache/why/NAME` explains one adapter.",
            ),
            Query(rate("adaptry_decisions_total", by="kind"), "{{kind}}"),
            unit="ops",
        ),
    ),
)

WAITS = Row(
    "Waiting times",
    (
        heatmap_of(
            "Wait for a slot",
            Meaning(
                "From a request's arrival until its adapter was in a slot and leased to it.",
                "a second band far above the first: some requests wait for loads or for drains.",
                "compare with *Load time*; if loads are fast, there are too few slots.",
                "AdaptrySlotWait",
            ),
            buckets("adaptry_slot_wait_seconds"),
        ),
        heatmap_of(
            "Load time: disk to host",
            Meaning(
                "Loads from the store into host memory, beside the engine's steps. Dots are single "
                "loads with their trace.",
                "seconds: the disk is slow or busy, or adapters are large.",
                "put the store on a local disk; look at the trace of a dot.",
                "AdaptrySlotWait",
            ),
            buckets("adaptry_load_seconds", 'transition="disk_to_host"'),
            traced=True,
        ),
        heatmap_of(
            "Load time: host to GPU",
            Meaning(
                "Copies from host memory into a slot; the engine pauses for each.",
                "more than tens of milliseconds.",
                "on CUDA, check that host memory is pinned: `fallback loads` below must stay at 0.",
                "AdaptrySlotWait",
            ),
            buckets("adaptry_load_seconds", 'transition="host_to_gpu"'),
            traced=True,
        ),
        graph(
            "Requests waiting",
            Meaning(
                "Requests that wait for a slot, and requests that hold one.",
                "waiting stays above 0 while leases don't grow: no slot becomes free.",
                "look at *Slots by state*; check whether pins keep slots idle.",
                "AdaptryStarvation",
            ),
            (
                Query(total("adaptry_queue_depth"), "waiting"),
                Query(total("adaptry_leases"), "leases"),
            ),
        ),
        graph(
            "Longest wait",
            Meaning(
                "Longest current wait for a slot.",
                "above the dashed line, at which a hot adapter drains for a waiting one.",
                "running requests are never aborted: long generations on every slot delay drains.",
                "AdaptryStarvation",
            ),
            Query(highest("adaptry_oldest_wait_seconds", by="instance"), "{{instance}}"),
            unit="s",
            steps=((None, "transparent"), (DRAIN_SECONDS, "orange")),
        ),
        areas(
            "Drains and refusals",
            Meaning(
                "Hot adapters that drained for one that had waited too long, and requests refused "
                "before or while they waited, by code.",
                "queue_full or slot_wait_timeout: more requests than the slots can serve.",
                "add slots or servers; spread the adapters over them.",
                "AdaptryStarvation",
            ),
            (
                Query(rate("adaptry_drains_total"), "drains"),
                Query(or_zero(rate("adaptry_refusals_total", by="code"), "code"), "{{code}}"),
            ),
            unit="ops",
        ),
        areas(
            "Refusals by tenant limit",
            Meaning(
                "Requests refused because their tenant was at a limit, by tenant and limit.",
                "one tenant constantly: its limit is too small for it, or it retries too fast.",
                "`GET /api/v1/tenants/NAME` shows its usage; raise the limit, or ask the tenant to "
                "honour Retry-After.",
            ),
            Query(
                rate("adaptry_tenant_refusals_total", by="tenant, limit"), "{{tenant}} {{limit}}"
            ),
            unit="ops",
        ),
        areas(
            "Tokens by tenant",
            Meaning(
                "Tokens of the requests of each tenant's keys, prompts and answers.",
                "one tenant takes most of them, and others wait.",
                "limit its `tokens_per_minute`, or its slots.",
            ),
            Query(rate("adaptry_tenant_tokens_total", by="tenant, kind"), "{{tenant}} {{kind}}"),
            unit="ops",
        ),
        graph(
            "Rates used by tenant",
            Meaning(
                "How much of its limits per minute each tenant has used, the most on any server.",
                "near 1 for long: its further requests are refused with 429.",
                "`adaptry key rates` shows which key it is; raise the limit, or ask the tenant to "
                "honour Retry-After.",
            ),
            Query(
                or_zero(highest("adaptry_tenant_rate_used_ratio", by="tenant, limit"), "tenant"),
                "{{tenant}} {{limit}}",
            ),
            unit="percentunit",
        ),
        areas(
            "Slots by tenant",
            Meaning(
                "GPU slots that the requests of each tenant's keys held, on average.",
                "one tenant holds most of them while others wait.",
                "limit its slots.",
            ),
            Query(rate("adaptry_tenant_slot_seconds_total", by="tenant"), "{{tenant}}"),
            unit="short",
        ),
    ),
)
