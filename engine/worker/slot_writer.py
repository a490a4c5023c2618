"""Slot writers: copy an adapter from host memory into a slot."""

import contextlib
import threading
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

import torch
from cachetools import LRUCache

from engine.worker.host_image import MAX_KINDS, ImageLoRA
from engine.worker.slot_layout import SlotLayout

_SHARE_OF_FREE = 2
"""Of the device's memory that vLLM leaves free: its steps may take some of it later."""

Compiled = TypeVar("Compiled")


class SlotWriter(Protocol):
    """Copies images into slots."""

    def warm(self, slots: torch.dtype, size_bytes: int) -> None:
        """At the start, what the first loads would wait for. `size_bytes`: of a whole slot."""

    def prepare(self, image: ImageLoRA) -> None:
        """The work that can run in the background, once the file has been read."""

    def write(self, slot: int, image: ImageLoRA) -> None: ...


class HostSlotWriter:
    """For the CPU build: the image itself is scaled, and copied piece by piece."""

    def warm(self, slots: torch.dtype, size_bytes: int) -> None:
        pass

    def prepare(self, image: ImageLoRA) -> None:
        image.layout.create_views()
        image.sources = image.layout.sources(image.block.memory)
        image.sources.scale()

    def write(self, slot: int, image: ImageLoRA) -> None:
        if image.sources is None:
            raise RuntimeError("was not prepared")
        image.layout.write(slot, image.sources)


class ScatterCache(Generic[Compiled]):
    """What `compile_` returned for each layout, of the `MAX_KINDS` used last. Thread-safe.

    Used by loading threads only: each image refers to its own, so the step thread neither waits
    for a compilation nor finds its own evicted.
    """

    def __init__(self, compile_: Callable[[SlotLayout], Compiled]) -> None:
        self._compile = compile_
        self._compiled: LRUCache[SlotLayout, Compiled] = LRUCache(MAX_KINDS)
        self._lock = threading.Lock()

    def get(self, layout: SlotLayout) -> Compiled:
        """Compiled once: threads that need the same one wait for it."""
        with self._lock:
            compiled = self._compiled.get(layout)
            if compiled is None:
                compiled = self._compiled[layout] = self._compile(layout)
            return compiled


class CudaSlotWriter:
    """One copy to a staging buffer on a separate stream, then a scatter on the compute stream.

    The copy engine works beside the running step; only the scatter, within device memory, runs
    between two steps. Nothing here waits for the device.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream = torch.cuda.Stream(device)
        self._staging = torch.empty(0, dtype=torch.uint8, device=device)
        self._larger = self._staging  # allocated in the background, for the next write
        self._scattered = torch.cuda.Event()
        self._scatters: ScatterCache[_Scatter] = ScatterCache(
            lambda layout: _scatter_for(layout, device)
        )
        self._preparing = threading.Lock()

    def warm(self, slots: torch.dtype, size_bytes: int) -> None:
        """Kernels for the slots' dtype and for float32, which PEFT saves by default."""
        for source in {slots, torch.float32}:
            _compile(source, slots, self._device)
        free, _ = torch.cuda.mem_get_info(self._device)
        if _buffer_bytes(size_bytes) > free // _SHARE_OF_FREE:
            return  # smaller adapters may be all that come
        with contextlib.suppress(torch.OutOfMemoryError):
            self._reserve(size_bytes)

    def prepare(self, image: ImageLoRA) -> None:
        """The bytes stay unscaled: the device scales faster than the host."""
        with torch.cuda.device(self._device):
            image.scatter = self._scatters.get(image.layout)
        self._reserve(image.layout.size_bytes)

    def _reserve(self, size_bytes: int) -> None:
        with self._preparing, torch.cuda.device(self._device):
            if self._larger.numel() < size_bytes:
                size = _buffer_bytes(size_bytes)
                self._larger = torch.empty(size, dtype=torch.uint8, device=self._device)

    def write(self, slot: int, image: ImageLoRA) -> None:
        if image.scatter is None:
            raise RuntimeError("was not prepared")
        compute = torch.cuda.current_stream(self._device)
        larger = self._larger  # a load may replace it at any time by one that nothing waited for
        if self._staging is not larger:
            torch.cuda.synchronize(self._device)  # rare; the old buffer is about to be freed
            self._staging = larger
        staged = self._staging[: image.layout.size_bytes]
        with torch.cuda.stream(self._stream):
            self._stream.wait_event(self._scattered)
            staged.copy_(image.block.memory, non_blocking=True)
            image.last_read = torch.cuda.Event()
            image.last_read.record(self._stream)
        compute.wait_event(image.last_read)
        image.scatter.write(slot, staged)
        self._scattered.record(compute)


def _buffer_bytes(size_bytes: int) -> int:
    return 1 << (size_bytes - 1).bit_length()


class _Scatter(Protocol):
    def write(self, slot: int, image: torch.Tensor) -> None: ...


class _PieceByPiece:
    """For layouts that are not matrices in corners."""

    def __init__(self, layout: SlotLayout) -> None:
        layout.create_views()
        self._layout = layout

    def write(self, slot: int, image: torch.Tensor) -> None:
        sources = self._layout.sources(image)
        sources.scale()
        self._layout.write(slot, sources)


def _scatter_for(layout: SlotLayout, device: torch.device) -> _Scatter:
    pieces = layout.pieces()
    if pieces is None:
        return _PieceByPiece(layout)
    from engine.worker.scatter_kernel import SlotScatter  # noqa: PLC0415  # needs a GPU

    for dtype in {piece.source_dtype for piece in pieces}:
        _compile(dtype, pieces[0].stacked.dtype, device)
    return SlotScatter(pieces)


def _compile(source: torch.dtype, slots: torch.dtype, device: torch.device) -> None:
    from engine.worker.scatter_kernel import compile_for  # noqa: PLC0415  # needs a GPU

    with torch.cuda.device(device):
        compile_for(source, slots, device)


def slot_writer(device: torch.device) -> SlotWriter:
    return CudaSlotWriter(device) if device.type == "cuda" else HostSlotWriter()
