"""Metrics of a scripted sequence on the real controller and a fake engine, counted by hand."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from engine.cache.controller import CacheController
from engine.cache.loader import Loader
from engine.errors import AdapterLoadFailed, EngineUnavailable, QueueFull
from engine.fake_backend import FakeBackend, UncheckedFiles
from engine.policy.policy import CachePolicy
from engine.telemetry.cache_gauges import CacheGauges, NamesOf
from engine.telemetry.metrics import CacheMetrics
from engine.telemetry.router_series import RouterSeries
from engine.types import AdapterVersion, AdmissionLimits, Tier, VersionId
from tests.support.cache.controller_harness import A, B, C, D, E, adapter, until


class Metered:
    """Two slots, three host places, two adapters with a label."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.registry = CollectorRegistry()
        self.metrics = CacheMetrics(
            self.registry, model_name="tiny", max_adapter_labels=2, clock=lambda: self.now
        )
        self.backend = FakeBackend(slots=2, host_capacity=3)
        self.controller = CacheController(
            CachePolicy(slots=2, host_capacity=3),
            self.backend,
            Loader(self.backend, UncheckedFiles(), pauses=()),
            self.metrics,
            AdmissionLimits(max_slot_wait_seconds=0.05, max_waiting=1),
        )
        self.names: dict[int, list[str]] = {}
        self.metrics.watch(self.controller.snapshot, lambda: 0, lambda v: self.names.get(v, ()))

    def __call__(self, name: str, **labels: str) -> float | None:
        return self.registry.get_sample_value(name, labels)

    async def use(self, *versions: AdapterVersion) -> None:
        for version in versions:
            async with self.controller.lease(version):
                pass
        # a certain move is reported shortly after its request has continued
        await until(lambda: len(self.backend.moves) == self.controller._executor.moves_submitted)
        await asyncio.sleep(0.005)


@pytest.fixture
async def metered() -> AsyncIterator[Metered]:
    made = Metered()
    running = asyncio.create_task(made.controller.run())
    yield made
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_lookups_evictions_and_loads(metered: Metered) -> None:
    """
    step   found   slots after   host after (least recently used first)
    A      miss    A             A
    A      hit     A             A
    B      miss    A B           A B
    C      miss    B C           A B C          A leaves its slot
    A      host    C A           B C A          B leaves its slot
    D      miss    A D           C A D          B leaves host memory, C its slot
    B      miss    D B           A D B          C leaves host memory, A its slot
    """
    await metered.use(A, A, B, C, A, D, B)
    count = metered
    lookups = "adaptry_cache_lookups_total"
    assert count(lookups, tier="gpu", result="hit") == 1
    assert count(lookups, tier="gpu", result="miss") == 6
    assert count(lookups, tier="host", result="hit") == 1
    assert count(lookups, tier="host", result="miss") == 5
    causes = {"cold": 4, "evicted": 1, "new_version": 0, "restart": 0}
    for cause, expected in causes.items():
        assert count("adaptry_cache_misses_total", cause=cause) == expected
    of_adapter = "adaptry_adapter_lookups_total"
    expected_of = {"a1": (1, 1, 1), "a2": (0, 0, 2), "_other": (0, 0, 2)}
    for name, found in expected_of.items():
        for result, expected in zip(("gpu_hit", "host_hit", "miss"), found, strict=True):
            assert count(of_adapter, adapter=name, result=result) == expected, (name, result)
    evictions = "adaptry_cache_evictions_total"
    assert count(evictions, tier="gpu", reason="capacity") == 4
    assert count(evictions, tier="host", reason="capacity") == 2
    left = "adaptry_adapter_evictions_total"
    for name, gpu, host in (("a1", 2, 0), ("a2", 1, 1), ("_other", 1, 1)):
        assert count(left, adapter=name, tier="gpu") == gpu
        assert count(left, adapter=name, tier="host") == host
    assert count("adaptry_load_seconds_count", transition="disk_to_host") == 5
    assert count("adaptry_load_seconds_count", transition="host_to_gpu") == 6
    assert count("adaptry_slot_wait_seconds_count") == 7
    kinds = {"looked_up": 7, "load_started": 5, "moved_in": 11, "evicted": 6, "refused": 0}
    for kind, expected in kinds.items():
        assert count("adaptry_decisions_total", kind=kind) == expected
    assert count("adaptry_resident", tier="gpu") == 2
    assert count("adaptry_resident", tier="host") == 3
    assert shown(metered) == {("a4:1", "gpu", "false", "8"), ("a2:1", "gpu", "false", "8")}


