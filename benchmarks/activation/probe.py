"""Worker extension that times the steps between disk and slot, inside the worker."""

import hashlib
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from vllm.lora.model_manager import LoRAModelManager
from vllm.lora.request import LoRARequest

from engine.worker.extension import AdapterCacheExtension
from engine.worker.safetensors_file import open_adapter

_PASSES = 7
_READERS = (1, 2, 4, 8)


class ActivationProbe(AdapterCacheExtension):
    """Each method returns milliseconds: one value per pass, without the warm-up passes."""

    device: torch.device

    def probe(self, folder: str) -> dict[str, Any]:
        """One adapter through our path and through vLLM's, and a bare copy of its bytes."""
        with torch.inference_mode():
            ours = self._probe_ours(folder)
            stock = self._probe_stock(folder)
        same = ours.pop("digest") == stock.pop("digest")
        return {
            "ours": ours,
            "stock": stock,
            "same_slot": same,
            "copy_ms": self._probe_copy(),
            "read_ms": {str(readers): self._probe_read(folder, readers) for readers in _READERS},
        }

    def _probe_ours(self, folder: str) -> dict[str, Any]:
        staging = self._adaptry_staging()
        tiers, manager = self._adaptry_tiers(), self.model_runner.lora_manager
        load_ms, activate_ms, enqueue_ms = [], [], []
        for lora_id in range(1001, 1001 + _PASSES):
            request = LoRARequest(f"ours-{lora_id}", lora_id, folder)
            started = time.perf_counter()
            staging.start(lora_id, manager, request).result()
            load_ms.append((time.perf_counter() - started) * 1000)
            self._probe_move("commit", lora_id)
            enqueue, total = _time(partial(self._probe_move, "activate", lora_id))
            activate_ms.append(total)
            enqueue_ms.append(enqueue)
            self._bytes = tiers._registered_adapters.cache[lora_id].block.memory.numel()
            digest = self._probe_digest(lora_id)
            self._probe_move("evict", lora_id)
        return {
            "load_ms": load_ms[2:],
            "activate_ms": activate_ms[2:],
            "enqueue_ms": enqueue_ms[2:],
            "digest": digest,
            "untraceable": staging.reader.untraceable,
        }

    def _probe_move(self, verb: str, lora_id: int) -> None:
        ((_, error, _),) = self.adaptry_apply([[verb, lora_id, lora_id]])["value"]
        assert error is None, error

    def _probe_stock(self, folder: str) -> dict[str, Any]:
        tiers, manager = self._adaptry_tiers(), self.model_runner.lora_manager
        load_ms, activate_ms = [], []
        for lora_id in range(2001, 2001 + _PASSES):
            request = LoRARequest(f"stock-{lora_id}", lora_id, folder)
            started = time.perf_counter()
            tiers.add_adapter(manager._load_adapter(request))
            load_ms.append((time.perf_counter() - started) * 1000)
            _, total = _time(partial(LoRAModelManager.activate_adapter, tiers, lora_id))
            activate_ms.append(total)
            digest = self._probe_digest(lora_id)
            tiers.remove_adapter(lora_id)
        return {"load_ms": load_ms[2:], "activate_ms": activate_ms[2:], "digest": digest}

    def _probe_read(self, folder: str, readers: int) -> list[float]:
        """The file alone, from the page cache into the arena, by so many threads."""
        staging = self._adaptry_staging()
        passes = []
        with open_adapter(folder) as adapter:
            layout = staging.reader._layouts[adapter.kind]
            assert layout is not None
            block = staging.arena.allocate(layout.size_bytes)
            for _ in range(_PASSES):
                started = time.perf_counter()
                adapter.read_into(block.memory, layout.reads, readers)
                passes.append((time.perf_counter() - started) * 1000)
            staging.arena.release(block)
        return passes[2:]

    def _probe_copy(self) -> list[float]:
        """The limit: the same bytes in one piece, from pinned memory, or within host memory."""
        on_gpu = self.device.type == "cuda"
        source = torch.ones(self._bytes, dtype=torch.uint8, pin_memory=on_gpu)
        target = torch.ones(self._bytes, dtype=torch.uint8, device=self.device)
        passes = [_time(lambda: target.copy_(source, non_blocking=True))[1] for _ in range(_PASSES)]
        return passes[2:]

    def _probe_digest(self, lora_id: int) -> str:
        tiers = self._adaptry_tiers()
        slot = tiers.lora_index_to_id.index(lora_id)
        digest = hashlib.sha256()
        for name in sorted(tiers.modules):
            module = tiers.modules[name]
            for stacked in (*module.lora_a_stacked, *module.lora_b_stacked):
                digest.update(stacked[slot].cpu().view(torch.uint8).numpy().tobytes())
        return digest.hexdigest()


def _time(work: Callable[[], object]) -> tuple[float, float]:
    """Milliseconds until `work` returned, and until the device had finished it."""
    _wait_for_device()
    started = time.perf_counter()
    work()
    returned = time.perf_counter()
    _wait_for_device()
    return (returned - started) * 1000, (time.perf_counter() - started) * 1000


def _wait_for_device() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
