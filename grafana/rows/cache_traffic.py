"""Cache: what requests find, and how long they wait for it."""

from grafana.frame import Row
from grafana.looks import TIERS
from grafana.meaning import Meaning
from grafana.panels import areas, graph, heatmap_of
from grafana.promql import Query, buckets, highest, or_zero, quantile, rate, share, total
from grafana.rows.cache_health import LOOKUPS, MISSES

TURN_SECONDS = 2.0  # max_slot_wait_seconds unless set otherwise

HITS = Row(
    "What requests find",
    (
        graph(
            "Hit ratio by tier",
            Meaning(
                "gpu: in a slot when asked. host: in host memory, of those that were in no slot.",
                "gpu falls while host stays: too few slots. Both fall: too little host memory, or "
                "new adapters.",
                "compare *Misses by cause* and *Evictions by reason* at the same moment.",
                "AdaptryHitRatioCollapsed",
            ),
            Query(
                share(rate(LOOKUPS, 'result="hit"', by="tier"), rate(LOOKUPS, by="tier")),
                "{{tier}}",
            ),
            unit="percentunit",
            coloured=TIERS,
        ),
        areas(
            "Misses by cause",
            Meaning(
                "Requests whose adapter was in neither tier. cold: never asked for before. "
                "evicted: put out before. new_version: another version was there. restart: it was "
                "there before this server started.",
                "evicted: host memory is too small for the mix of adapters.",
                "raise `--max-cpu-loras` or `--host-cache-bytes`; prefetch after a promotion.",
                "AdaptryThrash",
            ),
            Query(rate(MISSES, by="cause"), "{{cause}}"),
            unit="ops",
        ),
        areas(
            "Evictions by reason",
            Meaning(
                "Adapters that left a tier. capacity: another one needed the place. host_evicted: "
                "left its slot because it left host memory. requested: by hand. tenant_limit: its "
                "tenant needed the bytes for another of its own. drift: the engine "
                "had it elsewhere.",
                "capacity as high as the requests: each request puts somebody out.",
                "look at *Most evicted*; the tier named here is the one that is too small.",
                "AdaptryThrash",
            ),
            Query(rate("adaptry_cache_evictions_total", by="tier, reason"), "{{tier}} {{reason}}"),
            unit="ops",
        ),
        graph(
            "Thrash",
            Meaning(
                "Share of recent lookups that found their adapter put out a short while before.",
                "above the dashed line for minutes.",
                "find the adapters under *Most evicted*, pin one, and see this fall.",
                "AdaptryThrash",
            ),
            Query(highest("adaptry_thrash_ratio", by="instance"), "{{instance}}"),
            unit="percentunit",
            steps=((None, "transparent"), (0.2, "red")),
        ),
        graph(
            "Time to first token by what was found",
            Meaning(
                "Median and 95th percentile of the time to the first token, for each outcome.",
                "miss far above gpu_hit: that is what a cold adapter costs its user.",
                "prefetch or pin the adapters that must answer at once.",
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
                "Everything that the cache decided, by kind. `/api/v1/cache/decisions` has the "
                "last of it in words.",
                "refused, load_failed or drifted among them.",
                "`/api/v1/cache/why/NAME` tells what happened to one adapter.",
            ),
            Query(rate("adaptry_decisions_total", by="kind"), "{{kind}}"),
            unit="ops",
        ),
    ),
)

WAITS = Row(
    "How long they wait",
    (
        heatmap_of(
            "Wait for a slot",
            Meaning(
                "From a request's arrival until its adapter was in a slot and leased to it.",
                "a second band far above the first: some requests wait for loads or for turns.",
                "compare with *Load time* beside; if loads are fast, there are too few slots.",
                "AdaptrySlotWait",
            ),
            buckets("adaptry_slot_wait_seconds"),
        ),
        heatmap_of(
            "Load time: disk to host",
            Meaning(
                "One adapter from the store into host memory, beside the engine's steps. Dots are "
                "single loads with their trace.",
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
                "One adapter from host memory into a slot; the engine stands still meanwhile.",
                "more than tens of milliseconds.",
                "on CUDA, check that host memory is pinned: `fallback loads` below stay at 0.",
                "AdaptrySlotWait",
            ),
            buckets("adaptry_load_seconds", 'transition="host_to_gpu"'),
            traced=True,
        ),
        graph(
            "Requests waiting",
            Meaning(
                "Requests that wait for a slot, and those that hold one.",
                "waiting stays above 0 while leases don't grow: no slot comes free.",
                "look at *Slots by state*; see whether pins keep slots idle.",
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
                "How long the request has waited that waits longest for a slot.",
                "above the dashed line, the time by which a waiting adapter gets its turn.",
                "running requests are never cut off: long generations on every slot delay turns.",
                "AdaptryStarvation",
            ),
            Query(highest("adaptry_oldest_wait_seconds", by="instance"), "{{instance}}"),
            unit="s",
            steps=((None, "transparent"), (TURN_SECONDS, "orange")),
        ),
        areas(
            "Turns and refusals",
            Meaning(
                "Slots that a hot adapter had to give up for one that waited, and requests refused "
                "while or before they waited, by code.",
                "queue_full or slot_wait_timeout: more is asked for than the slots can carry.",
                "add slots or servers; spread the adapters over them.",
                "AdaptryStarvation",
            ),
            (
                Query(rate("adaptry_drains_total"), "turns taken"),
                Query(or_zero(rate("adaptry_refusals_total", by="code"), "code"), "{{code}}"),
            ),
            unit="ops",
        ),
        areas(
            "Refused to tenants",
            Meaning(
                "Requests refused as their tenant was at one of its limits, by tenant and limit.",
                "one tenant all the time: its limit is too small for it, or it retries too fast.",
                "`GET /api/v1/tenants/NAME` shows what it uses; raise the limit, or tell it to "
                "heed Retry-After.",
            ),
            Query(
                rate("adaptry_tenant_refusals_total", by="tenant, limit"), "{{tenant}} {{limit}}"
            ),
            unit="ops",
        ),
    ),
)
