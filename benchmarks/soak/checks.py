"""Checks of the state read back, each of which must hold whatever was done."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from benchmarks.soak.history import AdapterHistory
from benchmarks.soak.world import World

STAY_AT_ZERO = (
    "adaptry_drift_total",
    "adaptry_in_step_loads_total",
    "adaptry_fallback_loads_total",
    "adaptry_load_failures_total",
    "adaptry_engine_ends_total",
    "adaptry_database_errors_total",
    "adaptry_quarantines_total",
)
EMPTY_WHEN_QUIET = ("adaptry_leases", "adaptry_queue_depth", "adaptry_pins", "adaptry_ingest_jobs")


class Page:
    """One scrape of /metrics."""

    def __init__(self, text: str) -> None:
        families = text_string_to_metric_families(text)
        self._samples = [sample for family in families for sample in family.samples]

    @property
    def series(self) -> int:
        return len(self._samples)

    def total(self, name: str, **labels: str) -> float:
        """The sum over all other labels."""
        return sum(
            sample.value
            for sample in self._samples
            if sample.name == name and labels.items() <= sample.labels.items()
        )


def cache_faults(cache: Mapping[str, Any]) -> Iterator[str]:
    """Faults at any time."""
    gpu, host = cache["gpu"], cache["host"]
    if len(gpu) > cache["slots"]:
        yield f"{len(gpu)} adapters in {cache['slots']} slots"
    if len(host) > cache["host_capacity"]:
        yield f"{len(host)} adapters in {cache['host_capacity']} places of host memory"
    if only_gpu := _references(gpu) - _references(host):
        yield f"in a slot, and not in host memory: {only_gpu}"
    if sum(resident["pinned"] == "gpu" for resident in gpu) >= cache["slots"]:
        yield "all slots are pinned"


def quiet_faults(cache: Mapping[str, Any], engine: Mapping[str, Any]) -> Iterator[str]:
    """Faults once traffic has stopped. `engine`: vLLM's own state."""
    yield from cache_faults(cache)
    if leased := [resident["reference"] for resident in cache["gpu"] if resident["leases"]]:
        yield f"leases without a request: {leased}"
    if cache["waiting"] or cache["loading"]:
        yield f"{cache['waiting']} wait and {cache['loading']} load without a request"
    for tier in ("gpu", "host"):
        if {resident["version_id"] for resident in cache[tier]} != set(engine[tier]):
            yield f"the {tier} tier has {_references(cache[tier])}, and vLLM has {engine[tier]}"
    if engine["in_step_loads"]:
        yield f"{engine['in_step_loads']} loads inside a step"


def _references(residents: Sequence[Mapping[str, Any]]) -> set[str]:
    return {resident["reference"] for resident in residents}


def page_faults(page: Page) -> Iterator[str]:
    for name in STAY_AT_ZERO:
        if value := page.total(name):
            yield f"{name} is {value:g}, not 0"
    for name in EMPTY_WHEN_QUIET:
        if value := page.total(name):
            yield f"{name} is {value:g} without a client"


def count_faults(page: Page, world: World) -> Iterator[str]:
    """Compares the server's counters with our own counts.

    How far a cancelled request came is unknown: it may have been counted as another one.
    """
    done, unknown = world.done, world.done["request cancelled"]
    answered = done["request answered"] - done["  base model"]
    requests = "adaptry_requests_total"
    exact = {
        ("adaptry_registry_adapters", ""): (len(world.names), 0),
        ("adaptry_ingest_ended_total", "succeeded"): (done["register"], 0),
        ("adaptry_alias_moves_total", "moved"): (world.events["alias.moved"], 0),
        ("adaptry_alias_moves_total", "split"): (world.events["alias.split"], 0),
        (requests, "completed"): (answered, unknown),
        (requests, "refused"): (done["request refused"], unknown),
        (requests, "cancelled"): (0, unknown),
        (requests, "failed"): (0, 0),
        (requests, ""): (answered + done["request refused"], unknown),
    }
    for (name, value), (counted, more) in exact.items():
        label = {"adaptry_alias_moves_total": "action"}.get(name, "outcome")
        found = page.total(name, **({label: value} if value else {}))
        if not counted <= found <= counted + more:
            yield f"{name} {value} is {found:g}, not {counted} to {counted + more}"
    yield from _lookup_faults(page, done)


def _lookup_faults(page: Page, done: Counter[str]) -> Iterator[str]:
    lookups = "adaptry_cache_lookups_total"
    hits = page.total(lookups, tier="gpu", result="hit")
    host_hits = page.total(lookups, tier="host", result="hit")
    misses = page.total(lookups, tier="host", result="miss")
    for name, found in (("gpu_hit", hits), ("host_hit", host_hits), ("miss", misses)):
        counted = done[f"cache {name}"]
        if not counted <= found <= counted + done["request cancelled"]:
            yield f"{found:g} lookups were a {name}, and {counted} answers say so"


def event_faults(expected: Counter[str], found: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Faults of the whole log, the oldest first."""
    kinds = Counter(event["kind"] for event in found)
    for kind in sorted(expected.keys() | kinds.keys()):
        if kinds[kind] != expected[kind]:
            yield f"{kinds[kind]} events {kind}, not {expected[kind]}"
    ids = [event["id"] for event in found]
    if any(after <= before for before, after in pairwise(ids)):
        yield "the events' ids do not rise"


def follower_faults(followed: Sequence[int], found: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """A follower of the event stream got each event once, in order."""
    ids = [event["id"] for event in found]
    if list(followed) != ids:
        missed, extra = set(ids) - set(followed), set(followed) - set(ids)
        yield f"the stream told {len(followed)} of {len(ids)} events; -{missed} +{extra}"


def version_faults(
    name: str, known: AdapterHistory, versions: Sequence[Mapping[str, Any]]
) -> Iterator[str]:
    """Every version exists, in its expected state."""
    states = {item["number"]: item["state"] for item in versions}
    if states.keys() != known.versions.keys():
        yield f"{name} has versions {sorted(states)}, not {sorted(known.versions)}"
    for number in known.versions:
        wanted = "ready"
        if known.is_retired(number):
            wanted = "purged" if known.retirements[number][-1].purged else "retired"
        if states.get(number) != wanted:
            yield f"{name}:{number} is {states.get(number)}, not {wanted}"


def alias_faults(
    name: str, alias: str, known: AdapterHistory, states: Sequence[Mapping[str, Any]]
) -> Iterator[str]:
    """`states`: its history, the newest first."""
    found = [{each["version"]: each["weight"] for each in state["weights"]} for state in states]
    wanted = [meaning.weights for meaning in reversed(known.aliases[alias])]
    if found != wanted:
        yield f"{name}@{alias} was {found}, not {wanted}"


def store_faults(world: World, stored: int) -> Iterator[str]:
    """`stored`: the number of versions whose files are in the store."""
    wanted = world.stored()
    if stored != len(wanted):
        yield f"the store has the files of {stored} versions, not of {len(wanted)}"
