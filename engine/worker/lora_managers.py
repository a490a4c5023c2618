"""LoRA managers: vLLM's own, minus the decisions on evictions and on reading files."""

import copy
import functools
import logging
import threading
from collections.abc import Iterable
from concurrent.futures import Future
from typing import Any

import torch
import vllm.v1.worker.lora_model_runner_mixin as runner_mixin
from vllm.lora import worker_manager
from vllm.lora.lora_model import LoRAModel
from vllm.lora.model_manager import LRUCacheLoRAModelManager
from vllm.lora.peft_helper import PEFTHelper
from vllm.lora.request import LoRARequest
from vllm.lora.worker_manager import LRUCacheWorkerLoRAManager

from engine.host_memory import available_bytes
from engine.load_threads import LoadThreads
from engine.worker.arena import HostArena, block_bytes
from engine.worker.classification_heads import find_heads, write_heads
from engine.worker.host_image import ImageLoRA, ImageReader
from engine.worker.layer_aliases import rewire_aliases
from engine.worker.layout_tracer import stacked_tensors
from engine.worker.lora_modules import takes_both_forms
from engine.worker.safetensors_file import holds_mixtures
from engine.worker.slot_writer import SlotWriter, slot_writer

logger = logging.getLogger(__name__)

_LOADER_NAME = "adaptry-load"
_SHARE_OF_AVAILABLE = 4
_IN_STAGING = 2  # adapters that are loaded while the host tier is full


class ControlledModelManager(LRUCacheLoRAModelManager):  # type: ignore[misc]  # vLLM is untyped here
    """vLLM's tiers, except that our moves evict nothing but what they name."""

    adaptry_moving = False

    def _create_lora_modules(self) -> None:
        super()._create_lora_modules()
        rewire_aliases(self.model, self.modules.values())

    @functools.cached_property
    def adaptry_slot_writer(self) -> SlotWriter:
        """Created before the first load: see `Staging.start`."""
        return slot_writer(self.device)

    @functools.cached_property
    def adaptry_heads(self) -> list[tuple[str, Any]]:
        return find_heads(self)

    def activate_adapter(self, lora_id: int) -> bool:
        """Copy into a free slot. During our moves a full GPU tier is an error, not an eviction."""
        if lora_id in self._active_adapters:  # each step asks for each of its adapters
            self._active_adapters.touch(lora_id)
            return False
        if self.adaptry_moving and None not in self.lora_index_to_id:
            raise RuntimeError("no free slot")
        lora = self._registered_adapters.get(lora_id)
        if isinstance(lora, ImageLoRA):
            return self._adaptry_activate(lora)
        try:
            return bool(super().activate_adapter(lora_id))
        except Exception:
            # 0.32 marks the slot before it copies: a half-copied adapter must not stay active
            self.deactivate_adapter(lora_id)
            raise

    def _adaptry_activate(self, image: ImageLoRA) -> bool:
        if None not in self.lora_index_to_id:
            self._active_adapters.remove_oldest()  # as vLLM does when the decision is its own
        slot = self.lora_index_to_id.index(None)
        self.adaptry_slot_writer.write(slot, image)
        write_heads(self, self.adaptry_heads, slot, image)
        self.lora_index_to_id[slot] = image.id
        self._active_adapters[image.id] = None
        self._active_adapters.touch(image.id)
        return True


class ActivatedPEFTHelper(PEFTHelper):  # type: ignore[misc]  # vLLM is untyped here
    """vLLM's, which refuses an activated adapter since 0.27: here its tokens are masked instead.

    Only for engines that serve them: inspection refuses them for all others, before any load.
    """

    def validate_legal(self, lora_config: Any) -> None:
        plain = copy.copy(self)
        plain.alora_invocation_tokens = None
        super(ActivatedPEFTHelper, plain).validate_legal(lora_config)


class ControlledWorkerManager(LRUCacheWorkerLoRAManager):  # type: ignore[misc]  # vLLM is untyped here
    """Counts disk loads that vLLM starts on its own inside a step. There should be none."""

    _manager_cls = ControlledModelManager
    adaptry_in_step_loads = 0

    def add_adapter(self, lora_request: LoRARequest) -> bool:
        """Asked for by each step for each of its adapters, which nearly always are in their slots.

        vLLM (0.26 to 0.33) lists the host tier for each, to see whether it is there.
        """
        tiers, lora_id = self._adapter_manager, lora_request.lora_int_id
        if lora_id not in tiers._active_adapters or lora_request.load_inplace:
            return bool(super().add_adapter(lora_request))
        tiers._registered_adapters.touch(lora_id)
        tiers.activate_adapter(lora_id)
        return True

    def list_adapters(self) -> set[int]:
        """The ids in the host tier; vLLM copies its table twice for that."""
        return set(self._adapter_manager._registered_adapters.order)

    def _load_adapter(self, lora_request: LoRARequest) -> LoRAModel:
        if not threading.current_thread().name.startswith(_LOADER_NAME):
            self.adaptry_in_step_loads += 1
            logger.error("%s is read from disk inside an engine step", lora_request.lora_name)
        return super()._load_adapter(self._adaptry_with_form(lora_request))

    def _adaptry_with_form(self, request: LoRARequest) -> LoRARequest:
        """vLLM has to be told the form of an adapter for experts, where it takes both forms."""
        if not takes_both_forms(self._adapter_manager) or not holds_mixtures(request.lora_path):
            return request
        return LoRARequest(
            request.lora_name, request.lora_int_id, request.lora_path, is_3d_lora_weight=True
        )