def shown(metered: Metered) -> set[tuple[str, ...]]:
    """The adapters in memory that have a series of their own."""
    families = [f for f in metered.registry.collect() if f.name == "vllm:lora_adapter_loaded"]
    return {tuple(sample.labels.values()) for sample in families[0].samples}


async def test_adapters_in_memory_have_series_of_their_own(metered: Metered) -> None:
    await metered.use(A, B)
    await metered.controller.evict(B)
    metered.controller.prefetch(B)
    metered.controller.prefetch(C)
    await until(lambda: metered("adaptry_resident", tier="host") == 3)
    in_slot = ("a1:1", "gpu", "false", "8")
    assert shown(metered) == {in_slot, ("a3:1", "cpu", "false", "8")}, "the last one used"
    await metered.controller.pin(B, Tier.HOST)
    assert shown(metered) == {in_slot, ("a2:1", "cpu", "true", "8")}, "what is pinned comes first"


def sets(metered: Metered) -> dict[str, str]:
    """Labels of the only series, as llm-d's router reads them."""
    families = [f for f in metered.registry.collect() if f.name == "vllm:lora_requests_info"]
    (sample,) = families[0].samples
    assert sample.value > 1.7e9, "a time"
    return sample.labels


async def test_routers_can_read_which_adapters_have_a_slot(metered: Metered) -> None:
    empty = {"max_lora": "2", "running_lora_adapters": "", "waiting_lora_adapters": ""}
    assert sets(metered) == empty
    await metered.use(A, B)
    metered.controller.prefetch(C)
    assert sets(metered) == empty | {
        "running_lora_adapters": "a1:1,a2:1",
        "waiting_lora_adapters": "a3:1",
    }
    await until(lambda: metered("adaptry_resident", tier="host") == 3)
    assert sets(metered)["waiting_lora_adapters"] == "", "what is in memory and not requested"


def affinity(metered: Metered, model: str) -> float:
    """What the gateway API's and llm-d's `lora-affinity-scorer` makes of a scrape.

    By its rule: of the series with the latest value, names are split at commas, and counted.
    """
    page = generate_latest(metered.registry).decode()
    family = "vllm:lora_requests_info"
    (found,) = (f for f in text_string_to_metric_families(page) if f.name == family)
    labels = max(found.samples, key=lambda sample: sample.value).labels
    running, waiting = (
        set(filter(None, labels[f"{kind}_lora_adapters"].split(",")))
        for kind in ("running", "waiting")
    )
    if model in running:
        return 1.0
    if len(running) + len(waiting) < int(labels["max_lora"]):
        return 0.8
    return 0.6 if model in waiting else 0.0


async def test_the_affinity_scorer_finds_an_adapter_by_each_of_its_names(metered: Metered) -> None:
    assert affinity(metered, "a1:1") == 0.8, "a slot is free"
    metered.names[A.id] = ["a1", "a1@prod", "Org/A 1", "a,b"]
    await metered.use(A)
    assert [affinity(metered, name) for name in ("a1", "a1@prod", "a1:1", "Org/A 1")] == [1.0] * 4
    assert affinity(metered, "a") == 0.0, "a name with a comma would be two"
    assert affinity(metered, "a2:1") == 0.0, "a name counts as an adapter"
    await metered.use(B)
    metered.names[C.id] = ["a3"]
    metered.controller.prefetch(C)
    assert [affinity(metered, name) for name in ("a2:1", "a3", "a3:1")] == [1.0, 0.6, 0.6]


