"""Fake backend: no engine, for unit tests of the policy and the controller.

A contract test holds it to the same promises as the real one: a move that the policy must never
decide (a commit over the capacity, an activation without a free slot) fails.
"""

import asyncio
from collections.abc import Sequence

from engine.errors import AdapterLoadFailed
from engine.policy.decisions import Activate, Commit, Deactivate, Evict, Move
from engine.ports import EngineState, Loaded, MoveResult
from engine.types import AdapterVersion, LoadFailure, VersionId


class UncheckedFiles:
    """Adapter files that always pass verification."""

    async def verify(self, version: AdapterVersion) -> AdapterVersion:
        return version


class FakeBackend:
    """`broken` versions fail to load. A load takes `load_seconds`, and then waits for `may_load`.

    `guaranteed` is that of every load: False where its moves are to fail.
    """

    def __init__(self, *, slots: int, host_capacity: int, load_seconds: float = 0.0) -> None:
        self.slots = slots
        self.host_capacity = host_capacity
        self.load_seconds = load_seconds
        self.may_load = asyncio.Event()
        self.may_load.set()
        self.guaranteed = True
        self.broken: set[VersionId] = set()
        self.refuses_slot: set[VersionId] = set()
        self.loads: list[VersionId] = []
        self.moves: list[Move] = []
        self.gpu: dict[VersionId, int] = {}
        self.host: dict[VersionId, AdapterVersion] = {}
        self._staged: dict[VersionId, AdapterVersion] = {}

    async def load(self, version: AdapterVersion) -> Loaded:
        self.loads.append(version.id)
        await asyncio.sleep(self.load_seconds)
        await self.may_load.wait()
        if version.id in self.broken:
            raise AdapterLoadFailed(version.reference, "broken on purpose", LoadFailure.ADAPTER)
        self._staged[version.id] = version
        return Loaded(version.size_bytes, self.guaranteed, fell_back=not self.guaranteed)

    def discard(self, version: VersionId) -> None:
        self._staged.pop(version, None)

    async def apply(self, moves: Sequence[Move]) -> list[MoveResult]:
        results = [self._apply(move) for move in moves]
        await asyncio.sleep(0)
        return results

    def _apply(self, move: Move) -> MoveResult:
        self.moves.append(move)
        try:
            self._execute(move)
        except (KeyError, RuntimeError) as error:
            return MoveResult(0.0, f"{type(error).__name__}: {error}")
        return MoveResult(0.0, slot=self.gpu[move.version] if isinstance(move, Activate) else None)

    def _execute(self, move: Move) -> None:
        match move:
            case Commit(version):
                staged = self._staged.pop(version)
                if version in self.host:
                    raise RuntimeError("is in the host tier already")
                if len(self.host) >= self.host_capacity:
                    raise RuntimeError("the host tier is full")
                self.host[version] = staged
            case Activate(version):
                if version not in self.host or version in self.refuses_slot:
                    raise RuntimeError(f"{version} can't be activated")
                if version in self.gpu:
                    raise RuntimeError("is in a slot already")
                if len(self.gpu) >= self.slots:
                    raise RuntimeError("no free slot")
                self.gpu[version] = min(set(range(self.slots)) - set(self.gpu.values()))
            case Deactivate(version):
                del self.gpu[version]
            case Evict(version):
                del self.host[version]
                self.gpu.pop(version, None)

    async def engine_state(self) -> EngineState:
        sizes = {version.id: version.size_bytes for version in self.host.values()}
        return EngineState(gpu=tuple(self.gpu), host=tuple(self.host), size_bytes=sizes)
