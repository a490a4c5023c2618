"""The real backend: one vLLM engine, driven through `AsyncLLM` and our worker extension.

Never passes `timeout=` to `collective_rpc`: after one expired the next call reads its answer.
"""

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager, nullcontext
from functools import partial
from typing import Any

from vllm.lora.request import LoRARequest
from vllm.v1.engine.async_llm import AsyncLLM
from vllm.v1.engine.exceptions import EngineDeadError, EngineGenerateError

from engine.decisions import Move
from engine.errors import EngineUnavailable
from engine.ports import EngineTruth, MoveResult
from engine.types import AdapterVersion, Lease, VersionId
from engine.vllm_channel import LoadChannel, open_channel

WORKER_EXTENSION = "engine.worker.AdapterCacheExtension"

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

    def __init__(self, engine: AsyncLLM, channel: LoadChannel) -> None:
        self._engine = engine
        self._channel = channel

    async def load(self, version: AdapterVersion) -> bool:
        return await self._channel.load(version)

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
        return await _call(self._engine, method, *args)


@asynccontextmanager
async def connected_backend(engine: AsyncLLM) -> AsyncIterator[VllmBackend]:
    """Raises EngineUnavailable if not every worker can be reached."""
    ranks = engine.vllm_config.parallel_config.world_size
    async with open_channel(partial(_call, engine, "adaptry_connect"), ranks) as channel:
        yield VllmBackend(engine, channel)


async def _call(engine: AsyncLLM, method: str, *args: Any) -> list[Any]:
    """One answer per rank. Raises EngineUnavailable."""
    try:
        answers = await engine.collective_rpc(method, args=args)
    except (EngineDeadError, EngineGenerateError) as error:
        raise EngineUnavailable(str(error) or type(error).__name__) from error
    for answer in answers:
        if "error" in answer:
            raise EngineUnavailable(f"{method}: {answer['error']}")
    return [answer["value"] for answer in answers]


def _slowest(results: Sequence[Sequence[Any]]) -> MoveResult:
    errors = [error for _, error in results if error is not None]
    return MoveResult(max(seconds for seconds, _ in results), errors[0] if errors else None)
