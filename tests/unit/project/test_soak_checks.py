"""Checks at the end of a soak: each kind of fault is found."""

import random
from collections import Counter
from pathlib import Path
from typing import Any

import httpx
import pytest
from safetensors.torch import load_file

from benchmarks.soak.checks import (
    EMPTY_WHEN_QUIET,
    STAY_AT_ZERO,
    Page,
    alias_faults,
    cache_faults,
    count_faults,
    event_faults,
    follower_faults,
    page_faults,
    quiet_faults,
    store_faults,
    version_faults,
)
from benchmarks.soak.history import AdapterHistory, Meaning
from benchmarks.soak.variants import CONTENTS, Content, Variants
from benchmarks.soak.version_history import Retirement
from benchmarks.soak.world import World
from demo.tasks import TASKS


def resident(number: int, **changes: Any) -> dict[str, Any]:
    plain = {"reference": f"a:{number}", "version_id": number, "leases": 0, "pinned": None}
    return {**plain, **changes}


def cache(**changes: Any) -> dict[str, Any]:
    tiers = {"gpu": [resident(1)], "host": [resident(1), resident(2)]}
    return {"slots": 2, "host_capacity": 3, "waiting": 0, "loading": [], **tiers, **changes}


ENGINE = {"gpu": [1], "host": [2, 1], "in_step_loads": 0}


def test_a_quiet_cache_has_no_faults() -> None:
    assert list(quiet_faults(cache(), ENGINE)) == []


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"slots": 0}, "1 adapters in 0 slots"),
        ({"host_capacity": 1}, "2 adapters in 1 places"),
        ({"host": [resident(2)]}, "not in host memory"),
        ({"slots": 1, "gpu": [resident(1, pinned="gpu")]}, "all slots are pinned"),
    ],
)
def test_a_cache_beyond_its_limits_is_found(changes: dict[str, Any], said: str) -> None:
    assert said in "\n".join(cache_faults(cache(**changes)))


@pytest.mark.parametrize(
    ("changes", "engine", "said"),
    [
        ({"gpu": [resident(1, leases=1)]}, {}, "leases without a request: ['a:1']"),
        ({"waiting": 1}, {}, "1 wait"),
        ({"loading": ["a:3"]}, {}, "load without a request"),
        ({}, {"gpu": [2]}, "the gpu tier has"),
        ({}, {"host": [1]}, "the host tier has"),
        ({}, {"in_step_loads": 1}, "1 loads inside a step"),
    ],
)
def test_unrest_and_drift_are_found(
    changes: dict[str, Any], engine: dict[str, Any], said: str
) -> None:
    assert said in "\n".join(quiet_faults(cache(**changes), {**ENGINE, **engine}))


@pytest.mark.parametrize("name", [*STAY_AT_ZERO, *EMPTY_WHEN_QUIET])
def test_a_series_other_than_0_is_found(name: str) -> None:
    kind = "counter" if name.endswith("_total") else "gauge"
    text = f"# TYPE {name} {kind}\n{name} "
    assert list(page_faults(Page(f"{text}0\n"))) == []
    [fault] = page_faults(Page(f"{text}2\n"))
    assert fault.startswith(f"{name} is 2")


# ---- counters ------------------------------------------------------------------------------

COUNTED = {
    "adaptry_registry_adapters": 1,
    'adaptry_ingest_ended_total{outcome="succeeded"}': 2,
    'adaptry_alias_moves_total{action="moved"}': 3,
    'adaptry_alias_moves_total{action="split"}': 1,
    'adaptry_requests_total{adapter="a",outcome="completed"}': 7,
    'adaptry_requests_total{adapter="_other",outcome="completed"}': 1,
    'adaptry_requests_total{adapter="a",outcome="cancelled"}': 1,
    'adaptry_requests_total{adapter="_unknown",outcome="refused"}': 1,
    'adaptry_requests_total{adapter="a",outcome="failed"}': 0,
    'adaptry_cache_lookups_total{tier="gpu",result="hit"}': 5,
    'adaptry_cache_lookups_total{tier="host",result="hit"}': 2,
    'adaptry_cache_lookups_total{tier="host",result="miss"}': 2,
}


def page(**changes: int) -> Page:
    """`changes`: amounts added to the series whose names contain the key."""
    kinds = sorted({name.partition("{")[0] for name in COUNTED})
    lines = [f"# TYPE {kind} counter" for kind in kinds if kind.endswith("_total")]
    for name, value in COUNTED.items():
        more = sum(number for part, number in changes.items() if part in name)
        lines.append(f"{name} {value + more}")
    return Page("\n".join(lines) + "\n")


