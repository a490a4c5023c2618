"""Echo engine: vLLM's engine core without a model. Each step gives every running request a token.

Everything in front of the engine core is vLLM's own: tokenizer, detokenizer, statistics, streams.
"""

import asyncio
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from vllm.v1.engine import EngineCoreOutput, EngineCoreOutputs, FinishReason

_TOKEN = 40
_LOOPS_PER_STEP = 8  # so that each token is sent by itself, as at an engine's pace


class EchoCore:
    """Implements what vLLM's `AsyncLLM` calls of its engine core to generate text."""

    engine_ranks_managed = (0,)

    def __init__(self) -> None:
        self.resources = SimpleNamespace(engine_dead=False)
        self._left: dict[str, int] = {}
        self._added = asyncio.Event()
        self.when_added: Callable[[], object] = lambda: None

    async def get_supported_tasks_async(self) -> tuple[str, ...]:
        return ("generate",)

    async def add_lora_async(self, lora_request: Any) -> bool:
        return True

    async def add_request_async(self, request: Any) -> None:
        self.when_added()
        self._left[request.request_id] = request.sampling_params.max_tokens
        self._added.set()

    async def abort_requests_async(self, request_ids: list[str]) -> None:
        for request_id in request_ids:
            self._left.pop(request_id, None)

    async def get_output_async(self) -> EngineCoreOutputs:
        for _ in range(_LOOPS_PER_STEP):
            await asyncio.sleep(0)
        while not self._left:
            self._added.clear()
            await self._added.wait()
        return EngineCoreOutputs(outputs=[self._step(each) for each in list(self._left)])

    def _step(self, request_id: str) -> EngineCoreOutput:
        self._left[request_id] -= 1
        reason = None
        if not self._left[request_id]:
            del self._left[request_id]
            reason = FinishReason.LENGTH
        return EngineCoreOutput(request_id, [_TOKEN], finish_reason=reason)

    def shutdown(self, timeout: float | None = None) -> None:
        return
