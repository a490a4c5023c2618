"""Cache, first row: is it healthy?"""

from grafana.frame import Row
from grafana.looks import ERRORS, HIGH_IS_GOOD, NONE_WANTED
from grafana.meaning import Meaning
from grafana.panels import number
from grafana.promql import highest, increase, or_zero, rate, series, share, total

LOOKUPS = "adaptry_cache_lookups_total"
MISSES = "adaptry_cache_misses_total"
REQUESTS = "adaptry_requests_total"
ASKED = rate(LOOKUPS, 'tier="gpu"')
IN_SLOT = share(rate(LOOKUPS, 'tier="gpu"', 'result="hit"'), ASKED)
IN_MEMORY = f"1 - {share(rate(MISSES), ASKED)}"
LOST = share(rate(REQUESTS, 'outcome=~"refused|failed"'), rate(REQUESTS))
IN_SLOTS = series("adaptry_pins", 'tier="gpu"')
SLOT_BUDGET = series("adaptry_pin_budget", 'tier="gpu"')
IN_ALL = total("adaptry_pins", by="job, instance")  # a pin in a slot takes a place in host memory
BUDGET_IN_ALL = total("adaptry_pin_budget", 'tier="host"', by="job, instance")
PINNED = f"max ({share(IN_SLOTS, SLOT_BUDGET)} or {share(IN_ALL, BUDGET_IN_ALL)})"
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
                "Alerts of Adaptry that fire now.",
                "anything above 0.",
                "open Alerts above, then the runbook of each at the end of this page.",
            ),
            or_zero(FIRING),
            steps=NONE_WANTED,
        ),
        number(
            "Found in a slot",
            Meaning(
                "Share of requests whose adapter was in a GPU slot: they waited for nothing.",
                "well below what it was yesterday at this hour.",
                "if *Found in memory* is high, give more slots (`--max-loras`), "
                "or pin the busiest adapters into theirs.",
                "AdaptryHitRatioCollapsed",
            ),
            IN_SLOT,
            unit="percentunit",
            steps=HIGH_IS_GOOD,
        ),
        number(
            "Found in memory",
            Meaning(
                "Share of requests whose adapter was in a slot or in host memory: none had to be "
                "read from disk.",
                "low for longer than a start or a new version takes.",
                "look at *Misses by cause*; `evicted` asks for a larger `--max-cpu-loras`.",
                "AdaptryHitRatioCollapsed",
            ),
            IN_MEMORY,
            unit="percentunit",
            steps=HIGH_IS_GOOD,
        ),
        number(
            "Thrash",
            Meaning(
                "Share of recent lookups that found their adapter put out a short while before.",
                "above 5%: adapters push each other out in turn.",
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
                "How long the request has waited that waits longest for a slot.",
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
                "Share of requests for adapters that ended with an error of the client (4xx) or of "
                "the server (5xx).",
                "above 1%, unless a client sends rubbish.",
                "look at *Refusals* and *Requests by outcome* below.",
            ),
            LOST,
            unit="percentunit",
            steps=ERRORS,
        ),
        number(
            "Pin budget used",
            Meaning(
                "The fuller of the two budgets of pins: in slots, and in all.",
                "100%: the next pin is refused, and all others share what is left.",
                "unpin what is no longer worth it (`adaptry cache pins`), or add slots.",
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
                "Loads that failed, adapters found elsewhere than thought, loads inside an engine "
                "step, and engines replaced.",
                "anything above 0.",
                "look at the row *Faults* for which of them it is.",
                "AdaptryLoadFailures",
            ),
            FAULTS,
            steps=NONE_WANTED,
        ),
    ),
)