async def test_what_is_in_memory_is_there_by_every_name_that_means_it(metered: Metered) -> None:
    """Of two versions behind one name, a traffic split, the one in a slot."""
    names = {A.id: ("both", "Org/A 1"), B.id: ("both",)}
    await metered.use(A, B, C)
    now = metered.controller.snapshot()
    cached = CacheGauges(
        lambda: now, lambda: 0, lambda: 0.0, list, 9, RouterSeries(""), names_of(names)
    )
    families = [f for f in cached.collect() if f.name == "vllm:lora_adapter_loaded"]
    each = [sample.labels for sample in families[0].samples]
    found = [(labels["adapter_name"], labels["level"]) for labels in each]
    assert len(found) == len(set(found)), "a page with one sample twice is refused"
    assert dict(found) == {
        **{"a2:1": "gpu", "a3:1": "gpu", "both": "gpu"},
        **{"a1:1": "cpu", "Org/A 1": "cpu"},
    }


def names_of(names: Mapping[VersionId, Sequence[str]]) -> NamesOf:
    return lambda version: names.get(version, ())


def as_routers_read(metered: Metered, name: str, **labels: str) -> float | None:
    return metered(f"vllm:{name}", model_name="tiny", engine="0", **labels)


async def test_routers_read_capacity_residency_and_costs_by_the_proposed_names(
    metered: Metered,
) -> None:
    """The sequence of the first test, as counted there."""
    before = {"num_gpu_loaded": 0, "num_cpu_loaded": 0, "max_gpu": 2}
    for name, expected in before.items():
        assert as_routers_read(metered, f"{name}_lora_adapters") == expected, "from the start"
    for tier in ("gpu", "cpu"):
        assert as_routers_read(metered, "lora_cache_lookups_total", tier=tier) == 0
    await metered.use(A, A, B, C, A, D, B)
    assert as_routers_read(metered, "num_gpu_loaded_lora_adapters") == 2
    assert as_routers_read(metered, "num_cpu_loaded_lora_adapters") == 3
    for tier, lookups, hits in (("gpu", 7, 1), ("cpu", 6, 1)):
        assert as_routers_read(metered, "lora_cache_lookups_total", tier=tier) == lookups
        assert as_routers_read(metered, "lora_cache_hits_total", tier=tier) == hits
    for transition, ours in (("load", "disk_to_host"), ("activate", "host_to_gpu")):
        for part in ("count", "sum"):
            name = f"lora_adapter_load_seconds_{part}"
            value = as_routers_read(metered, name, transition=transition)
            assert value == metered(f"adaptry_load_seconds_{part}", transition=ours)
            assert value or part == "sum", "a fake load takes no time"


async def test_routers_find_every_name_of_what_has_a_slot(metered: Metered) -> None:
    metered.names[A.id] = ["a1", "a1@prod", "Org/A 1", "two, names"]
    metered.names[C.id] = ["a3"]
    await metered.use(A, B)
    metered.controller.prefetch(C)
    found = sets(metered)
    assert found["running_lora_adapters"] == "a1:1,a1,a1@prod,Org/A 1,a2:1"
    assert found["waiting_lora_adapters"] == "a3:1,a3"


def slots(metered: Metered, state: str) -> float | None:
    return metered("adaptry_slots", state=state)


async def test_another_version_and_an_engine_that_was_replaced(metered: Metered) -> None:
    await metered.use(A, adapter(11, "a1"))
    assert metered("adaptry_cache_misses_total", cause="new_version") == 1
    assert (slots(metered, "free"), slots(metered, "down")) == (0, 0)
    await metered.controller.on_engine_lost(EngineUnavailable("gone"))
    assert (slots(metered, "free"), slots(metered, "down")) == (0, 2)
    metered.backend.gpu.clear()
    metered.backend.host.clear()
    metered.controller.on_engine_ready()
    assert (slots(metered, "free"), slots(metered, "down")) == (2, 0)
    await metered.use(A)
    assert metered("adaptry_cache_misses_total", cause="restart") == 1
    assert metered("adaptry_cache_misses_total", cause="cold") == 1
    assert metered("adaptry_decisions_total", kind="engine_lost") == 1
    assert metered("adaptry_decisions_total", kind="engine_ready") == 1


