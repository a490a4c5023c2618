"""The `Backend` port over a stock vLLM server's routes.

Its limits are those of the routes. They stage nothing, so that a load blocks the server's steps.
Slots are vLLM's own; they are only counted here, so that requests never need more adapters at the
same time than there are slots.
"""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass

from engine.errors import EngineUnavailable
from engine.policy.decisions import Activate, Commit, Deactivate, Evict, Move
from engine.ports import EngineState, Loaded, MoveResult
from engine.types import AdapterVersion, VersionId
from fleet.stock.client import StockVllm


@dataclass(frozen=True, slots=True, eq=False)
class _Held:
    """One load of a version: the next one of the same is another."""

    name: str


class StockBackend:
    """`slots`: the server's `--max-loras`."""

    def __init__(self, server: StockVllm, slots: int) -> None:
        self._server = server
        self._staged: dict[VersionId, AdapterVersion] = {}
        self._held: dict[VersionId, _Held] = {}
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
        """Each by itself: after one that the server did not answer, slots are still given back."""
        async with self._turns:
            return [await self._move(move) for move in moves]

    async def _move(self, move: Move) -> MoveResult:
        started = time.perf_counter()
        try:
            error, slot = await self._apply(move)
        except EngineUnavailable as lost:
            error, slot = lost.detail, None
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
        if (error := await self._load(staged.engine_name, staged.path)) is not None:
            return error
        self._held[version] = _Held(staged.engine_name)
        return None

    async def _load(self, name: str, path: str) -> str | None:
        """Once more, if it is there by a load whose answer did not come in time."""
        error = await self._server.load(name, path)
        if error is None or name not in await self._server.loaded_adapters():
            return error
        if (error := await self._server.unload(name)) is not None:
            return error
        return await self._server.load(name, path)

    def _activate(self, version: VersionId) -> tuple[str | None, int | None]:
        if version not in self._held:
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
        if version not in self._held:
            return "it is not in host memory"
        name = self._held[version].name
        error = await self._server.unload(name)
        if error is not None and name in await self._server.loaded_adapters():
            return error
        self._forget(version)
        return None

    def _forget(self, version: VersionId) -> None:
        self._held.pop(version, None)
        if version in self._slots:
            self._deactivate(version)

    async def engine_state(self) -> EngineState:
        """Host memory as the server lists it; the slots are our own count.

        What the server has lost is forgotten, with its slot: it could never be loaded again.
        """
        asked = dict(self._held)
        listed = set(await self._server.loaded_adapters())
        for version, held in asked.items():
            if held.name not in listed and self._held.get(version) is held:
                self._forget(version)
        host = tuple(version for version, held in self._held.items() if held.name in listed)
        return EngineState(gpu=tuple(v for v in self._slots if v in host), host=host)
