"""Zero-downtime promotion: warm, probe, switch, drain.

The switch is `AliasService`'s one transaction. Running requests keep their version,
since an engine resolves a reference once, so the switch need not wait for them.
"""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from registry.aliases.history import AliasCatalog
from registry.aliases.service import ANYWHERE, AliasService, check_expected
from registry.catalog.catalog import Catalog
from registry.catalog.types import AliasState, ResolvedVersion
from registry.errors import EngineAway, PromotionTimeout, RegistryError, VersionNotServable
from registry.models import SERVABLE
from registry.references import AdapterReference, check_name

logger = logging.getLogger(__name__)


class ServingEngine(Protocol):
    """The engine that serves this registry's versions, as a promotion uses it."""

    async def warm(self, version: ResolvedVersion, old: Sequence[ResolvedVersion]) -> None:
        """Load it into memory; if one of `old` has a slot, also into one, unless all are in use.

        Raises EngineAway, WarmingFailed.
        """

    async def probe(self, version: ResolvedVersion) -> None:
        """Generate with it as a test. Raises ProbeFailed, EngineAway, WarmingFailed."""

    def evict_when_idle(self, version: ResolvedVersion) -> None:
        """Evict it after its last request, in the background; not if it is pinned."""


@dataclass(frozen=True, slots=True)
class Preparation:
    """Steps before and after the switch. `warm` None: warm if there is an engine."""

    warm: bool | None = None
    probe: bool = False
    timeout_seconds: float = 60.0
    evict_old: bool = False

    @property
    def needs_engine(self) -> bool:
        return self.warm is True or self.probe or self.evict_old


class PromotionService:
    """`AliasService` with preparation by the engine. If that fails, the alias does not move."""

    def __init__(
        self, catalog: Catalog, alias_catalog: AliasCatalog, aliases: AliasService
    ) -> None:
        self._catalog = catalog
        self._alias_catalog = alias_catalog
        self._aliases = aliases
        self.engine: ServingEngine | None = None

    async def promote(
        self,
        name: str,
        alias: str,
        weights: Mapping[int, int],
        preparation: Preparation,
        *,
        actor: str,
        expected_version: int | None = ANYWHERE,
        expected_revision: int | None = None,
        reason: str | None = None,
    ) -> AliasState:
        """Warm the versions (number → weight), probe those that are new to the alias, switch.

        Raises what `AliasService.point` and `ServingEngine` raise, and PromotionTimeout.
        """
        before = await self._alias_catalog.current(check_name(name), alias)
        check_expected(f"{name}@{alias}", before, expected_version, expected_revision)
        old = before.weights if before else {}
        if old != weights:
            await self._prepare(name, weights, old, preparation)
        state = await self._aliases.point(
            name,
            alias,
            weights,
            actor=actor,
            expected_version=expected_version,
            expected_revision=expected_revision,
            reason=reason,
        )
        if preparation.evict_old and self.engine is not None:
            await self._evict(self.engine, name, set(old) - set(weights))
        return state

    async def roll_back(
        self,
        name: str,
        alias: str,
        preparation: Preparation,
        *,
        actor: str,
        to_revision: int | None = None,
        to_time: datetime | None = None,
        expected_version: int | None = ANYWHERE,
        reason: str | None = None,
    ) -> AliasState:
        """The same to an earlier state: a revision, the state at a time, or the previous one.

        Two concurrent rollbacks reach the same state. A deleted alias is restored. Raises what
        `AliasCatalog.earlier` and `promote` raise.
        """
        before = await self._alias_catalog.current(check_name(name), alias)
        check_expected(f"{name}@{alias}", before, expected_version)
        target = await self._alias_catalog.rollback_target(name, alias, to_revision, to_time)
        return await self.promote(
            name,
            alias,
            target.weights,
            preparation,
            actor=actor,
            expected_version=expected_version,
            reason=reason or f"rolled back to revision {target.revision}",
        )

    async def _prepare(
        self, name: str, new: Mapping[int, int], old: Mapping[int, int], preparation: Preparation
    ) -> None:
        versions = await self._servable(name, new)
        wanted = {version.number for version in versions}
        if (engine := self._engine_for(preparation)) is None:
            return
        if other := [version for version in versions if not version.is_served]:
            if preparation.warm or preparation.probe:
                raise await self._catalog.other_base(other[0])
            versions = [version for version in versions if version.is_served]
        if not versions:  # another server's engine has them, and loads them when they are used
            return
        leaving = [await self._version(name, number) for number in old if number not in wanted]
        version = versions[0]
        try:
            async with asyncio.timeout(preparation.timeout_seconds):
                for version in versions:
                    if preparation.warm is not False:
                        await engine.warm(version, leaving)
                    if preparation.probe and version.number not in old:
                        await engine.probe(version)
        except TimeoutError:
            reference = f"{name}:{version.number}"
            raise PromotionTimeout(reference, preparation.timeout_seconds) from None

    def _engine_for(self, preparation: Preparation) -> ServingEngine | None:
        """The engine; None if there is nothing to prepare. Raises EngineAway."""
        if preparation.needs_engine and self.engine is None:
            raise EngineAway("no engine serves this registry's versions")
        return None if preparation.warm is False and not preparation.probe else self.engine

    async def _servable(self, name: str, weights: Mapping[int, int]) -> list[ResolvedVersion]:
        """Sorted by weight: the version with the largest is warmed last, and so evicted last."""
        found = []
        for number in sorted(weights, key=lambda number: (weights[number], -number)):
            version = await self._version(name, number)
            if version.state not in SERVABLE:
                raise VersionNotServable(f"{name}:{number}", version.state)
            found.append(version)
        return found

    async def _version(self, name: str, number: int) -> ResolvedVersion:
        return await self._catalog.find(AdapterReference(name, None, number))

    async def _evict(self, engine: ServingEngine, name: str, numbers: set[int]) -> None:
        """Evict versions without an alias. The switch is done, so errors are only logged."""
        try:
            still = {n for state in await self._alias_catalog.all(name) for n in state.weights}
            for number in sorted(numbers - still):
                engine.evict_when_idle(await self._version(name, number))
        except RegistryError as error:
            logger.warning("the old versions of %s stay in memory: %s", name, error.detail)