@pytest.fixture
def world(tmp_path: Path) -> World:
    """Eight responses with an adapter and two without, one refusal, and two disconnects."""
    made = World(httpx.AsyncClient(), random.Random(1), Variants(tmp_path), names=["a"])
    made.done.update(
        {
            "register": 2,
            "request answered": 10,
            "  base model": 2,
            "request refused": 1,
            "request cancelled": 2,
            "cache gpu_hit": 4,
            "cache host_hit": 2,
            "cache miss": 2,
        }
    )
    made.events.update({"alias.moved": 3, "alias.split": 1})
    return made


def test_counters_that_agree_have_no_faults(world: World) -> None:
    assert list(count_faults(page(), world)) == []


@pytest.mark.parametrize(
    ("part", "more"),
    [
        ("registry_adapters", 1),
        ("succeeded", -1),
        ("moved", 1),
        ("split", -1),
        ("completed", -1),
        ("completed", 2),
        ("cancelled", 2),
        ("failed", 1),
        ("refused", -1),
        ("refused", 3),
        ("lookups", -2),
        ("lookups", 3),
    ],
)
def test_a_wrong_counter_is_found(world: World, part: str, more: int) -> None:
    assert list(count_faults(page(**{part: more}), world)) != []


# ---- the registry --------------------------------------------------------------------------


def events(*kinds: str) -> list[dict[str, Any]]:
    return [{"id": number, "kind": kind} for number, kind in enumerate(kinds, start=1)]


def test_missing_extra_or_misordered_events_are_found() -> None:
    expected = Counter({"alias.moved": 2, "version.registered": 1})
    whole = events("version.registered", "alias.moved", "alias.moved")
    assert list(event_faults(expected, whole)) == []
    assert list(event_faults(expected, whole[:2])) == ["1 events alias.moved, not 2"]
    assert list(event_faults(expected, [*whole, {"id": 4, "kind": "version.purged"}])) == [
        "1 events version.purged, not 0"
    ]
    assert list(event_faults(expected, whole[::-1])) == ["the events' ids do not rise"]


@pytest.mark.parametrize("followed", [[1, 2], [1, 2, 2, 3], [1, 3, 2], [1, 2, 3, 4]])
def test_a_stream_with_lost_repeated_or_misordered_events_is_found(followed: list[int]) -> None:
    told = events("alias.moved", "alias.moved", "alias.moved")
    assert list(follower_faults([1, 2, 3], told)) == []
    assert len(list(follower_faults(followed, told))) == 1


def adapter() -> AdapterHistory:
    contents = [Content(Path(name), TASKS["upper"]) for name in ("x", "y", "z")]
    return AdapterHistory(
        versions=dict(enumerate(contents, start=1)),
        aliases={"prod": [Meaning({1: 1}, 0, 5), Meaning({1: 9, 2: 1}, 4)]},
        retirements={2: [Retirement(1, 2)], 3: [Retirement(1, 2, purged=True)]},
    )


@pytest.mark.parametrize(
    ("states", "faults"),
    [
        (("ready", "retired", "purged"), 0),
        (("retired", "retired", "purged"), 1),
        (("ready", "ready", "purged"), 1),
        (("ready", "purged", "retired"), 2),
        (("ready", "retired"), 2),
        (("ready", "retired", "purged", "ready"), 1),
    ],
)
def test_a_lost_version_or_wrong_state_is_found(states: tuple[str, ...], faults: int) -> None:
    items = [{"number": n, "state": state} for n, state in enumerate(states, start=1)]
    assert len(list(version_faults("a", adapter(), items))) == faults


def test_a_wrong_alias_history_is_found() -> None:
    first = {"weights": [{"version": 1, "weight": 1}]}
    then = {"weights": [{"version": 2, "weight": 1}, {"version": 1, "weight": 9}]}
    assert list(alias_faults("a", "prod", adapter(), [then, first])) == []
    for wrong in ([first], [first, then], [then, then, first]):
        assert len(list(alias_faults("a", "prod", adapter(), wrong))) == 1


def test_lost_and_leftover_files_are_found(world: World) -> None:
    world.known["a"] = adapter()
    assert list(store_faults(world, 2)) == []
    assert len(list(store_faults(world, 1))) == 1
    assert len(list(store_faults(world, 3))) == 1


# ---- what is registered --------------------------------------------------------------------


def test_a_variant_has_other_bytes_and_the_same_product(tmp_path: Path) -> None:
    variants = Variants(tmp_path)
    made = [variants.next() for _ in range(3 * len(CONTENTS))]
    assert [each.folder for each in made[: len(CONTENTS)]] == [folder for folder, _ in CONTENTS]
    files = [each.folder / "adapter_model.safetensors" for each in made]
    assert len({file.read_bytes() for file in files}) == len(made)
    for first, later in zip(files, files[2 * len(CONTENTS) :], strict=False):
        plain, variant = load_file(first), load_file(later)
        assert plain.keys() == variant.keys()
        for name in (each for each in plain if ".lora_A." in each):
            b = name.replace(".lora_A.", ".lora_B.")
            assert (plain[b] @ plain[name]).equal(variant[b] @ variant[name])
