"""Brings back into memory what replicas had that are gone: one of them, or all by a restart."""

import asyncio
import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain, zip_longest

from engine.cache.snapshot import CacheSnapshot
from engine.errors import EngineError
from engine.operations.warmup import ResidencyStore, servable, to_its_end
from engine.ports import Resolver
from engine.types import AdapterVersion
from fleet.ingress.replica_poller import Following
from fleet.placement import order
from fleet.ports import Replicas
from registry.errors import RegistryError

logger = logging.getLogger(__name__)

_LOOK_SECONDS = 1.0
_PATIENCE_SECONDS = 120.0  # an engine starts sooner, or will not start at all
_MOST_LOST = 10_000


class FleetWarmUp:
    """Fills only places that are free on replicas that have come, each with what requests will look
    for there."""

    def __init__(
        self,
        replicas: Replicas,
        following: Following,
        store: ResidencyStore,
        resolver: Resolver,
        *,
        expected: int,
        save_seconds: float,
    ) -> None:
        self._replicas = replicas
        self._following = following
        self._store = store
        self._resolver = resolver
        self._expected = expected
        self._save_seconds = save_seconds
        self._held: dict[str, Sequence[AdapterVersion]] = {}
        self._lost: list[AdapterVersion] = []
        self._waiting_since: float | None = None
        self._saved: Sequence[int] = []

    async def run(self) -> None:
        """Until cancelled."""
        await self.recall()
        saved_at = time.monotonic()
        try:
            while True:
                await asyncio.sleep(_LOOK_SECONDS)
                await self._look_quietly()
                if time.monotonic() - saved_at >= self._save_seconds:
                    await to_its_end(self.save())
                    saved_at = time.monotonic()
        finally:
            await self.save()

    async def recall(self) -> None:
        """Who was in memory when that was saved."""
        try:
            references = await self._store.residents()
        except RegistryError as error:
            logger.warning("nothing can be warmed up: %s", error.detail)
            return
        self._lost = await servable(references, self._resolver)
        self._saved = [version.id for version in self._lost]

    async def _look_quietly(self) -> None:
        try:
            await self.look()
        except EngineError as error:
            logger.debug("nothing is brought back: %s", error.detail)

    async def look(self) -> None:
        """Who came, who went. Raises EngineUnavailable."""
        snapshots = {n: each for n, each in self._following.snapshots.items() if each.engine_up}
        came = snapshots.keys() - self._held.keys()
        for name in self._held.keys() - self._following.snapshots.keys():
            self._lost = _once([*self._held.pop(name), *self._lost])[:_MOST_LOST]
        for name, snapshot in snapshots.items():
            self._held[name] = [each.version for each in reversed(snapshot.host)]
        if came and self._waiting_since is None:
            self._waiting_since = time.monotonic()
        if self._is_time(len(snapshots)):
            await self._bring_back(snapshots)
            self._waiting_since, self._lost = None, []

    def _is_time(self, there: int) -> bool:
        """Not before all are there: until then it is not known what belongs where."""
        if self._waiting_since is None:
            return False
        return there >= self._expected or (
            time.monotonic() - self._waiting_since > _PATIENCE_SECONDS
        )

    async def _bring_back(self, snapshots: Mapping[str, CacheSnapshot]) -> None:
        here = {version.id for version in chain.from_iterable(map(_in_memory, snapshots.values()))}
        missing = [version.reference for version in self._lost if version.id not in here]
        placed = _placed(await servable(missing, self._resolver), snapshots)
        for name, versions in placed.items():
            await self._replicas.ask("bring_back", versions, only=frozenset({name}))

    async def save(self) -> None:
        """Who is in memory anywhere or was lost, the ones used last first."""
        rows = zip_longest(*self._held.values())
        held = [version for version in chain.from_iterable(rows) if version is not None]
        residents = [version.id for version in _once([*held, *self._lost])]
        if residents == self._saved:
            return
        try:
            await self._store.save_residents(residents)
        except RegistryError as error:
            logger.warning("who is in memory could not be saved: %s", error.detail)
        else:
            self._saved = residents


def _in_memory(snapshot: CacheSnapshot) -> list[AdapterVersion]:
    return [*(resident.version for resident in snapshot.host), *snapshot.loading]


def _placed(
    versions: Sequence[AdapterVersion], snapshots: Mapping[str, CacheSnapshot]
) -> Mapping[str, list[AdapterVersion]]:
    """By replica: each on the first one of its own order that has room."""
    placed: dict[str, list[AdapterVersion]] = {name: [] for name in snapshots}
    room = {name: s.host_capacity - len(_in_memory(s)) for name, s in snapshots.items()}
    for version in versions:
        for name in order(version.reference, tuple(snapshots)):
            if len(placed[name]) < room[name]:
                placed[name].append(version)
                break
    return {name: each for name, each in placed.items() if each}


def _once(versions: Iterable[AdapterVersion]) -> list[AdapterVersion]:
    return list({version.id: version for version in versions}.values())
