"""vLLM backend: one engine, driven through `AsyncLLM` and our worker extension.

Never passes `timeout=` to `collective_rpc`: after a timeout the next call reads its response.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import vllm
from vllm.lora.request import LoRARequest
from vllm.v1.engine.async_llm import AsyncLLM
from vllm.v1.engine.exceptions import EngineDeadError, EngineGenerateError

from engine.activated_lora.marks import invocation_mark
from engine.errors import EngineDied, EngineUnavailable
from engine.policy.decisions import Commit, Move
from engine.ports import EngineState, Loaded, MoveResult
from engine.types import AdapterVersion, VersionId
from engine.vllm.load_channel import LoadChannel, open_channel
from registry.inspection.supported_modules import (
    ClassificationHead,
    Naming,
    SupportedModule,
    SupportedModules,
    UnknownNaming,
)


def lora_request(version: AdapterVersion) -> LoRARequest:
    """vLLM's name for a version. Neither name nor id is ever used for other weights."""
    mark = invocation_mark(version.invocation_tokens)
    return LoRARequest(version.engine_name, version.id, version.path, base_model_name=mark)


class VllmBackend:
    """Implements the `Backend` port."""

    def __init__(self, engine: AsyncLLM, channel: LoadChannel) -> None:
        self._engine = engine
        self._channel = channel
        self._staged: dict[VersionId, int] = {}

    @property
    def lost(self) -> str | None:
        """Why this engine can load no adapter any more; None while it can."""
        return self._channel.lost

    async def load(self, version: AdapterVersion) -> Loaded:
        number, loaded = await self._channel.load(version)
        self.discard(version.id)
        self._staged[version.id] = number
        return loaded

    def discard(self, version: VersionId) -> None:
        if (number := self._staged.pop(version, None)) is not None:
            self._channel.discard(number)

    def _wire(self, move: Move) -> list[Any]:
        """A commit names its load: loads and moves have no common order, so that a load may be done
        before an earlier commit.
        """
        staged = self._staged.pop(move.version, 0) if isinstance(move, Commit) else 0
        return [type(move).__name__.lower(), move.version, staged]

    async def apply(self, moves: Sequence[Move]) -> list[MoveResult]:
        wire = [self._wire(move) for move in moves]
        ranks = await self._call("adaptry_apply", wire)
        return [_slowest(results) for results in zip(*ranks, strict=True)]

    async def engine_state(self) -> EngineState:
        return merge_states(await self._call("adaptry_state"))

    async def clear(self) -> None:
        """Evict every adapter from both tiers, staged ones too. Raises EngineUnavailable."""
        for version in list(self._staged):
            self.discard(version)
        state = await self.engine_state()
        await self._call("adaptry_apply", [["evict", v, 0] for v in (*state.host, *state.partial)])

    async def served_modules(self, naming: Naming | None = None) -> SupportedModules:
        """The modules that support LoRA. Raises EngineUnavailable."""
        return merge_served_modules(await self._call("adaptry_modules"), naming)

    async def places(self, tensors: Sequence[str]) -> Sequence[str | None]:
        """For each tensor of one adapter the module that vLLM would apply it to, or None.

        Raises EngineUnavailable.
        """
        ranks = await self._call("adaptry_places", list(tensors))
        return [next(filter(None, found), None) for found in zip(*ranks, strict=True)]

    async def _call(self, method: str, *args: Any) -> list[Any]:
        return await _call(self._engine, method, *args)


@asynccontextmanager
async def connect_backend(
    engine: AsyncLLM, host_bytes: int | None = None
) -> AsyncIterator[VllmBackend]:
    """`host_bytes`: the limit of the host tier, over all ranks, if there is one.

    Raises EngineUnavailable if not every worker can be reached.
    """
    ranks = engine.vllm_config.parallel_config.world_size

    async def connect(path: str) -> None:
        await _call(engine, "adaptry_connect", path, host_bytes)

    async with open_channel(connect, ranks) as channel:
        yield VllmBackend(engine, channel)


async def _call(engine: AsyncLLM, method: str, *args: Any) -> list[Any]:
    """One response per rank. Raises EngineUnavailable."""
    try:
        replies = await engine.call_workers(method, args)
    except EngineDeadError as error:
        raise EngineDied(str(error) or type(error).__name__) from error
    except EngineGenerateError as error:
        raise EngineUnavailable(str(error) or type(error).__name__) from error
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise
        # this task is not cancelled: vLLM cancels its pending calls when it shuts its engine down
        raise EngineDied("it was shut down") from None
    for reply in replies:
        if "error" in reply:
            raise EngineUnavailable(f"{method}: {reply['error']}")
    return [reply["value"] for reply in replies]


def merge_states(ranks: Sequence[Mapping[str, Any]]) -> EngineState:
    """One state from all ranks, in the order of the first. `partial`: where they differ."""
    places = [
        dict.fromkeys(rank["host"], False) | dict.fromkeys(rank["gpu"], True) for rank in ranks
    ]
    every = {lora_id for rank in places for lora_id in rank}
    partial = {v for v in every if len({rank.get(v) for rank in places}) > 1}
    sizes: Counter[VersionId] = Counter()
    for rank in ranks:
        sizes.update({VersionId(lora_id): size for lora_id, size in rank["size_bytes"]})
    first = ranks[0]
    return EngineState(
        gpu=tuple(v for v in first["gpu"] if v not in partial),
        host=tuple(v for v in first["host"] if v not in partial),
        size_bytes={v: size for v, size in sizes.items() if v not in partial},
        in_step_loads=max(rank["in_step_loads"] for rank in ranks),
        partial=tuple(sorted(partial)),
    )


def merge_served_modules(
    ranks: Sequence[Mapping[str, Any]], naming: Naming | None = None
) -> SupportedModules:
    """One list from all ranks: with pipeline parallelism each has other layers."""
    heads = [ClassificationHead(*rank["head"]) for rank in ranks if rank["head"] is not None]
    return SupportedModules(
        engine=f"vllm {vllm.__version__}",
        modules=dict(_served_module(*module) for rank in ranks for module in rank["modules"]),
        naming=naming or UnknownNaming(),
        patterns=all(rank["patterns"] for rank in ranks),
        head=heads[0] if heads else None,
        activated_refusal=ranks[0]["activated_refusal"],
    )


def _served_module(
    name: str,
    is_embedding: bool,
    out_features: int | None,
    in_features: int | None,
    experts: int | None,
) -> tuple[str, SupportedModule]:
    if out_features is None or in_features is None:
        return name, SupportedModule(None, is_embedding, experts)
    return name, SupportedModule((out_features, in_features), is_embedding, experts)


def _slowest(results: Sequence[Sequence[Any]]) -> MoveResult:
    errors = [error for _, error, _ in results if error is not None]
    slot = results[0][2]  # every rank fills its slots in the same order
    return MoveResult(max(result[0] for result in results), errors[0] if errors else None, slot)
