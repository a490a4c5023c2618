"""Slot writers: one compilation a layout from any number of threads, none on the step thread."""

import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from engine.worker import slot_writer as module
from engine.worker.host_image import MAX_KINDS
from engine.worker.slot_layout import Copy, SlotLayout, Source, Target
from engine.worker.slot_writer import CudaSlotWriter, HostSlotWriter, ScatterCache


class Layout:
    size_bytes = 8


def layouts(count: int) -> list[Any]:
    return [Layout() for _ in range(count)]


class NoDevice:
    """Stands in for what `CudaSlotWriter` takes from torch.cuda: one that does nothing."""

    def __init__(self, *_: Any) -> None:
        pass

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: Any) -> None:
        pass

    def record(self, stream: Any) -> None:
        pass

    def wait_event(self, event: Any) -> None:
        pass


@pytest.fixture
def compiled(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, str]]:
    """A writer's compilations, each with the name of its thread."""
    for name in ("Stream", "Event", "device", "stream", "current_stream"):
        monkeypatch.setattr(torch.cuda, name, NoDevice)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda *_: None)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (2048, 4096))
    found: list[tuple[Any, str]] = []

    def compile_(layout: Any, device: Any) -> Any:
        found.append((layout, threading.current_thread().name))
        return SimpleNamespace(write=lambda slot, image: None)

    monkeypatch.setattr(module, "_scatter_for", compile_)
    return found


def image_of(layout: Any, size_bytes: int = 8) -> Any:
    block = SimpleNamespace(memory=torch.zeros(size_bytes, dtype=torch.uint8))
    return SimpleNamespace(layout=layout, block=block, scatter=None, last_read=None)


def test_nothing_is_compiled_on_the_step_thread(compiled: list[tuple[Any, str]]) -> None:
    """Even for an adapter of more kinds ago than the cache holds."""
    writer = CudaSlotWriter(torch.device("cpu"))
    images = [image_of(layout) for layout in layouts(MAX_KINDS + 10)]
    with ThreadPoolExecutor(4, thread_name_prefix="load") as loading:
        list(loading.map(writer.prepare, images))
    for image in images:
        writer.write(0, image)
    assert len(compiled) == len(images)
    assert all(thread.startswith("load") for _, thread in compiled)


def test_an_image_that_was_not_prepared_is_refused(compiled: list[tuple[Any, str]]) -> None:
    with pytest.raises(RuntimeError, match="not prepared"):
        CudaSlotWriter(torch.device("cpu")).write(0, image_of(Layout()))
    assert compiled == []


