"""Health row of the dashboard Cache."""

from grafana.frame import Row
from grafana.looks import ERRORS, HIGH_IS_GOOD, NONE_WANTED
from grafana.meaning import Meaning
from grafana.panels import number
from grafana.promql import highest, increase, or_zero, rate, series, share, total

LOOKUPS = "adaptry_cache_lookups_total"
MISSES = "adaptry_cache_misses_total"
REQUESTS = "adaptry_requests_total"
LOOKED_UP = rate(LOOKUPS, 'tier="gpu"')
IN_SLOT = share(rate(LOOKUPS, 'tier="gpu"', 'result="hit"'), LOOKED_UP)
IN_MEMORY = f"1 - {share(rate(MISSES), LOOKED_UP)}"
UNSERVED = share(rate(REQUESTS, 'outcome=~"refused|failed"'), rate(REQUESTS))
IN_SLOTS = series("adaptry_pins", 'tier="gpu"')
SLOT_BUDGET = series("adaptry_pin_budget", 'tier="gpu"')
# a pin in a slot also takes a place in host memory
IN_TOTAL = total("adaptry_pins", by="job, instance")
BUDGET_IN_TOTAL = total("adaptry_pin_budget", 'tier="host"', by="job, instance")
PINNED = f"max ({share(IN_SLOTS, SLOT_BUDGET)} or {share(IN_TOTAL, BUDGET_IN_TOTAL)})"
FAULTS = " + ".join(
    increase(name, within="1h")
    for name in (
        "adaptry_load_failures_total",
        "adaptry_drift_total",
        "adaptry_in_step_loads_total",
        "adaptry_engine_ends_total",
    )
)
FIRING = total("ALERTS", 'alertname=~"Adaptry.*"', 'alertstate="firing"')

HEALTH = Row(
    "Is the cache healthy?",
    (
        number(
            "Alerts firing",
            Meaning(
                "Adaptry alerts that are firing.",
                "anything above 0.",
                "open Alerts above, then the runbook of each at the end of this dashboard.",
            ),
            or_zero(FIRING),
            steps=NONE_WANTED,
        ),
        number(
            "Found in a slot",
            Meaning(
                "Share of requests whose adapter was in a GPU slot: they did not wait for it.",
                "well below its value at this time yesterday.",
                "if *Found in memory* is high, give more slots (`--max-loras`), "
                "or pin the busiest adapters in theirs.",
                "AdaptryHitRatioCollapsed",
            ),
            IN_SLOT,
            unit="percentunit",
            steps=HIGH_IS_GOOD,
        ),
        number(
            "Found in memory",
            Meaning(
                "Share of requests whose adapter was in a slot or in host memory: it was not "
                "read from disk.",
                "low for longer than a start or a new version takes.",
                "look at *Misses by cause*; `evicted` calls for a larger `--max-cpu-loras`.",
                "AdaptryHitRatioCollapsed",
            ),
            IN_MEMORY,
            unit="percentunit",
            steps=HIGH_IS_GOOD,
        ),
        number(
            "Thrash",
            Meaning(
                "Share of recent lookups that missed an adapter evicted less than a minute before.",
                "above 5%: adapters evict each other.",
                "look at *Most evicted*; pin the adapter that matters, give more host memory.",
                "AdaptryThrash",
            ),
            highest("adaptry_thrash_ratio"),
            unit="percentunit",
            steps=((None, "green"), (0.05, "orange"), (0.2, "red")),
        ),
        number(
            "Longest wait now",
            Meaning(
                "Longest current wait for a slot.",
                "more than a few seconds: hot adapters hold every slot, or a load hangs.",
                "look at *Slots by state* and *Load time*; unpin what is idle.",
                "AdaptryStarvation",
            ),
            highest("adaptry_oldest_wait_seconds"),
            unit="s",
            steps=((None, "green"), (5, "orange"), (30, "red")),
        ),
        number(
            "Refused or failed",
            Meaning(
                "Share of adapter requests that ended with a client error (4xx) or a server error "
                "(5xx).",
                "above 1%, unless a client sends invalid requests.",
                "look at *Refusals* and *Requests by outcome* below.",
            ),
            UNSERVED,
            unit="percentunit",
            steps=ERRORS,
        ),
        number(
            "Pin budget used",
            Meaning(
                "The fuller of the two pin budgets: in slots, and in total.",
                "100%: the next pin is refused, and all other adapters share the rest.",
                "unpin what no longer needs it (`adaptry cache pins`), or add slots.",
                "AdaptryPinBudgetExhausted",
            ),
            PINNED,
            unit="percentunit",
            steps=((None, "green"), (0.75, "orange"), (1, "red")),
            empty="no budget",
        ),
        number(
            "Faults in 1 h",
            Meaning(
                "Failed loads, adapters in another place than recorded, loads within an engine "
                "step, "
                "and replaced engines.",
                "anything above 0.",
                "the row *Faults* shows which of them.",
                "AdaptryLoadFailures",
            ),
            FAULTS,
            steps=NONE_WANTED,
        ),
    ),
)
