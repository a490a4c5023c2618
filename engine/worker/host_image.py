"""Host images: adapters in host memory as the bytes of their file that this rank needs."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from cachetools import LRUCache
from safetensors import SafetensorError
from vllm.exceptions import LoRAAdapterNotFoundError
from vllm.logger import init_logger
from vllm.lora.lora_model import LoRAModel
from vllm.lora.request import LoRARequest

from engine.worker.arena import Block, HostArena
from engine.worker.classification_heads import read_heads
from engine.worker.layout_tracer import trace
from engine.worker.parallel_read import choose_thread_count
from engine.worker.safetensors_file import OpenAdapter, open_adapter
from engine.worker.slot_layout import SlotLayout, SlotSources

logger = init_logger(__name__)

MAX_KINDS = 64
_PATIENCE_SECONDS = 5.0
"""For another thread that traces the same kind: its file may hang."""

_OF_ONE_FILE = (OSError, MemoryError, SafetensorError, LoRAAdapterNotFoundError)
"""What says nothing of other files of the same kind: those would take the slower path for ever."""
_OF_THE_MACHINE = ("out of memory", "allocate memory", "start new thread")  # RuntimeErrors of torch


class ImageLoRA(LoRAModel):  # type: ignore[misc]  # vLLM is untyped here
    """An entry of vLLM's host tier: one block of the arena, released when the entry is dropped."""

    def __init__(self, lora_id: int, layout: SlotLayout, arena: HostArena, block: Block) -> None:
        super().__init__(lora_id, layout.rank, {})
        self.layout = layout
        self.block = block
        self.sources: SlotSources | None = None  # if the slots are in host memory too
        self.scatter: Any = None  # if they are on a CUDA device: see `CudaSlotWriter.prepare`
        self.last_read: Any = None  # CUDA event after the last copy out of the block
        self._arena = arena

    def __del__(self) -> None:
        self._arena.release(self.block, self.last_read)


class ImageReader:
    """Reads files into the arena, with one layout for each kind of file. Thread-safe."""

    def __init__(self, arena: HostArena) -> None:
        self.untraceable = 0
        self._arena = arena
        self._layouts: LRUCache[str, SlotLayout | None] = LRUCache(MAX_KINDS)
        self._tracing: dict[str, threading.Event] = {}
        self._threads = choose_thread_count(with_device=arena.is_pinned)
        self._reading = 0
        self._lock = threading.Lock()

    def read(self, manager: Any, request: LoRARequest) -> ImageLoRA | None:
        """None if only vLLM itself can place this kind of file. Raises what vLLM raises."""
        with open_adapter(request.lora_path) as adapter:
            layout = self._layout_of(adapter, manager, request)
            if layout is None:
                self.untraceable += 1
                return None
            block = self._arena.allocate(layout.size_bytes)
            try:
                with self._share_of_threads() as threads:
                    adapter.read_into(block.memory, layout.reads, threads)
            except BaseException:
                self._arena.release(block)
                raise
            image = ImageLoRA(request.lora_int_id, layout, self._arena, block)
            image.modules_to_save = read_heads(layout, block.memory)
            manager._adapter_manager.adaptry_slot_writer.prepare(image)
            return image

    @contextmanager
    def _share_of_threads(self) -> Iterator[int]:
        """For one load: all threads if it is read alone, one of many read together."""
        with self._lock:
            self._reading += 1
            share = max(1, self._threads // self._reading)
        try:
            yield share
        finally:
            with self._lock:
                self._reading -= 1

    def _layout_of(
        self, adapter: OpenAdapter, manager: Any, request: LoRARequest
    ) -> SlotLayout | None:
        """Many adapters of a new kind can arrive together: one thread traces it for all."""
        traced = threading.Event()
        with self._lock:
            if adapter.kind in self._layouts:
                return self._layouts[adapter.kind]
            other = self._tracing.setdefault(adapter.kind, traced)
        if other is not traced and other.wait(_PATIENCE_SECONDS):
            with self._lock:
                if adapter.kind in self._layouts:
                    return self._layouts[adapter.kind]
        try:
            layout = _try_trace(adapter, manager, request)  # reads the file, which may hang
            with self._lock:
                found: SlotLayout | None = self._layouts.setdefault(adapter.kind, layout)
                return found
        finally:
            if other is traced:
                with self._lock:
                    del self._tracing[adapter.kind]
                traced.set()


def _try_trace(adapter: OpenAdapter, manager: Any, request: LoRARequest) -> SlotLayout | None:
    try:
        return trace(manager, request, adapter.tensors(), adapter.size_bytes)
    except Exception as reason:  # vLLM's own path works, or reports better what is wrong
        if isinstance(reason, _OF_ONE_FILE) or _is_of_the_machine(reason):
            raise
        logger.warning("%s takes vLLM's own, slower path: %r", request.lora_name, reason)
        return None


def _is_of_the_machine(reason: Exception) -> bool:
    text = str(reason).lower()
    return isinstance(reason, RuntimeError) and any(sign in text for sign in _OF_THE_MACHINE)