def test_a_warm_writer_leaves_no_kernel_and_no_buffer_to_the_first_load(
    compiled: list[tuple[Any, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    kernels: list[tuple[torch.dtype, torch.dtype]] = []
    monkeypatch.setattr(module, "_compile", lambda *dtypes: kernels.append(dtypes[:2]))
    writer = CudaSlotWriter(torch.device("cpu"))
    writer.warm(torch.bfloat16, 1000)
    assert set(kernels) == {(torch.bfloat16, torch.bfloat16), (torch.float32, torch.bfloat16)}
    buffer = writer._larger
    assert buffer.numel() >= 1000
    writer.prepare(image_of(Layout()))
    assert writer._larger is buffer


def test_a_writer_without_room_for_the_largest_adapter_still_starts(
    compiled: list[tuple[Any, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def is_full(*_: Any, **__: Any) -> torch.Tensor:
        raise torch.OutOfMemoryError

    monkeypatch.setattr(module, "_compile", lambda *_: None)
    writer = CudaSlotWriter(torch.device("cpu"))
    with monkeypatch.context() as full:
        full.setattr(torch, "empty", is_full)
        writer.warm(torch.bfloat16, 1000)
    writer.prepare(image_of(Layout()))


@pytest.mark.parametrize(("size_bytes", "is_reserved"), [(1024, True), (1025, False)])
def test_a_warm_writer_leaves_half_of_the_free_memory_to_vllm(
    size_bytes: int,
    *,
    is_reserved: bool,
    compiled: list[tuple[Any, str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A slot may be far larger than any adapter that comes."""
    monkeypatch.setattr(module, "_compile", lambda *_: None)
    writer = CudaSlotWriter(torch.device("cpu"))
    writer.warm(torch.bfloat16, size_bytes)
    assert (writer._larger.numel() > 0) == is_reserved


def test_a_cache_that_threads_share_stays_whole() -> None:
    compiled: list[Any] = []

    def compile_(layout: Any) -> object:
        compiled.append(layout)
        return object()

    cache: ScatterCache[object] = ScatterCache(compile_)
    many = layouts(2 * MAX_KINDS)
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(8) as threads:
            list(threads.map(lambda n: cache.get(many[n * 7 % len(many)]), range(4000)))
    finally:
        sys.setswitchinterval(before)
    assert cache.get(many[0]) is cache.get(many[0])
    assert len(cache._compiled) == MAX_KINDS


def test_threads_that_need_the_same_layout_compile_it_once() -> None:
    compiled: list[Any] = []
    both = threading.Barrier(4)

    def compile_(layout: Any) -> object:
        compiled.append(layout)
        return object()

    cache: ScatterCache[object] = ScatterCache(compile_)
    layout = layouts(1)[0]

    def get(_: int) -> object:
        both.wait()
        return cache.get(layout)

    with ThreadPoolExecutor(4) as threads:
        found = set(threads.map(get, range(4)))
    assert len(compiled) == len(found) == 1


def test_a_buffer_is_not_written_to_before_the_device_was_waited_for(
    compiled: list[tuple[Any, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its memory may be that of others, whose work is under way."""
    writer = CudaSlotWriter(torch.device("cpu"))
    small, large = image_of(Layout()), image_of(Layout(), size_bytes=16)
    large.layout.size_bytes = 16
    writer.prepare(small)
    waited: list[torch.Tensor] = []

    def load_meanwhile(_: torch.device) -> None:
        waited.append(writer._larger)
        if len(waited) == 1:
            writer.prepare(large)

    monkeypatch.setattr(torch.cuda, "synchronize", load_meanwhile)
    for image in (small, small, large):
        writer.write(0, image)
        assert writer._staging is waited[-1]
    assert len(waited) == 2
    writer.prepare(large)
    assert writer._larger is waited[-1], "it is large enough"


def corner_layout(*, transposed: bool = False, scales: tuple[float, ...] = ()) -> SlotLayout:
    """One matrix of 4 by 2 in the corner of slots of 4 by 8."""
    stacked = torch.zeros(3, 4, 8)
    source = Source(torch.float32, (4, 2), (1, 4) if transposed else (2, 1), 0)
    whole = Target(stacked, (4, 8), (8, 1), 0)
    return SlotLayout(32, 2, [Copy(source, Target(stacked, (4, 2), (8, 1), 0), scales)], [whole])


def has_views(layout: SlotLayout) -> bool:
    return "_slots" in vars(layout)


def test_views_of_all_slots_are_created_in_the_background_and_only_where_they_are_used(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """They are most of what a kind of adapter takes of the host's memory."""
    monkeypatch.setattr(torch.cuda, "device", NoDevice)
    monkeypatch.setattr(module, "_compile", lambda *_: None)
    device = torch.device("cpu")
    by_kernel, by_piece, on_host = (corner_layout(transposed=n == 1) for n in range(3))
    module._scatter_for(by_kernel, device)
    module._scatter_for(by_piece, device)
    HostSlotWriter().prepare(image_of(on_host, size_bytes=32))
    assert [has_views(each) for each in (by_kernel, by_piece, on_host)] == [False, True, True]


class Order:
    """Stands in for the streams and events of a device: what waits for what, in order."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.log: list[str] = []
        log, events = self.log, iter(["scattered", "first", "second"])

        class Stream:
            def __init__(self, name: str) -> None:
                self.name = name

            def wait_event(self, event: Any) -> None:
                log.append(f"{self.name} waits for {event.name}")

        class Event:
            def __init__(self) -> None:
                self.name = next(events)

            def record(self, stream: Stream) -> None:
                log.append(f"{self.name} is after {stream.name}")

        compute = Stream("compute")
        monkeypatch.setattr(torch.cuda, "Event", Event)
        monkeypatch.setattr(torch.cuda, "Stream", lambda _: Stream("copies"))
        monkeypatch.setattr(torch.cuda, "current_stream", lambda _: compute)


def test_a_copy_waits_for_the_scatter_before_it_and_each_scatter_for_its_copy(
    compiled: list[tuple[Any, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """They share one staging buffer, and the block may be released once it was read."""
    order = Order(monkeypatch)
    scatter = SimpleNamespace(write=lambda slot, _: order.log.append(f"scatter to {slot}"))
    writer = CudaSlotWriter(torch.device("cpu"))
    images = [image_of(Layout()), image_of(Layout())]
    for slot, image in enumerate(images):
        writer.prepare(image)
        image.scatter = scatter
        writer.write(slot, image)
    assert order.log == [
        line
        for slot, copy in enumerate(("first", "second"))
        for line in (
            "copies waits for scattered",
            f"{copy} is after copies",
            f"compute waits for {copy}",
            f"scatter to {slot}",
            "scattered is after compute",
        )
    ]
    assert [image.last_read.name for image in images] == ["first", "second"]


def test_what_no_kernel_takes_is_scaled_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device", NoDevice)
    layout = corner_layout(transposed=True, scales=(2.0,))
    image = torch.arange(8, dtype=torch.float32).view(torch.uint8)
    module._scatter_for(layout, torch.device("cpu")).write(1, image)
    stacked = layout._copies[0].target.stacked
    assert stacked[1, :, :2].tolist() == [[0.0, 8.0], [2.0, 10.0], [4.0, 12.0], [6.0, 14.0]]
    assert not stacked[1, :, 2:].any()


def test_on_the_host_too_an_image_has_to_be_prepared() -> None:
    image = image_of(corner_layout(), size_bytes=32)
    image.sources = None
    with pytest.raises(RuntimeError, match="not prepared"):
        HostSlotWriter().write(0, image)
