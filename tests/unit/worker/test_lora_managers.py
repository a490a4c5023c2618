"""LoRA managers: what a step costs for its adapters does not grow with the host tier."""

import sys
import threading
from types import FrameType, SimpleNamespace
from typing import Any

import psutil
import pytest
import torch
from vllm.lora.request import LoRARequest

from benchmarks.overhead.steps import SLOTS, create_managers
from engine.worker import lora_managers
from engine.worker.arena import HostArena
from engine.worker.lora_managers import (
    largest_bytes,
    reservation_bytes,
    sizes_in_host,
    warm_slot_writer,
)


class Calls:
    """Counts calls of Python functions, vLLM's too."""

    def __init__(self) -> None:
        self.count = 0

    def __enter__(self) -> "Calls":
        sys.setprofile(self._note)
        return self

    def __exit__(self, *_: object) -> None:
        sys.setprofile(None)

    def _note(self, frame: FrameType, event: str, _: object) -> None:
        self.count += event == "call"


@pytest.mark.parametrize("places", [SLOTS, 1024])
def test_a_step_asks_for_its_adapters_at_the_same_cost_with_more_host_places(places: int) -> None:
    worker, tiers = create_managers(places)
    requests = [LoRARequest(f"a{n}", n, "/a") for n in range(1, SLOTS + 1)]
    with Calls() as calls:
        for request in requests:
            assert worker.add_adapter(request)
    assert calls.count <= 12 * SLOTS
    assert list(tiers._active_adapters.order) == list(range(1, SLOTS + 1))


def test_what_a_step_asks_for_was_used_last_in_both_tiers() -> None:
    worker, tiers = create_managers(32)
    worker.add_adapter(LoRARequest("a3", 3, "/a"))
    assert list(tiers._active_adapters.order)[-1] == 3
    assert list(tiers._registered_adapters.order)[-1] == 3
    assert not tiers.activate_adapter(5)
    assert list(tiers._active_adapters.order)[-1] == 5


def test_the_sizes_of_all_in_host_memory_are_read_from_one_copy() -> None:
    _, tiers = create_managers(256)
    tiers._registered_adapters.touch(7)
    with Calls() as calls:
        sizes = sizes_in_host(tiers)
    assert sizes[-1] == [7, 0]
    assert len(sizes) == 256
    assert calls.count <= 20 * 256, "a copy for each takes 256 calls"


def test_the_host_tier_is_listed_without_a_call_for_each_adapter() -> None:
    worker, _ = create_managers(1024)
    with Calls() as calls:
        listed = worker.list_adapters()
    assert listed == set(range(1, 1025))
    assert calls.count <= 4


@pytest.mark.parametrize(("available_mib", "reserved_mib"), [(6, 0), (16, 4), (400, 16)])
def test_no_more_memory_is_reserved_than_there_is(
    monkeypatch: pytest.MonkeyPatch, available_mib: int, reserved_mib: int
) -> None:
    """What fills a slot takes 3 MiB, and a piece for it 4: of 6 MiB, too much."""
    memory = SimpleNamespace(available=available_mib * 2**20)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: memory)
    slots = torch.empty(2, 3 * 2**20, dtype=torch.uint8)
    monkeypatch.setattr(lora_managers, "stacked_tensors", lambda tiers: [slots])
    tiers, parallel = SimpleNamespace(capacity=3), SimpleNamespace(world_size=1)
    arena = HostArena(pinned=False, slab_bytes=2**20)
    wanted = reservation_bytes(tiers, parallel, None)
    arena.reserve(wanted, largest_bytes(tiers, 1))
    assert arena.allocated_bytes == reserved_mib * 2**20


def test_slots_of_experts_alone_leave_nothing_to_warm() -> None:
    """As with `--lora-target-modules experts`: theirs are not copied by our writer."""
    experts = SimpleNamespace(lora_a_stacked=[torch.zeros(8, 4)], lora_b_stacked=[])
    nothing: Any = SimpleNamespace(modules={"experts": experts}, lora_index_to_id=[None, None])
    warm_slot_writer(nothing, SimpleNamespace(world_size=1))
    assert reservation_bytes(
        SimpleNamespace(**vars(nothing), capacity=1), SimpleNamespace(world_size=1), None
    )


def test_what_vllm_reads_within_a_step_is_counted() -> None:
    worker, _ = create_managers(SLOTS)
    request = LoRARequest("absent", 99, "/absent")

    def load() -> None:
        with pytest.raises(AttributeError):  # there is no model to load it for
            worker._load_adapter(request)

    loader = threading.Thread(target=load, name="adaptry-load_0")
    loader.start()
    loader.join()
    assert worker.adaptry_in_step_loads == 0
    load()
    assert worker.adaptry_in_step_loads == 1
