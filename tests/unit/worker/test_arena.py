"""Arena: memory is reused, but never while the device still reads it."""

import random
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
import torch

from engine import host_memory
from engine.worker.arena import GRANULE_BYTES, Block, HostArena
from engine.worker.lora_managers import largest_bytes, reservation_bytes

SLAB = 64 * GRANULE_BYTES


class Reading:
    """A CUDA event after the last copy out of a block."""

    def __init__(self) -> None:
        self.is_over = False

    def query(self) -> bool:
        return self.is_over


def places(blocks: list[Block]) -> list[tuple[int, int, int]]:
    return sorted((block.slab, block.start, block.start + block.length) for block in blocks)


def assert_disjoint(blocks: list[Block]) -> None:
    for (slab, _, end), (next_slab, start, _) in zip(
        places(blocks), places(blocks)[1:], strict=False
    ):
        assert slab != next_slab or end <= start


def test_a_block_is_as_large_as_asked_and_writable() -> None:
    block = HostArena(pinned=False, slab_bytes=SLAB).allocate(1000)
    assert block.memory.shape == (1000,)
    assert block.length == GRANULE_BYTES
    block.memory.fill_(7)
    assert int(block.memory.sum()) == 7000


@pytest.mark.parametrize("wanted", [1, SLAB - 1, SLAB, SLAB + 1, 33 * SLAB, 48 * SLAB + 12345])
def test_only_powers_of_two_are_pinned_and_little_more_than_wanted(
    wanted: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Torch would round 33 slabs, in one piece, up to 64."""
    sizes: list[int] = []
    empty = torch.empty

    def allocate(size_bytes: int, **options: Any) -> torch.Tensor:
        sizes.append(size_bytes)
        return empty(size_bytes, **options)

    monkeypatch.setattr(torch, "empty", allocate)
    arena = HostArena(pinned=False, slab_bytes=SLAB)
    arena.reserve(wanted)
    arena.allocate(5 * SLAB // 2)
    assert all(size.bit_count() == 1 for size in sizes)
    reserved = sum(sizes[:-1] if wanted < 4 * SLAB else sizes)
    assert wanted <= reserved < wanted + SLAB
    assert len(sizes) <= wanted.bit_length() + 1


@pytest.mark.parametrize("count", range(1, 9))
@pytest.mark.parametrize("largest", [GRANULE_BYTES, SLAB - 1, SLAB + 1, 3 * SLAB, 5 * SLAB // 2])
def test_each_piece_has_room_for_the_largest_adapter(count: int, largest: int) -> None:
    """A last piece of one slab would hold none of three."""
    arena = HostArena(pinned=False, slab_bytes=SLAB)
    arena.reserve(count * largest, largest)
    reserved = arena.allocated_bytes
    sizes = [slab.numel() for slab in arena._slabs]
    assert count * largest <= reserved < count * largest + 4 * max(SLAB, largest)
    assert all(size >= largest and size.bit_count() == 1 for size in sizes)
    for _ in range(count):
        arena.allocate(largest)
    assert arena.allocated_bytes == reserved


def test_a_released_block_is_reused() -> None:
    arena = HostArena(pinned=False, slab_bytes=SLAB)
    for _ in range(100):
        arena.release(arena.allocate(SLAB // 2))
    assert arena.allocated_bytes == SLAB


def test_a_block_that_the_device_still_reads_is_not_reused() -> None:
    arena = HostArena(pinned=False, slab_bytes=SLAB)
    block, reading = arena.allocate(SLAB), Reading()
    arena.release(block, reading)
    assert arena.allocate(SLAB).slab != block.slab
    reading.is_over = True
    assert arena.allocate(SLAB).slab == block.slab


def test_a_block_larger_than_a_slab_has_a_slab_of_its_own() -> None:
    arena = HostArena(pinned=False, slab_bytes=SLAB)
    assert arena.allocate(3 * SLAB).memory.numel() == 3 * SLAB


def test_adjacent_holes_are_merged() -> None:
    arena = HostArena(pinned=False, slab_bytes=SLAB)
    blocks = [arena.allocate(SLAB // 4) for _ in range(4)]
    for block in (blocks[1], blocks[3], blocks[0], blocks[2]):
        arena.release(block)
    assert arena.allocate(SLAB).slab == 0
    assert arena.allocated_bytes == SLAB


def test_a_reservation_is_one_piece_and_is_used() -> None:
    arena = HostArena(pinned=False, slab_bytes=SLAB)
    arena.reserve(5 * SLAB)
    arena.reserve(4 * SLAB)
    assert arena.allocated_bytes == 5 * SLAB
    assert_disjoint([arena.allocate(SLAB) for _ in range(5)])
    assert arena.allocated_bytes == 5 * SLAB


class SlowPinning:
    """`torch.empty` that doesn't return until `done` is set."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.begun, self.done = threading.Event(), threading.Event()
        self._empty = torch.empty
        monkeypatch.setattr(torch, "empty", self._pin)

    def _pin(self, *args: Any, **options: Any) -> torch.Tensor:
        self.begun.set()
        assert self.done.wait(30)
        return self._empty(*args, **options)


def test_a_release_does_not_wait_until_a_slab_is_pinned(monkeypatch: pytest.MonkeyPatch) -> None:
    """The step thread releases blocks."""
    arena = HostArena(pinned=False, slab_bytes=SLAB)
    block = arena.allocate(SLAB // 2)
    slow = SlowPinning(monkeypatch)
    growing = threading.Thread(target=arena.allocate, args=[SLAB])
    growing.start()
    assert slow.begun.wait(30)
    releasing = threading.Thread(target=arena.release, args=[block])
    releasing.start()
    releasing.join(10)
    was_released = not releasing.is_alive()
    slow.done.set()
    growing.join()
    releasing.join()
    assert was_released


def test_a_load_that_fits_does_not_wait_until_a_slab_is_pinned(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    arena = HostArena(pinned=False, slab_bytes=SLAB)
    arena.allocate(SLAB // 2)
    slow = SlowPinning(monkeypatch)
    growing = threading.Thread(target=arena.allocate, args=[SLAB])
    growing.start()
    assert slow.begun.wait(30)
    fitting: list[Block] = []
    loading = threading.Thread(target=lambda: fitting.append(arena.allocate(SLAB // 4)))
    loading.start()
    loading.join(10)
    at_once = len(fitting)
    slow.done.set()
    growing.join()
    loading.join()
    assert at_once == 1
    assert arena.allocated_bytes == 2 * SLAB


def test_a_block_may_be_released_by_the_collector_inside_an_allocation(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As `__del__` of an image in a cycle would."""
    arena = HostArena(pinned=False, slab_bytes=SLAB)
    block = arena.allocate(SLAB // 2)
    fit = HostArena._best_fit

    def collect_and_fit(self: HostArena, length: int) -> tuple[int, int] | None:
        self.release(block)
        return fit(self, length)

    def allocate() -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(HostArena, "_best_fit", collect_and_fit)
            arena.allocate(SLAB // 4)

    allocating = threading.Thread(target=allocate, daemon=True)
    allocating.start()
    allocating.join(10)
    assert not allocating.is_alive()
    assert arena.allocate(SLAB // 2).start == 0


def test_threads_that_grow_it_together_pin_no_more_than_they_need() -> None:
    arena = HostArena(pinned=False, slab_bytes=SLAB)
    blocks: list[Block] = []
    threads = [
        threading.Thread(target=lambda: blocks.append(arena.allocate(SLAB // 4))) for _ in range(16)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert_disjoint(blocks)
    assert arena.allocated_bytes == 4 * SLAB


@pytest.mark.parametrize("seed", range(5))
def test_no_two_blocks_overlap_after_any_sequence(seed: int) -> None:
    chance = random.Random(seed)
    arena = HostArena(pinned=False, slab_bytes=SLAB)
    held: list[Block] = []
    for _ in range(200):
        if held and chance.random() < 0.5:
            arena.release(held.pop(chance.randrange(len(held))))
        else:
            held.append(arena.allocate(chance.randint(1, SLAB)))
        assert_disjoint(held)
    for block in held:
        arena.release(block)
    before = arena.allocated_bytes
    arena.allocate(SLAB)
    assert arena.allocated_bytes == before


# ---- how much is reserved -----------------------------------------------------------------


G = GRANULE_BYTES


def tiers(capacity: int, slot_bytes: int = 3 * G) -> Any:
    """One module, with this many bytes for each of its two slots."""
    stacked = torch.zeros(2, 1, 1, slot_bytes // 2, dtype=torch.bfloat16)
    module = SimpleNamespace(lora_a_stacked=(stacked,), lora_b_stacked=())
    return SimpleNamespace(
        modules={"layer": module}, lora_index_to_id=[None, None], capacity=capacity
    )


@pytest.mark.parametrize(
    ("tensor", "pipeline", "host_bytes", "available", "expected"),
    [
        (1, 1, None, 10**9, 36 * G),  # ten, and two in staging
        (2, 1, None, 10**9, 48 * G),  # of a file a rank reads what it needs, or a third more
        (1, 2, None, 10**9, 48 * G),
        (1, 1, 5 * G, 10**9, 11 * G),
        (2, 1, 5 * G, 10**9, 10 * G + G // 2),
        (2, 4, 8 * G, 10**9, 9 * G),
        (1, 1, 10**9, 10**9, 36 * G),  # a budget for more than there are places
        (1, 1, None, 20 * G, 3 * G),  # whole adapters in a quarter of what is available
        (2, 4, None, 256 * G, 8 * G),  # all ranks together
        (2, 4, 10**9, 256 * G, 8 * G),
    ],
)
def test_as_much_is_reserved_as_the_tier_can_hold(
    monkeypatch: pytest.MonkeyPatch,
    tensor: int,
    pipeline: int,
    host_bytes: int | None,
    available: int,
    expected: int,
) -> None:
    memory = SimpleNamespace(available=available)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: memory)
    parallel = SimpleNamespace(
        tensor_parallel_size=tensor,
        pipeline_parallel_size=pipeline,
        world_size=tensor * pipeline,
    )
    assert reservation_bytes(tiers(10), parallel, host_bytes) == expected


@pytest.mark.parametrize("slot_bytes", [2, 1000, G - 2, G + 2, 5 * G // 2, 3 * G])
@pytest.mark.parametrize("capacity", [1, 2, 7, 64, 1000])
def test_the_places_of_the_host_tier_are_reserved_however_small_adapters_are(
    slot_bytes: int, capacity: int
) -> None:
    """A block is whole granules: of tiny adapters, it takes many times their bytes."""
    filled = tiers(capacity, slot_bytes)
    parallel = SimpleNamespace(world_size=1)
    arena = HostArena(pinned=False)
    arena.reserve(reservation_bytes(filled, parallel, None), largest_bytes(filled, 1))
    reserved = arena.allocated_bytes
    held = [arena.allocate(slot_bytes) for _ in range(capacity)]
    assert_disjoint(held)
    assert arena.allocated_bytes == reserved


def test_a_container_with_less_memory_than_the_machine_counts(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """More would be pinned than it may have, and the kernel would end the engine."""
    for name, text in (("max", f"{40 * G}"), ("current", f"{16 * G}"), ("stat", "anon 1")):
        (tmp_path / f"memory.{name}").write_text(text)
    monkeypatch.setattr(host_memory, "CGROUP", tmp_path)
    parallel = SimpleNamespace(world_size=1)
    assert reservation_bytes(tiers(10), parallel, None) == 6 * G
