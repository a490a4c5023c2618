"""Cache rows: residency, and the adapters concerned."""

from grafana.frame import Row
from grafana.looks import SLOT_STATES, TIERS
from grafana.meaning import Meaning
from grafana.panels import areas, graph, listing, ranking
from grafana.promql import RANGE, Query, increase, share, total

ADAPTER_LOOKUPS = "adaptry_adapter_lookups_total"
ONE_ADAPTER = (
    "Open this adapter",
    "/d/adaptry-adapters?var-adapter=${__field.labels.adapter}"
    "&${datasource:queryparam}&${instance:queryparam}&${__url_time_range}",
)
ASKED = increase(ADAPTER_LOOKUPS, by="adapter", within=RANGE)
FOUND_IN_SLOT = increase(ADAPTER_LOOKUPS, 'result="gpu_hit"', by="adapter", within=RANGE)
EVICTED = increase("adaptry_adapter_evictions_total", by="adapter, tier", within=RANGE)

PLACES = Row(
    "Residency",
    (
        areas(
            "Slots by state",
            Meaning(
                "free; idle: resident, may be evicted; leased: in use; pinned: not in use, may "
                "not be evicted; down: empty, of an engine that is down or asleep.",
                "all leased, with requests waiting; or many pinned and few idle.",
                "all leased: more slots. Many pinned: unpin what is rarely requested.",
                "AdaptryStarvation",
            ),
            Query(total("adaptry_slots", by="state"), "{{state}}"),
            coloured=SLOT_STATES,
        ),
        graph(
            "Resident adapters",
            Meaning(
                "How many adapters each tier holds, and how many places host memory has.",
                "host at its limit while *Misses by cause* shows evicted.",
                "raise `--max-cpu-loras`: a place costs the size of an adapter's files.",
                "AdaptryThrash",
            ),
            (
                Query(total("adaptry_resident", by="tier"), "{{tier}}"),
                Query(total("adaptry_host_capacity"), "limit"),
            ),
            coloured=(*TIERS, "limit"),
        ),
        graph(
            "Host bytes",
            Meaning(
                "Bytes of the adapters in host memory, and the limit if `--host-cache-bytes` sets "
                "one.",
                "at the limit while places are free: the bytes decide, not the number.",
                "raise `--host-cache-bytes`, or register adapters of a smaller rank.",
                "AdaptryThrash",
            ),
            (
                Query(total("adaptry_host_bytes"), "host"),
                Query(f"{total('adaptry_host_bytes_limit')} < +Inf", "limit"),
            ),
            unit="bytes",
            coloured=("host", "limit"),
        ),
        graph(
            "Pins",
            Meaning(
                "Pinned adapters by tier, and the two budgets: in slots, and in total.",
                "gpu at its budget, or the sum at the total budget.",
                "`adaptry cache pins` lists them; give pins a lifetime with `--ttl`.",
                "AdaptryPinBudgetExhausted",
            ),
            (
                Query(total("adaptry_pins", by="tier"), "{{tier}}"),
                Query(total("adaptry_pin_budget", 'tier="gpu"'), "budget in slots"),
                Query(total("adaptry_pin_budget", 'tier="host"'), "budget in total"),
            ),
            coloured=TIERS,
        ),
        listing(
            "In memory now",
            Meaning(
                "Every resident adapter, under its name in the engine.",
                "an adapter without requests is pinned.",
                "`adaptry cache unpin`, or pin another one instead.",
                "AdaptryPinBudgetExhausted",
            ),
            total(
                "vllm:lora_adapter_loaded",
                'adapter_name=~".+:[0-9]+"',  # not by its aliases too
                by="instance, adapter_name, level, pinned, rank",
            ),
            {
                "adapter_name": "Adapter",
                "level": "Tier",
                "pinned": "Pinned",
                "rank": "Rank",
                "instance": "Instance",
            },
            width=16,
        ),
    ),
)

ADAPTERS = Row(
    "Adapters",
    (
        ranking(
            "Busiest",
            Meaning(
                "The ten most requested adapters in the selected time range.",
                "one of them is also under *Coldest* or *Most evicted*.",
                "pin it: `adaptry cache pin NAME --tier gpu`.",
                "AdaptryThrash",
            ),
            f"topk(10, {increase('adaptry_requests_total', by='adapter', within=RANGE)})",
            link=ONE_ADAPTER,
        ),
        ranking(
            "Coldest: found in a slot",
            Meaning(
                "The ten adapters that were in a slot for the smallest share of their requests.",
                "an adapter whose users wait. Rarely used ones belong here.",
                "pin it in a slot, or prefetch it before its users arrive.",
                "AdaptryHitRatioCollapsed",
            ),
            f"bottomk(10, {share(FOUND_IN_SLOT, ASKED)})",
            unit="percentunit",
            link=ONE_ADAPTER,
        ),
        ranking(
            "Most evicted",
            Meaning(
                "The ten most evicted adapters in the selected time range, by tier.",
                "the same few here and under *Busiest*: they evict each other.",
                "pin one of them and watch *Thrash*; then give the tier more room.",
                "AdaptryThrash",
            ),
            f"topk(10, {EVICTED})",
            legend="{{adapter}} from {{tier}}",
            link=ONE_ADAPTER,
        ),
    ),
)
