"""What runs inside vLLM's worker process: loads beside the step loop, moves that we decide.

vLLM imports this module in each worker before the model loads, because the server sets
`worker_extension_cls="engine.worker.AdapterCacheExtension"`.

Internals of vLLM that it touches (all present in 0.26.0 to 0.33.0; tested: 0.32.0 CPU):
- `vllm.v1.worker.lora_model_runner_mixin.LRUCacheWorkerLoRAManager`, looked up there by name;
- `LRUCacheWorkerLoRAManager`: `_manager_cls`, `_adapter_manager`, `_load_adapter`;
- `LRUCacheLoRAModelManager`: `_registered_adapters`, `_active_adapters` (with `.order`),
  `lora_index_to_id`, `_create_merged_loras_inplace`, `activate_adapter`, `deactivate_adapter`,
  `remove_adapter`, `capacity`; `LoRAModel.loras`;
- the worker's `model_runner.lora_manager`, `add_lora`, `remove_lora`.

Remote calls carry primitives only and never raise: with tensor parallelism one exception would
leave the other ranks' answers in the pipe for the next call.
"""

import functools
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import torch
import vllm.v1.worker.lora_model_runner_mixin as runner_mixin
from vllm.lora.lora_model import LoRAModel
from vllm.lora.model_manager import LRUCacheLoRAModelManager
from vllm.lora.request import LoRARequest
from vllm.lora.worker_manager import LRUCacheWorkerLoRAManager

from engine.cpu_repairs import repair

_LOADER_THREADS = 2
_LOADER_NAME = "adaptry-load"


class ControlledModelManager(LRUCacheLoRAModelManager):  # type: ignore[misc]  # vLLM is untyped here
    """vLLM's tiers, but during our moves nothing is evicted that we didn't name."""

    adaptry_moving = False

    def activate_adapter(self, lora_id: int) -> bool:
        """Copy into a free slot. During our moves a full GPU tier is an error, not an eviction."""
        needs_slot = self.adaptry_moving and lora_id not in self._active_adapters
        if needs_slot and None not in self.lora_index_to_id:
            raise RuntimeError("no free slot")
        try:
            return bool(super().activate_adapter(lora_id))
        except Exception:
            # 0.32 marks the slot before it copies: a half-copied adapter must not stay active
            self.deactivate_adapter(lora_id)
            raise


class ControlledWorkerManager(LRUCacheWorkerLoRAManager):  # type: ignore[misc]  # vLLM is untyped here
    """Counts the disk loads that vLLM does by itself inside a step. There should be none."""

    _manager_cls = ControlledModelManager
    adaptry_in_step_loads = 0

    def _load_adapter(self, lora_request: LoRARequest) -> LoRAModel:
        if not threading.current_thread().name.startswith(_LOADER_NAME):
            self.adaptry_in_step_loads += 1
        return super()._load_adapter(lora_request)


class _Staging:
    """Adapters on their way in: read and packed by a thread, in no tier yet."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(_LOADER_THREADS, thread_name_prefix=_LOADER_NAME)
        self._loads: dict[int, tuple[LoRARequest, Future[LoRAModel]]] = {}

    def start(self, manager: ControlledWorkerManager, request: LoRARequest) -> None:
        load = self._pool.submit(_read_and_pack, manager, request)
        self._loads[request.lora_int_id] = (request, load)

    def state(self, lora_id: int) -> str:
        """`loading`, `staged`, or `failed: reason` (told once)."""
        if lora_id not in self._loads:
            return "failed: not being loaded"
        _, load = self._loads[lora_id]
        if not load.done():
            return "loading"
        if (error := load.exception()) is None:
            return "staged"
        del self._loads[lora_id]
        return f"failed: {type(error).__name__}: {error}"

    def take(self, lora_id: int) -> tuple[LoRARequest, LoRAModel]:
        request, load = self._loads.pop(lora_id)
        return request, load.result(timeout=0)


def _read_and_pack(manager: ControlledWorkerManager, request: LoRARequest) -> LoRAModel:
    """All of vLLM's `add_adapter` that touches neither tier: file to packed (pinned) tensors."""
    lora = manager._load_adapter(request)
    manager._adapter_manager._create_merged_loras_inplace(lora)
    return lora


def _never_raises(call: Callable[..., Any]) -> Callable[..., dict[str, Any]]:
    @functools.wraps(call)
    def answer(*args: Any) -> dict[str, Any]:
        try:
            return {"value": call(*args)}
        except Exception as error:
            return {"error": f"{type(error).__name__}: {error}"}

    return answer