class Staging:
    """Staging area: adapters read by a thread that are in no tier yet. Each load has a number."""

    def __init__(self) -> None:
        self.arena = HostArena(pinned=torch.cuda.is_available())
        self.reader = ImageReader(self.arena)
        self.threads = LoadThreads(_LOADER_NAME)
        self._loads: dict[int, Future[LoRAModel]] = {}

    def start(
        self, number: int, manager: ControlledWorkerManager, request: LoRARequest
    ) -> "Future[LoRAModel]":
        """Raises ThreadsStalled."""
        # created here, so that two loads can't both create it
        _ = manager._adapter_manager.adaptry_slot_writer
        load = self.threads.submit(request.lora_path, self._load, manager, request)
        self._loads[number] = load
        return load

    def _load(self, manager: ControlledWorkerManager, request: LoRARequest) -> LoRAModel:
        image = self.reader.read(manager, request)
        return image if image is not None else _read_and_pack(manager, request)

    def discard(self, number: int) -> None:
        """Drop a load that is no longer needed. Its thread may hang for ever."""
        if (load := self._loads.pop(number, None)) is not None:
            self.threads.abandon(load)

    def take(self, number: int) -> LoRAModel:
        return self._loads.pop(number).result(timeout=0)


def _read_and_pack(manager: ControlledWorkerManager, request: LoRARequest) -> LoRAModel:
    """vLLM's `add_adapter` without its changes to the tiers: file to packed (pinned) tensors."""
    lora = manager._load_adapter(request)
    manager._adapter_manager._create_merged_loras_inplace(lora)
    return lora


def host_bytes(lora: LoRAModel) -> int:
    """Host memory that it takes on this rank."""
    if isinstance(lora, ImageLoRA):
        return lora.block.length
    return sum(_tensor_bytes((w.lora_a, w.lora_b)) for w in lora.loras.values())


def sizes_in_host(tiers: ControlledModelManager) -> list[list[int]]:
    """The id and host bytes of each adapter, in vLLM's LRU order."""
    held = tiers._registered_adapters.cache  # a copy each time
    return [[lora_id, host_bytes(held[lora_id])] for lora_id in held]


def _tensor_bytes(value: torch.Tensor | Iterable[Any] | None) -> int:
    if value is None:
        return 0
    if isinstance(value, torch.Tensor):
        return int(value.numel() * value.element_size())
    return sum(_tensor_bytes(item) for item in value)


def reservation_bytes(tiers: Any, parallel: Any, host_bytes: int | None) -> int:
    """Pinned memory to reserve at the start, so that no load has to wait for an allocation.

    Room for the largest adapters, as many as the host tier has places, and for those in staging.
    Within the tier's budget of bytes, if that is less, and all ranks together at most a quarter of
    the memory available now, in a container within its limit: the arena can still grow. Whole
    adapters; nothing where that holds none: a piece for one would take more than is there.

    `parallel`: vLLM's `ParallelConfig`.
    """
    ranks = parallel.world_size  # tensor parallel times pipeline parallel
    largest = largest_bytes(tiers, ranks)
    wanted = largest * tiers.capacity
    if host_bytes is not None:
        wanted = min(wanted, host_bytes // ranks)
    most = available_bytes() // _SHARE_OF_AVAILABLE // ranks
    # the arena rounds up to whole adapters: the last one of a part would not be within it
    return int(min(wanted + largest * _IN_STAGING, most // largest * largest))


def largest_bytes(tiers: Any, ranks: int) -> int:
    """Of an adapter that fills its slot, as a block of the arena.

    A rank keeps about what its slot holds, but up to a third more with several ranks: see
    `read_plan`.
    """
    slot_bytes = sum(t[0].numel() * t.element_size() for t in stacked_tensors(tiers))
    return block_bytes(int(slot_bytes if ranks == 1 else slot_bytes * 4 // 3))


def warm_slot_writer(tiers: Any, parallel: Any) -> None:
    """So that the first loads after a start are as fast as later ones."""
    stacked = stacked_tensors(tiers)
    if not stacked:  # adapters of experts alone, which take vLLM's own path
        return
    size_bytes = largest_bytes(tiers, parallel.world_size)
    tiers.adaptry_slot_writer.warm(stacked[0].dtype, size_bytes)


def install() -> None:
    """Make vLLM create these managers. Call before it loads the model."""
    runner_mixin.LRUCacheWorkerLoRAManager = ControlledWorkerManager
    worker_manager.PEFTHelper = ActivatedPEFTHelper
