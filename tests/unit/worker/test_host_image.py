"""Host images: one thread learns the layout of a new kind for all that arrive together."""

import re
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import pytest
from safetensors import SafetensorError

from engine.worker import host_image
from engine.worker.arena import HostArena
from engine.worker.host_image import ImageLoRA, ImageReader
from engine.worker.layout_tracer import Untraceable


def reader() -> ImageReader:
    return ImageReader(HostArena(pinned=False))


def of_kind(kind: str) -> Any:
    return SimpleNamespace(kind=kind)


def test_adapters_of_a_new_kind_that_arrive_together_are_traced_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    traced: list[str] = []

    def trace(adapter: Any, *_: Any) -> object:
        traced.append(adapter.kind)
        time.sleep(0.05)
        return object()

    monkeypatch.setattr(host_image, "_try_trace", trace)
    subject, together = reader(), threading.Barrier(8)

    def load(number: int) -> Any:
        together.wait()
        return subject._layout_of(of_kind("ab"[number % 2]), None, request("a"))

    with ThreadPoolExecutor(8) as threads:
        found = set(threads.map(load, range(8)))
    assert sorted(traced) == ["a", "b"]
    assert len(found) == 2


def test_who_waits_for_another_that_traces_its_kind_goes_on_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Not when its patience ends."""
    begun, traced = threading.Event(), []

    def trace(*_: Any) -> object:
        begun.set()
        time.sleep(0.05)
        traced.append(1)
        return object()

    monkeypatch.setattr(host_image, "_try_trace", trace)
    monkeypatch.setattr(host_image, "_PATIENCE_SECONDS", 1e6)
    subject = reader()
    with ThreadPoolExecutor(2) as threads:
        first = threads.submit(subject._layout_of, of_kind("a"), None, request("a"))
        assert begun.wait(60)
        second = threads.submit(subject._layout_of, of_kind("a"), None, request("b"))
        assert first.result(60) is second.result(60)
    assert traced == [1]


def test_a_file_that_hangs_keeps_no_other_of_its_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = threading.Event()

    def trace(_: Any, __: Any, request: Any) -> object:
        if request.lora_name == "hangs":
            answers.wait(60)
        return object()

    monkeypatch.setattr(host_image, "_try_trace", trace)
    monkeypatch.setattr(host_image, "_PATIENCE_SECONDS", 0.05)
    subject = reader()
    with ThreadPoolExecutor(1) as threads:
        hung = threads.submit(subject._layout_of, of_kind("a"), None, request("hangs"))
        while not subject._tracing:
            time.sleep(0.001)
        layout = subject._layout_of(of_kind("a"), None, request("works"))
        answers.set()
        assert hung.result(60) is layout
    assert not subject._tracing


def test_a_kind_whose_trace_failed_is_traced_again(monkeypatch: pytest.MonkeyPatch) -> None:
    def is_killed(*_: Any) -> Any:
        raise MemoryError

    subject = reader()
    with monkeypatch.context() as failing:
        failing.setattr(host_image, "_try_trace", is_killed)
        with pytest.raises(MemoryError):
            subject._layout_of(of_kind("a"), None, request("a"))
    monkeypatch.setattr(host_image, "_try_trace", lambda *_: None)
    assert subject._layout_of(of_kind("a"), None, request("a")) is None


@pytest.mark.parametrize(
    ("error", "is_of_the_kind"),
    [
        (OSError(5, "read failed"), False),
        (MemoryError("none left"), False),
        (SafetensorError("cut off meanwhile"), False),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried … bytes"), False),
        (RuntimeError("can't start new thread"), False),
        (RuntimeError("The size of tensor a (4) must match the size of tensor b (8)"), True),
        (Untraceable("why"), True),
    ],
)
def test_a_disk_that_fails_once_makes_no_kind_slow(
    error: Exception, *, is_of_the_kind: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = iter([error])

    def trace(*_: Any) -> object:
        for each in answers:
            raise each
        return object()

    monkeypatch.setattr(host_image, "trace", trace)
    adapter = SimpleNamespace(kind="a", tensors=dict, size_bytes=1)
    subject: Any = reader()
    if is_of_the_kind:
        assert subject._layout_of(adapter, None, request("a")) is None
    else:
        with pytest.raises(type(error), match=re.escape(str(error))):
            subject._layout_of(adapter, None, request("a"))
    assert (subject._layout_of(adapter, None, request("b")) is None) == is_of_the_kind


def test_a_load_that_is_read_alone_has_all_threads_and_many_share_them() -> None:
    subject = reader()
    subject._threads = 8
    with subject._share_of_threads() as first, subject._share_of_threads() as second:
        with subject._share_of_threads() as third:
            assert (first, second, third) == (8, 4, 2)
        assert subject._reading == 2
    with subject._share_of_threads() as alone:
        assert alone == 8


def request(name: str) -> Any:
    return SimpleNamespace(lora_name=name)


def test_a_block_that_a_device_still_reads_outlives_its_image() -> None:
    arena = HostArena(pinned=False, slab_bytes=2**16)
    layout: Any = SimpleNamespace(rank=1)
    image = ImageLoRA(1, layout, arena, arena.allocate(2**16))
    is_read = threading.Event()
    image.last_read = SimpleNamespace(query=is_read.is_set)
    del image
    assert arena.allocate(2**16).slab == 1
    is_read.set()
    assert arena.allocate(2**16).slab == 0


def test_more_loads_than_threads_read_with_one_each() -> None:
    subject = reader()
    subject._threads = 2
    with (
        subject._share_of_threads(),
        subject._share_of_threads(),
        subject._share_of_threads() as third,
    ):
        assert third == 1
