"""Slot writers: copy an adapter from host memory into a slot."""

import threading
from typing import Protocol

import torch
from cachetools import LRUCache

from engine.worker.host_image import MAX_KINDS, ImageLoRA
from engine.worker.slot_layout import SlotLayout


class SlotWriter(Protocol):
    """Copies images into slots."""

    def prepare(self, image: ImageLoRA) -> None:
        """The work that can run in the background, once the file has been read."""

    def write(self, slot: int, image: ImageLoRA) -> None: ...


class HostSlotWriter:
    """For the CPU build: the image itself is scaled, and copied piece by piece."""

    def prepare(self, image: ImageLoRA) -> None:
        image.sources = image.layout.sources(image.block.memory)
        image.sources.scale()

    def write(self, slot: int, image: ImageLoRA) -> None:
        if image.sources is None:
            raise RuntimeError("was not prepared")
        image.layout.write(slot, image.sources)


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
        self._scatters: LRUCache[SlotLayout, _Scatter] = LRUCache(MAX_KINDS)
        self._preparing = threading.Lock()

    def prepare(self, image: ImageLoRA) -> None:
        """The bytes stay unscaled: the device scales faster than the host."""
        with self._preparing, torch.cuda.device(self._device):
            self._scatter_of(image.layout)
            if self._larger.numel() < image.layout.size_bytes:
                size = 1 << (image.layout.size_bytes - 1).bit_length()
                self._larger = torch.empty(size, dtype=torch.uint8, device=self._device)

    def write(self, slot: int, image: ImageLoRA) -> None:
        compute = torch.cuda.current_stream(self._device)
        scatter = self._scatter_of(image.layout)
        if self._staging is not self._larger:
            torch.cuda.synchronize(self._device)  # rare; the old buffer is about to be freed
            self._staging = self._larger
        staged = self._staging[: image.layout.size_bytes]
        with torch.cuda.stream(self._stream):
            self._stream.wait_event(self._scattered)
            staged.copy_(image.block.memory, non_blocking=True)
            image.last_read = torch.cuda.Event()
            image.last_read.record(self._stream)
        compute.wait_event(image.last_read)
        scatter.write(slot, staged)
        self._scattered.record(compute)

    def _scatter_of(self, layout: SlotLayout) -> "_Scatter":
        scatter = self._scatters.get(layout)
        if scatter is None:
            scatter = self._scatters[layout] = _scatter_for(layout, self._device)
        return scatter


class _Scatter(Protocol):
    def write(self, slot: int, image: torch.Tensor) -> None: ...


class _PieceByPiece:
    """For layouts that are not matrices in corners."""

    def __init__(self, layout: SlotLayout) -> None:
        self._layout = layout

    def write(self, slot: int, image: torch.Tensor) -> None:
        sources = self._layout.sources(image)
        sources.scale()
        self._layout.write(slot, sources)


def _scatter_for(layout: SlotLayout, device: torch.device) -> _Scatter:
    pieces = layout.pieces()
    if pieces is None:
        return _PieceByPiece(layout)
    from engine.worker.scatter_kernel import SlotScatter, compile_for  # noqa: PLC0415  # needs a GPU

    for dtype in {piece.source_dtype for piece in pieces}:
        compile_for(dtype, pieces[0].stacked.dtype, device)
    return SlotScatter(pieces)


def slot_writer(device: torch.device) -> SlotWriter:
    return CudaSlotWriter(device) if device.type == "cuda" else HostSlotWriter()
