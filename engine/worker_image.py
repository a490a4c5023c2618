"""Adapters in host memory as their file's bytes, and the copy from there into a slot."""

import threading
from typing import Any

import torch
from cachetools import LRUCache
from vllm.logger import init_logger
from vllm.lora.lora_model import LoRAModel
from vllm.lora.request import LoRARequest

from engine.worker_arena import Block, HostArena
from engine.worker_file import OpenAdapter, open_adapter
from engine.worker_layout import SlotLayout, SlotSources
from engine.worker_trace import trace

logger = init_logger(__name__)

_MAX_KINDS = 64


class ImageLoRA(LoRAModel):  # type: ignore[misc]  # vLLM is untyped here
    """What stands in vLLM's host tier: one block of the arena, given back when it is dropped."""

    def __init__(self, lora_id: int, layout: SlotLayout, arena: HostArena, block: Block) -> None:
        super().__init__(lora_id, layout.rank, {})
        self.layout = layout
        self.block = block
        self.last_read: Any = None  # CUDA event after the last copy out of the block
        self._arena = arena

    def __del__(self) -> None:
        self._arena.give_back(self.block, self.last_read)


class SlotWriter:
    """Copies images into slots on the device that the slots are on."""

    def write(self, slot: int, image: ImageLoRA) -> None:
        image.layout.write(slot, image.layout.sources(image.block.memory))


class CudaSlotWriter(SlotWriter):
    """One copy to a staging buffer, on a stream of its own, then a scatter on the compute stream.

    The copy engine works beside the running step; only the scatter, inside the device's own
    memory, stands between two steps. Nothing here waits for the device.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream = torch.cuda.Stream(device)
        self._staging = torch.empty(0, dtype=torch.uint8, device=device)
        self._scattered = torch.cuda.Event()
        self._views: LRUCache[SlotLayout, SlotSources] = LRUCache(_MAX_KINDS)

    def write(self, slot: int, image: ImageLoRA) -> None:
        layout, compute = image.layout, torch.cuda.current_stream(self._device)
        sources = self._sources(layout)
        with torch.cuda.stream(self._stream):
            self._stream.wait_event(self._scattered)
            self._staging[: layout.size_bytes].copy_(image.block.memory, non_blocking=True)
            image.last_read = torch.cuda.Event()
            image.last_read.record(self._stream)
        compute.wait_event(image.last_read)
        layout.scatter(slot, sources)
        self._scattered.record(compute)

    def _sources(self, layout: SlotLayout) -> SlotSources:
        if self._staging.numel() < layout.size_bytes:
            torch.cuda.current_stream(self._device).synchronize()
            self._staging = torch.empty(layout.size_bytes, dtype=torch.uint8, device=self._device)
            self._views.clear()
        if (views := self._views.get(layout)) is None:
            views = self._views[layout] = layout.sources(self._staging)
        return views


class ImageReader:
    """Reads files into the arena. One layout for each kind of file; safe to call side by side."""

    def __init__(self, arena: HostArena) -> None:
        self.untraceable = 0
        self._arena = arena
        self._layouts: LRUCache[str, SlotLayout | None] = LRUCache(_MAX_KINDS)
        self._tracing = threading.Lock()

    def read(self, manager: Any, request: LoRARequest) -> ImageLoRA | None:
        """None if only vLLM itself can place this kind of file. Raises what vLLM raises."""
        with open_adapter(request.lora_path) as adapter:
            layout = self._layout_of(adapter, manager, request)
            if layout is None:
                self.untraceable += 1
                return None
            block = self._arena.take(adapter.size_bytes)
            try:
                adapter.read_into(block.memory)
            except BaseException:
                self._arena.give_back(block)
                raise
            return ImageLoRA(request.lora_int_id, layout, self._arena, block)

    def _layout_of(
        self, adapter: OpenAdapter, manager: Any, request: LoRARequest
    ) -> SlotLayout | None:
        with self._tracing:
            if adapter.kind not in self._layouts:
                self._layouts[adapter.kind] = _traced(adapter, manager, request)
            return self._layouts[adapter.kind]


def _traced(adapter: OpenAdapter, manager: Any, request: LoRARequest) -> SlotLayout | None:
    try:
        return trace(manager, request, adapter.tensors(), adapter.size_bytes)
    except Exception as reason:  # vLLM's own way works, or says better what is wrong
        logger.warning("%s takes vLLM's own, slower way: %r", request.lora_name, reason)
        return None


def slot_writer(device: torch.device) -> SlotWriter:
    return CudaSlotWriter(device) if device.type == "cuda" else SlotWriter()
