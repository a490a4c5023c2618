"""A worker extension for tests: the contents of a slot after our copy, and after vLLM's own."""

import hashlib
from typing import Any

import torch
from vllm.lora.model_manager import LoRAModelManager
from vllm.lora.request import LoRARequest

from engine.worker import read_plan
from engine.worker.extension import AdapterCacheExtension

# the demo's matrices are small: a rank reads its part of them only so
read_plan.SHORTEST_ROW_BYTES = 1
read_plan.WHOLE_FROM = 1.0

GARBAGE = 7.0


class SlotProbe(AdapterCacheExtension):
    """Answers with one digest per stacked tensor of slot 0."""

    def probe_ours(self, lora_id: int, path: str) -> list[str]:
        """File → arena → slot, as the controller has it done."""
        request = LoRARequest(f"ours-{lora_id}", lora_id, path)
        self._adaptry_staging().start(1, self.model_runner.lora_manager, request).result()
        self._probe_spoil()
        answer = self.adaptry_apply([["commit", lora_id, 1], ["activate", lora_id, 0]])
        assert [error for _, error, _ in answer["value"]] == [None, None], answer
        digests = self._probe_digests(lora_id)
        assert self.adaptry_apply([["evict", lora_id, 0]])["value"][0][1] is None
        return digests

    def probe_stock(self, lora_id: int, path: str) -> list[str]:
        """The same by vLLM's own code alone."""
        manager = self.model_runner.lora_manager
        tiers = manager._adapter_manager
        lora = manager._load_adapter(LoRARequest(f"stock-{lora_id}", lora_id, path))
        tiers.add_adapter(lora)
        self._probe_spoil()
        LoRAModelManager.activate_adapter(tiers, lora_id)
        digests = self._probe_digests(lora_id)
        tiers.remove_adapter(lora_id)
        return digests

    def probe_image_bytes(self, lora_id: int, path: str) -> tuple[int, int]:
        """Of the image on this rank, and read from the file for it."""
        request = LoRARequest(f"read-{lora_id}", lora_id, path)
        staging = self._adaptry_staging()
        image = staging.start(2, self.model_runner.lora_manager, request).result()
        staging.discard(2)
        return image.layout.size_bytes, sum(read.end - read.start for read in image.layout.reads)

    def probe_untraceable(self) -> int:
        return int(self._adaptry_staging().reader.untraceable)

    def _probe_stacked(self) -> list[torch.Tensor]:
        modules: Any = self._adaptry_tiers().modules
        return [
            stacked
            for name in sorted(modules)
            for stacked in (*modules[name].lora_a_stacked, *modules[name].lora_b_stacked)
        ]

    def _probe_spoil(self) -> None:
        """What another adapter left behind must not show through."""
        for stacked in self._probe_stacked():
            stacked.fill_(GARBAGE)

    def _probe_digests(self, lora_id: int) -> list[str]:
        slot = self._adaptry_tiers().lora_index_to_id.index(lora_id)
        return [
            hashlib.sha256(stacked[slot].cpu().view(torch.uint8).numpy().tobytes()).hexdigest()
            for stacked in self._probe_stacked()
        ]
