"""Overhead of a step: what the worker spends on the adapters of each step, by host places.

    python -m benchmarks.overhead.steps

Each step of the engine asks vLLM's LoRA manager for each of its adapters, all of them in their
slots here. Ours and vLLM's own, in turn, without a model; the least of several blocks.
"""

import timeit
from types import SimpleNamespace
from typing import Any

from vllm.lora.model_manager import LRUCacheLoRAModelManager
from vllm.lora.request import LoRARequest
from vllm.lora.worker_manager import LRUCacheWorkerLoRAManager
from vllm.utils.cache import LRUCache

from benchmarks.common.tables import machine, print_table
from engine.worker.lora_managers import ControlledModelManager, ControlledWorkerManager

SLOTS = 16
_STEPS = 20


def create_managers(places: int, *, ours: bool = True) -> tuple[Any, Any]:
    """The worker's and the model's, without a model: a full host tier, and full slots."""
    model_class = ControlledModelManager if ours else LRUCacheLoRAModelManager
    worker_class = ControlledWorkerManager if ours else LRUCacheWorkerLoRAManager
    tiers: Any = model_class.__new__(model_class)
    tiers._registered_adapters, tiers._active_adapters = LRUCache(places), LRUCache(SLOTS)
    for number in range(1, places + 1):
        tiers._registered_adapters[number] = SimpleNamespace(loras={})
    for number in range(1, SLOTS + 1):
        tiers._active_adapters[number] = None
    tiers.lora_index_to_id = list(range(1, SLOTS + 1))
    tiers.lora_config = SimpleNamespace(max_loras=SLOTS)
    worker: Any = worker_class.__new__(worker_class)
    worker._adapter_manager = tiers
    return worker, tiers


def step_microseconds(places: int, *, ours: bool) -> float:
    worker, _ = create_managers(places, ours=ours)
    requests = {LoRARequest(f"a{number}", number, "/a") for number in range(1, SLOTS + 1)}
    blocks = timeit.repeat(lambda: worker._apply_adapters(requests), number=_STEPS, repeat=7)
    return min(blocks) / _STEPS * 1e6


def main() -> None:
    print(machine())
    rows = [
        {
            "host places": places,
            "stock, µs": f"{step_microseconds(places, ours=False):.0f}",
            "ours, µs": f"{step_microseconds(places, ours=True):.0f}",
        }
        for places in (16, 48, 256, 1024)
    ]
    print_table(rows)


if __name__ == "__main__":
    main()
