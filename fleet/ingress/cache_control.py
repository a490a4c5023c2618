"""Cache control across replicas: implements `engine.operations.control.CacheControl`."""

from collections.abc import Mapping, Sequence

from msgspec.structs import replace

from engine.cache.snapshot import CacheSnapshot
from engine.errors import AdapterInUse, AdapterPinned, EngineError
from engine.operations.pins import ActivePin
from engine.ports import EngineState
from engine.telemetry.decision_log import LoggedEvent
from engine.types import AdapterVersion, Tier, VersionId
from fleet.ingress.pins import FleetPins
from fleet.ingress.serving_replicas import serving_ranks
from fleet.placement import first_for
from fleet.ports import Replicas
from registry.errors import EngineAway


class FleetCache:
    """Calls all replicas for each operation."""

    def __init__(self, replicas: Replicas, pins: FleetPins) -> None:
        self._replicas = replicas
        self._pins = pins

    async def snapshots(self) -> Mapping[str, CacheSnapshot]:
        found: Mapping[str, CacheSnapshot] = (await self._replicas.call("snapshot")).all()
        return dict(sorted(found.items()))

    async def engine_states(self) -> Mapping[str, EngineState]:
        """Of those that answer. Raises a failure if none does."""
        answers = await self._replicas.call("engine_state")
        found: Mapping[str, EngineState] = answers.values or answers.all()
        return dict(sorted(found.items()))

    async def about(self, version: AdapterVersion) -> Sequence[LoggedEvent]:
        found: Mapping[str, Sequence[LoggedEvent]] = (
            await self._replicas.call("about", version)
        ).all()
        events = [replace(e, replica=name) for name, each in found.items() for e in each]
        return sorted(events, key=lambda logged: logged.at, reverse=True)

    async def pin(
        self,
        version: AdapterVersion,
        tier: Tier,
        ttl_seconds: float | None,
        replicas: int | None,
        *,
        actor: str,
    ) -> ActivePin:
        return await self._pins.pin(version, tier, ttl_seconds, replicas, actor=actor)

    async def pins(self) -> Sequence[ActivePin]:
        return await self._pins.list()

    async def unpin(self, version: AdapterVersion, *, actor: str) -> Tier:
        return await self._pins.unpin(version, actor=actor)

    async def prefetch(self, version: AdapterVersion, replicas: int | None) -> None:
        await self._load("prefetch", version, replicas)

    async def load_into_host(self, version: AdapterVersion) -> None:
        """Of the replica where its requests will go. Returns once it is there."""
        await self._load("load_into_host", version, 1)

    async def _load(self, operation: str, version: AdapterVersion, replicas: int | None) -> None:
        limits = await serving_ranks(self._replicas, version.rank)
        chosen = first_for(version.reference, limits, replicas, rank=version.rank, max_ranks=limits)
        (await self._replicas.call(operation, version, only=chosen)).check()

    async def evict(self, version: AdapterVersion, *, wait: bool, force: bool) -> bool:
        """Evict on all replicas, or on none if it is pinned or in use on one."""
        if not (wait or force):
            await self._check_evictable(version)
        evicted = (await self._replicas.call("evict", version, wait, force)).all()
        return any(evicted.values())

    async def _check_evictable(self, version: AdapterVersion) -> None:
        found: Mapping[str, CacheSnapshot] = (await self._replicas.call("snapshot")).all_that_live()
        for snapshot in found.values():
            for resident in snapshot.host:
                if resident.version.id == version.id and resident.pinned:
                    raise AdapterPinned
                if resident.version.id == version.id and (resident.leases or resident.waiting):
                    raise AdapterInUse

    async def uses(self, version_id: int) -> bool:
        """Whether a replica may need its files again before a request names it.

        Raises EngineAway if one does not tell: the registry knows its own errors only.
        """
        try:
            answers = await self._replicas.call("uses", VersionId(version_id))
            return any(answers.all_that_live().values())
        except EngineError as error:
            raise EngineAway(f"{error.detail}: it may use the version") from error
