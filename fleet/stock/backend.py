"""The `Backend` port over a stock vLLM server's routes.

Its limits are those of the routes. They stage nothing, so that a load blocks the server's steps.
Slots are vLLM's own; they are only counted here, so that requests never need more adapters at the
same time than there are slots.
"""

import asyncio
import time
from collections.abc import Sequence

from engine.policy.decisions import Activate, Commit, Deactivate, Evict, Move
from engine.ports import EngineState, Loaded, MoveResult
from engine.types import AdapterVersion, VersionId
from fleet.stock.client import StockVllm


class StockBackend:
    """`slots`: the server's `--max-loras`."""

    def __init__(self, server: StockVllm, slots: int) -> None:
        self._server = server
        self._staged: dict[VersionId, AdapterVersion] = {}
        self._names: dict[VersionId, str] = {}
        self._free = list(range(slots))
        self._slots: dict[VersionId, int] = {}
        self._turns = asyncio.Lock()  # first come, first served: batches come one upon the other

    async def load(self, version: AdapterVersion) -> Loaded:
        """Record the version, whose files are verified; the server reads them on commit."""
        self._staged[version.id] = version
        return Loaded(version.size_bytes, guaranteed=False)

    def discard(self, version: VersionId) -> None:
        self._staged.pop(version, None)

    async def apply(self, moves: Sequence[Move]) -> list[MoveResult]:
        """Raises EngineUnavailable."""
        async with self._turns:
            return [await self._move(move) for move in moves]

    async def _move(self, move: Move) -> MoveResult:
        started = time.perf_counter()
        error, slot = await self._apply(move)
        return MoveResult(time.perf_counter() - started, error, slot)

    async def _apply(self, move: Move) -> tuple[str | None, int | None]:
        match move:
            case Commit(version=version):
                return await self._commit(version), None
            case Activate(version=version):
                return self._activate(version)
            case Deactivate(version=version):
                return self._deactivate(version), None
            case Evict(version=version):
                return await self._evict(version), None

    async def _commit(self, version: VersionId) -> str | None:
        staged = self._staged.pop(version, None)
        if staged is None:
            return "nothing is staged of it"
        if (error := await self._server.load(staged.engine_name, staged.path)) is not None:
            return error
        self._names[version] = staged.engine_name
        return None

    def _activate(self, version: VersionId) -> tuple[str | None, int | None]:
        if version not in self._names:
            return "it is not in host memory", None
        if version in self._slots:
            return "it has a slot already", None
        if not self._free:
            return "no slot is free", None
        self._slots[version] = self._free.pop(0)
        return None, self._slots[version]

    def _deactivate(self, version: VersionId) -> str | None:
        if version not in self._slots:
            return "it has no slot"
        self._free.append(self._slots.pop(version))
        self._free.sort()
        return None

    async def _evict(self, version: VersionId) -> str | None:
        if version not in self._names:
            return "it is not in host memory"
        if (error := await self._server.unload(self._names[version])) is not None:
            return error
        del self._names[version]
        if version in self._slots:
            self._deactivate(version)
        return None

    async def engine_state(self) -> EngineState:
        """Host memory as the server lists it; the slots are our own count."""
        listed = set(await self._server.loaded_adapters())
        host = tuple(version for version, name in self._names.items() if name in listed)
        return EngineState(gpu=tuple(v for v in self._slots if v in host), host=host)
