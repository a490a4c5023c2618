"""The real backend: one vLLM engine, driven through `AsyncLLM` and our worker extension.

Internals of vLLM that it touches (0.26.0 to 0.33.0; tested: 0.32.0 CPU): `AsyncLLM` with
`from_vllm_config`, `generate`, `encode` and `collective_rpc`; `LoRARequest`.

Never passes `timeout=` to `collective_rpc`: after one expired the next call reads its answer.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, aclosing, nullcontext
from functools import partial
from typing import Any

from vllm.lora.request import LoRARequest
from vllm.v1.engine.async_llm import AsyncLLM
from vllm.v1.engine.exceptions import EngineDeadError, EngineGenerateError

from engine.decisions import Move
from engine.errors import AdapterLoadFailed, EngineUnavailable
from engine.ports import EngineTruth, MoveResult
from engine.types import AdapterVersion, Lease, VersionId

WORKER_EXTENSION = "engine.worker.AdapterCacheExtension"

_FIRST_POLL_SECONDS = 0.002
_LAST_POLL_SECONDS = 0.02

LeaseFor = Callable[[LoRARequest], AbstractAsyncContextManager[Lease]]


class LeasedAsyncLLM(AsyncLLM):  # type: ignore[misc]  # vLLM is untyped here
    """vLLM's engine client; whoever generates with an adapter holds a lease meanwhile.

    Every route of vLLM's OpenAI application ends in `generate` or `encode`. The inner generator
    is closed before the lease is given back, so that an abort reaches the engine before anything
    that the freed slot is used for.
    """

    lease_for: LeaseFor

    def generate(
        self, *args: Any, lora_request: LoRARequest | None = None, **options: Any
    ) -> AsyncGenerator[Any, None]:
        stream = partial(super().generate, *args, lora_request=lora_request, **options)
        return self._leased(stream, lora_request)

    def encode(
        self,
        prompt: Any,
        pooling_params: Any,
        request_id: str,
        lora_request: LoRARequest | None = None,
        **options: Any,
    ) -> AsyncGenerator[Any, None]:
        stream = partial(
            super().encode, prompt, pooling_params, request_id, lora_request, **options
        )
        return self._leased(stream, lora_request)

    async def _leased(
        self, open_stream: Callable[[], AsyncGenerator[Any, None]], lora_request: LoRARequest | None
    ) -> AsyncGenerator[Any, None]:
        lease = nullcontext() if lora_request is None else self.lease_for(lora_request)
        async with lease, aclosing(open_stream()) as stream:
            async for output in stream:
                yield output


def lora_request(version: AdapterVersion) -> LoRARequest:
    """vLLM's name for a version. Neither name nor id is ever used for other weights."""
    return LoRARequest(version.engine_name, version.id, version.path)


class VllmBackend:
    """Implements the `Backend` port."""

    def __init__(self, engine: AsyncLLM) -> None:
        self._engine = engine

    async def load(self, version: AdapterVersion) -> None:
        await self._call("adaptry_load", version.id, version.engine_name, version.path)
        pause = _FIRST_POLL_SECONDS
        while (state := await self._load_state(version.id)) == "loading":
            await asyncio.sleep(pause)
            pause = min(pause * 1.5, _LAST_POLL_SECONDS)
        if state != "staged":
            raise AdapterLoadFailed(version.reference, state.removeprefix("failed: "))

    async def _load_state(self, version: VersionId) -> str:
        """The state of the rank that is furthest behind."""
        ranks = [answer[0] for answer in await self._call("adaptry_load_state", [version])]
        failed = [state for state in ranks if state.startswith("failed")]
        if failed and "loading" not in ranks:
            return str(failed[0])
        return "staged" if set(ranks) == {"staged"} else "loading"

    async def apply(self, moves: Sequence[Move]) -> list[MoveResult]:
        wire = [[type(move).__name__.lower(), move.version] for move in moves]
        ranks = await self._call("adaptry_apply", wire)
        return [_slowest(results) for results in zip(*ranks, strict=True)]

    async def truth(self) -> EngineTruth:
        answer = (await self._call("adaptry_truth"))[0]
        return EngineTruth(
            gpu=tuple(answer["gpu"]),
            host=tuple(answer["host"]),
            size_bytes={VersionId(lora_id): size for lora_id, size in answer["size_bytes"]},
            in_step_loads=answer["in_step_loads"],
        )

    async def _call(self, method: str, *args: Any) -> list[Any]:
        """One answer per rank. Raises EngineUnavailable."""
        try:
            answers = await self._engine.collective_rpc(method, args=args)
        except (EngineDeadError, EngineGenerateError) as error:
            raise EngineUnavailable(str(error) or type(error).__name__) from error
        for answer in answers:
            if "error" in answer:
                raise EngineUnavailable(f"{method}: {answer['error']}")
        return [answer["value"] for answer in answers]


def _slowest(results: Sequence[Sequence[Any]]) -> MoveResult:
    errors = [error for _, error in results if error is not None]
    return MoveResult(max(seconds for seconds, _ in results), errors[0] if errors else None)
