"""Worker extension: our part of vLLM's worker process, which loads adapters and moves them.

Loads run beside the step loop; moves between the tiers run between two steps, as the controller
decides.

vLLM imports this module in each worker before the model loads, because the server sets
`worker_extension_cls="engine.worker.extension.AdapterCacheExtension"`.

Remote calls carry primitives only and never raise: with tensor parallelism an exception on one rank
would leave the other ranks' answers in the pipe for the next call.
"""

import functools
import time
from collections.abc import Callable
from typing import Any

from engine.activated_lora.block_keys import key_blocks
from engine.activated_lora.support import find_refusal
from engine.activated_lora.token_masks import mask_runner
from engine.worker.cpu_patches import apply_patches
from engine.worker.load_channel import LoadListener, describe_error
from engine.worker.logprob_ranks import count_ranks_uncompiled
from engine.worker.lora_managers import (
    ControlledModelManager,
    Staging,
    install,
    largest_bytes,
    reservation_bytes,
    sizes_in_host,
    warm_slot_writer,
)
from engine.worker.lora_modules import describe_modules
from engine.worker.module_names import place_tensors
from engine.worker.parent_watch import watch_parent
from engine.worker.prefix_hashes import remember_hashes


def _never_raises(call: Callable[..., Any]) -> Callable[..., dict[str, Any]]:
    @functools.wraps(call)
    def answer(*args: Any) -> dict[str, Any]:
        try:
            return {"value": call(*args)}
        except Exception as error:
            return {"error": describe_error(error)}

    return answer


class AdapterCacheExtension:
    """Mixed into vLLM's worker class. Every method runs between two steps of the engine."""

    model_runner: Any
    vllm_config: Any

    @_never_raises
    def adaptry_connect(self, path: str, host_bytes: int | None) -> None:
        """Listen for load requests on the socket at this path.

        `host_bytes`: the byte limit of the host tier, if it has one.
        """
        manager, staging = self.model_runner.lora_manager, self._adaptry_staging()
        if staging.arena.is_pinned:
            parallel = self.vllm_config.parallel_config
            tiers = manager._adapter_manager
            wanted = reservation_bytes(tiers, parallel, host_bytes)
            staging.arena.reserve(wanted, largest_bytes(tiers, parallel.world_size))
            warm_slot_writer(manager._adapter_manager, parallel)
        self._adaptry_activated_refusal = find_refusal(self.vllm_config, self.model_runner)
        if self._adaptry_activated_refusal is None:
            mask_runner(self.model_runner)
        self._adaptry_listener = LoadListener(path, staging, manager)

    @_never_raises
    def adaptry_apply(self, moves: list[list[Any]]) -> list[list[Any]]:
        """Carry out `[verb, lora_id, load]` moves in order.

        Returns `[seconds, error or None, slot or None]` for each. `load` is the number of the load
        that a commit takes.
        """
        tiers = self._adaptry_tiers()
        tiers.adaptry_moving = True
        try:
            return [self._adaptry_move(*move) for move in moves]
        finally:
            tiers.adaptry_moving = False

    @_never_raises
    def adaptry_state(self) -> dict[str, Any]:
        """Both tiers in vLLM's LRU order, host bytes of each adapter as pairs, in-step loads."""
        tiers, staging = self._adaptry_tiers(), self._adaptry_staging()
        return {
            "gpu": list(tiers._active_adapters.order),
            "host": list(tiers._registered_adapters.order),
            "size_bytes": sizes_in_host(tiers),
            "in_step_loads": self.model_runner.lora_manager.adaptry_in_step_loads,
            "untraceable_loads": staging.reader.untraceable,
            "arena_bytes": staging.arena.allocated_bytes,
        }

    @_never_raises
    def adaptry_modules(self) -> dict[str, Any]:
        """The modules that adapters may target; see `lora_modules`. After `adaptry_connect`."""
        return describe_modules(self._adaptry_tiers(), self._adaptry_activated_refusal)

    @_never_raises
    def adaptry_places(self, tensors: list[str]) -> list[str | None]:
        """Where these tensors of one adapter would be applied; see `module_names`."""
        return place_tensors(self._adaptry_tiers(), tensors)

    # ---- internal, not called remotely ----------------------------------------------

    def _adaptry_tiers(self) -> ControlledModelManager:
        tiers: ControlledModelManager = self.model_runner.lora_manager._adapter_manager
        return tiers

    def _adaptry_staging(self) -> Staging:
        # vLLM mixes this class in without calling its __init__
        if "_adaptry_staging_area" not in self.__dict__:
            self._adaptry_staging_area = Staging()
        return self._adaptry_staging_area

    def _adaptry_move(self, verb: str, lora_id: int, load: int) -> list[Any]:
        started = time.perf_counter()
        try:
            self._adaptry_carry_out(verb, lora_id, load)
        except Exception as error:
            return [time.perf_counter() - started, describe_error(error), None]
        seconds = time.perf_counter() - started
        slots = self._adaptry_tiers().lora_index_to_id
        return [seconds, None, slots.index(lora_id) if verb == "activate" else None]

    def _adaptry_carry_out(self, verb: str, lora_id: int, load: int) -> None:
        tiers, staging = self._adaptry_tiers(), self._adaptry_staging()
        match verb:
            case "commit":
                lora = staging.take(load)
                if lora_id in tiers._registered_adapters:
                    raise RuntimeError("is in the host tier already")
                if len(tiers) >= tiers.capacity:
                    raise RuntimeError("the host tier is full")
                tiers._registered_adapters[lora_id] = lora
            case "activate":
                if lora_id not in tiers._registered_adapters:
                    raise RuntimeError("not in the host tier")
                if lora_id in tiers._active_adapters:
                    raise RuntimeError("is in a slot already")
                tiers.activate_adapter(lora_id)
            case "deactivate":
                if not tiers.deactivate_adapter(lora_id):
                    raise RuntimeError("was in no slot")
            case "evict":
                if not self.model_runner.remove_lora(lora_id):
                    raise RuntimeError("was not in the host tier")
            case _:
                raise ValueError(f"unknown move {verb!r}")


watch_parent()
apply_patches()
key_blocks()
remember_hashes()
count_ranks_uncompiled()
install()