async def test_pins_budgets_and_operators(metered: Metered) -> None:
    for tier, budget in (("gpu", 1), ("host", 2)):
        assert metered("adaptry_pin_budget", tier=tier) == budget
    assert metered("adaptry_host_capacity") == 3
    assert metered("adaptry_host_bytes_limit") == float("inf")
    await metered.controller.pin(A, Tier.GPU)
    assert metered("adaptry_pins", tier="gpu") == 1
    names = {"adapter_name": "a1:1", "level": "gpu", "rank": "8"}
    assert metered("vllm:lora_adapter_loaded", pinned="true", **names) == 1
    assert metered("vllm:lora_adapter_loaded", pinned="false", **names) is None
    metered.controller.unpin(A.id)
    await metered.controller.evict(A)
    assert metered("adaptry_cache_evictions_total", tier="gpu", reason="requested") == 1
    assert metered("adaptry_cache_evictions_total", tier="host", reason="requested") == 1
    for kind in ("pinned", "unpinned"):
        assert metered("adaptry_decisions_total", kind=kind) == 1
    assert metered("adaptry_cache_lookups_total", tier="gpu", result="miss") == 0, "no request"


async def test_failures_and_refusals(metered: Metered) -> None:
    metered.backend.broken.add(A.id)
    with pytest.raises(AdapterLoadFailed):
        await metered.use(A)
    failures = "adaptry_load_failures_total"
    assert metered(failures, transition="disk_to_host", cause="adapter") == 1
    async with metered.controller.lease(B), metered.controller.lease(C):
        waiting = asyncio.create_task(metered.use(D))
        await until(lambda: metered("adaptry_queue_depth") == 1)
        with pytest.raises(QueueFull):
            await metered.use(E)
        await asyncio.sleep(0.02)
        oldest = metered("adaptry_oldest_wait_seconds")
        assert oldest is not None
        assert 0.02 <= oldest < 20
    await waiting
    assert metered("adaptry_oldest_wait_seconds") == 0
    assert metered("adaptry_decisions_total", kind="refused") == 2
    assert metered("adaptry_decisions_total", kind="load_failed") == 1


async def test_a_hot_adapter_that_drains_is_counted(metered: Metered) -> None:
    async with metered.controller.lease(A), metered.controller.lease(B):
        waiting = asyncio.create_task(metered.use(C))
        await until(lambda: metered("adaptry_drains_total") == 1)
    await waiting
    assert metered("adaptry_drains_total") == 1
    assert metered("adaptry_decisions_total", kind="drained") == 1


async def test_thrash_is_the_share_of_lookups_soon_after_an_eviction(metered: Metered) -> None:
    """Three adapters in rotation, in two slots: each is evicted before its next request."""
    assert metered("adaptry_thrash_ratio") == 0
    await metered.use(A, B, C)
    assert metered("adaptry_thrash_ratio") == 0, "these were cold"
    await metered.use(A, B, C)
    assert metered("adaptry_thrash_ratio") == 3 / 6
    await metered.use(C, C)
    assert metered("adaptry_thrash_ratio") == 3 / 8, "a hit is none"
    metered.now += 61
    await metered.use(A)
    assert metered("adaptry_thrash_ratio") == 3 / 9, "it had left long before"
    metered.now += 240
    assert metered("adaptry_thrash_ratio") == 0, "only the last one is in the window"
    metered.now += 100
    assert metered("adaptry_thrash_ratio") == 0


async def test_what_an_operator_evicted_does_not_thrash(metered: Metered) -> None:
    await metered.use(A)
    await metered.controller.evict(A)
    await metered.use(A)
    assert metered("adaptry_thrash_ratio") == 0
    assert metered("adaptry_cache_misses_total", cause="evicted") == 1