class AdapterCacheExtension:
    """Mixed into vLLM's worker class. Every method runs between two steps of the engine."""

    model_runner: Any

    @_never_raises
    def adaptry_load(self, lora_id: int, name: str, path: str) -> None:
        """Start reading and packing in the background.

        Asks neither tier: a copy that is in the host tier now may be about to be evicted.
        """
        request = LoRARequest(name, lora_id, path)
        self._adaptry_staging().start(self.model_runner.lora_manager, request)

    @_never_raises
    def adaptry_load_state(self, lora_ids: list[int]) -> list[str]:
        """How far each load is: `loading`, `staged` or `failed: reason`."""
        staging = self._adaptry_staging()
        return [staging.state(lora_id) for lora_id in lora_ids]

    @_never_raises
    def adaptry_apply(self, moves: list[list[Any]]) -> list[list[Any]]:
        """Carry out `[verb, lora_id]` moves in order; `[seconds, error or None]` for each."""
        tiers = self._adaptry_tiers()
        tiers.adaptry_moving = True
        try:
            return [self._adaptry_move(verb, lora_id) for verb, lora_id in moves]
        finally:
            tiers.adaptry_moving = False

    @_never_raises
    def adaptry_truth(self) -> dict[str, Any]:
        """Both tiers in vLLM's LRU order, host bytes of each adapter as pairs, in-step loads."""
        tiers = self._adaptry_tiers()
        host = tiers._registered_adapters
        return {
            "gpu": list(tiers._active_adapters.order),
            "host": list(host.order),
            "size_bytes": [[lora_id, _host_bytes(host.cache[lora_id])] for lora_id in host.order],
            "in_step_loads": self.model_runner.lora_manager.adaptry_in_step_loads,
        }

    # ---- the same object, not for remote calls ----------------------------------------------

    def _adaptry_tiers(self) -> ControlledModelManager:
        tiers: ControlledModelManager = self.model_runner.lora_manager._adapter_manager
        return tiers

    def _adaptry_staging(self) -> _Staging:
        # vLLM mixes this class in without calling its __init__
        if "_adaptry_staging_area" not in self.__dict__:
            self._adaptry_staging_area = _Staging()
            self._adaptry_requests: dict[int, LoRARequest] = {}
        return self._adaptry_staging_area

    def _adaptry_move(self, verb: str, lora_id: int) -> list[Any]:
        started = time.perf_counter()
        try:
            self._adaptry_carry_out(verb, lora_id)
        except Exception as error:
            return [time.perf_counter() - started, f"{type(error).__name__}: {error}"]
        return [time.perf_counter() - started, None]

    def _adaptry_carry_out(self, verb: str, lora_id: int) -> None:
        tiers, staging = self._adaptry_tiers(), self._adaptry_staging()
        match verb:
            case "commit":
                request, lora = staging.take(lora_id)
                if lora_id in tiers._registered_adapters:
                    raise RuntimeError("is in the host tier already")
                if len(tiers) >= tiers.capacity:
                    raise RuntimeError("the host tier is full")
                tiers._registered_adapters[lora_id] = lora
                self._adaptry_requests[lora_id] = request
            case "activate":
                if lora_id not in tiers._registered_adapters:
                    raise RuntimeError("not in the host tier")
                if lora_id in tiers._active_adapters:
                    raise RuntimeError("is in a slot already")
                self.model_runner.add_lora(self._adaptry_requests[lora_id])
            case "deactivate":
                if not tiers.deactivate_adapter(lora_id):
                    raise RuntimeError("was in no slot")
            case "evict":
                self._adaptry_requests.pop(lora_id, None)
                if not self.model_runner.remove_lora(lora_id):
                    raise RuntimeError("was not in the host tier")
            case _:
                raise ValueError(f"unknown move {verb!r}")


def _host_bytes(lora: LoRAModel) -> int:
    return sum(_tensor_bytes((w.lora_a, w.lora_b)) for w in lora.loras.values())


def _tensor_bytes(value: torch.Tensor | Iterable[Any] | None) -> int:
    if value is None:
        return 0
    if isinstance(value, torch.Tensor):
        return int(value.numel() * value.element_size())
    return sum(_tensor_bytes(item) for item in value)


repair()
runner_mixin.LRUCacheWorkerLoRAManager = ControlledWorkerManager
