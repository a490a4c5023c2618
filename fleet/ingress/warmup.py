"""Warm-up across replicas: reloads what a lost replica held, or all of them after a restart."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from itertools import chain, zip_longest

from engine.cache.snapshot import CacheSnapshot
from engine.errors import EngineError
from engine.operations.warmup import ResidencyStore, resolve_servable, run_to_completion
from engine.ports import Resolver
from engine.types import AdapterVersion
from fleet.ingress.replica_poller import ReplicaPoller
from fleet.messages import max_ranks
from fleet.placement import order
from fleet.ports import Replicas
from registry.errors import RegistryError

logger = logging.getLogger(__name__)

_POLL_SECONDS = 1.0
_PATIENCE_SECONDS = 120.0  # an engine starts sooner, or will not start at all
_MOST_LOST = 10_000


class FleetWarmUp:
    """Fills free places of replicas that join, each with the adapters whose requests go there.

    `expected`: how many replicas there are when all have started.
    """

    def __init__(
        self,
        replicas: Replicas,
        poller: ReplicaPoller,
        store: ResidencyStore,
        resolver: Resolver,
        *,
        expected: Callable[[], Awaitable[int]],
        save_seconds: float,
    ) -> None:
        self._replicas = replicas
        self._poller = poller
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
        await self.load_residents()
        saved_at = time.monotonic()
        try:
            while True:
                await asyncio.sleep(_POLL_SECONDS)
                await self._poll_quietly()
                if time.monotonic() - saved_at >= self._save_seconds:
                    await run_to_completion(self.save())
                    saved_at = time.monotonic()
        finally:
            await self.save()

    async def load_residents(self) -> None:
        """Read which adapters were in memory when that was last saved."""
        try:
            references = await self._store.residents()
        except RegistryError as error:
            logger.warning("nothing can be warmed up: %s", error.detail)
            return
        self._lost = await resolve_servable(references, self._resolver)
        self._saved = [version.id for version in self._lost]

    async def _poll_quietly(self) -> None:
        try:
            await self.poll()
        except EngineError as error:
            logger.debug("no adapter is reloaded: %s", error.detail)

    async def poll(self) -> None:
        """Compare with the last poll: replicas joined or lost. Raises EngineUnavailable."""
        snapshots = {n: each for n, each in self._poller.snapshots.items() if each.engine_up}
        joined = snapshots.keys() - self._held.keys()
        for name in self._held.keys() - self._poller.snapshots.keys():
            self._lost = _without_duplicates([*self._held.pop(name), *self._lost])[:_MOST_LOST]
        for name, snapshot in snapshots.items():
            self._held[name] = [each.version for each in reversed(snapshot.host)]
        if joined and self._waiting_since is None:
            self._waiting_since = time.monotonic()
        if await self._is_time(len(snapshots)):
            self._lost = await self._reload(snapshots)
            self._waiting_since = None

    async def _is_time(self, up: int) -> bool:
        """Only once all expected replicas are up: before, it is unknown what belongs where."""
        if self._waiting_since is None:
            return False
        if time.monotonic() - self._waiting_since > _PATIENCE_SECONDS:
            return True
        return up >= await self._expected()

    async def _reload(self, snapshots: Mapping[str, CacheSnapshot]) -> list[AdapterVersion]:
        """Returns those that wait for another replica: as none of these serves their rank, or as
        theirs went away.
        """
        resident = {
            version.id for version in chain.from_iterable(map(_in_memory, snapshots.values()))
        }
        missing = [version.reference for version in self._lost if version.id not in resident]
        limits = max_ranks((await self._replicas.call("facts")).values)
        servable = await resolve_servable(missing, self._resolver)

        def fits(version: AdapterVersion) -> bool:
            return any(version.rank <= limits.get(name, version.rank) for name in snapshots)

        placed = _place(list(filter(fits, servable)), snapshots, limits)
        missed = await asyncio.gather(*(self._bring_back(*each) for each in placed.items()))
        return [*(each for each in servable if not fits(each)), *chain.from_iterable(missed)]

    async def _bring_back(
        self, name: str, versions: Sequence[AdapterVersion]
    ) -> Sequence[AdapterVersion]:
        """Returns those that are still lost: the replica has ended."""
        try:
            await self._replicas.call("bring_back", versions, only=frozenset({name}))
        except EngineError as error:
            logger.debug("nothing is brought back to %s: %s", name, error.detail)
            return versions
        return ()

    async def save(self) -> None:
        """Save which adapters are in memory anywhere or were lost, last used first."""
        rows = zip_longest(*self._held.values())
        held = [version for version in chain.from_iterable(rows) if version is not None]
        residents = [version.id for version in _without_duplicates([*held, *self._lost])]
        if residents == self._saved:
            return
        try:
            await self._store.save_residents(residents)
        except RegistryError as error:
            logger.warning("the list of resident adapters could not be saved: %s", error.detail)
        else:
            self._saved = residents


def _in_memory(snapshot: CacheSnapshot) -> list[AdapterVersion]:
    return [*(resident.version for resident in snapshot.host), *snapshot.loading]


def _place(
    versions: Sequence[AdapterVersion],
    snapshots: Mapping[str, CacheSnapshot],
    limits: Mapping[str, int],
) -> Mapping[str, list[AdapterVersion]]:
    """By replica: each version on the first replica of its order that has room.

    `limits`: the largest rank that each serves.
    """
    placed: dict[str, list[AdapterVersion]] = {name: [] for name in snapshots}
    room = {name: s.host_capacity - len(_in_memory(s)) for name, s in snapshots.items()}
    for version in versions:
        for name in order(version.reference, tuple(snapshots), version.rank, limits):
            if len(placed[name]) < room[name]:
                placed[name].append(version)
                break
    return {name: each for name, each in placed.items() if each}


def _without_duplicates(versions: Iterable[AdapterVersion]) -> list[AdapterVersion]:
    return list({version.id: version for version in versions}.values())
