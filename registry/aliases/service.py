"""Alias service: compare-and-set moves, weighted splits, deletion; every state is recorded."""

from collections.abc import Mapping
from datetime import datetime, timedelta

from registry.catalog.types import AliasState
from registry.catalog.unit_of_work import UnitOfWork, adapter_transaction
from registry.database.engine import Database
from registry.errors import AliasMoved, TooManyAliases, UnknownAlias, VersionNotServable
from registry.models import SERVABLE, Alias, AliasHistory, EventKind, Version, now, row_id
from registry.references import check_alias
from registry.settings import MAX_ALIASES

ANYWHERE = -1
"""As `expected_version`: move the alias whatever its current version."""

_TICK = timedelta(microseconds=1)


class AliasService:
    """Changes of aliases. `Catalog` and `AliasCatalog` read them."""

    def __init__(self, database: Database, *, max_aliases: int = MAX_ALIASES) -> None:
        self._database = database
        self._max_aliases = max_aliases

    async def point(
        self,
        name: str,
        alias: str,
        weights: Mapping[int, int],
        *,
        actor: str,
        expected_version: int | None = ANYWHERE,
        expected_revision: int | None = None,
        reason: str | None = None,
    ) -> AliasState:
        """Point the alias at versions (number → weight), by compare-and-set.

        `expected_version` None: it must not exist yet. If it already points there, nothing
        changes. Raises AliasMoved, TooManyAliases, UnknownAdapter, UnknownVersion,
        VersionNotServable, InvalidReference.
        """
        check_alias(alias)
        async with adapter_transaction(self._database, name, actor) as work:
            current = await work.aliases.current(work.adapter_id, alias)
            check_expected(f"{name}@{alias}", current, expected_version, expected_revision)
            if current is None and await work.aliases.count(work.adapter_id) >= self._max_aliases:
                raise TooManyAliases(name, self._max_aliases)
            return await point(work, alias, weights, reason, current)

    async def delete(
        self,
        name: str,
        alias: str,
        *,
        actor: str,
        expected_version: int | None = ANYWHERE,
        reason: str | None = None,
    ) -> None:
        """Delete the alias; its history stays. Raises UnknownAdapter, UnknownAlias, AliasMoved."""
        check_alias(alias)
        async with adapter_transaction(self._database, name, actor) as work:
            current = await work.aliases.current(work.adapter_id, alias)
            if current is None:
                raise UnknownAlias(name, alias)
            check_expected(f"{name}@{alias}", current, expected_version)
            _, at = await _next(work, alias)
            await work.aliases.end(work.adapter_id, alias, at)
            await work.aliases.remove(work.adapter_id, alias)
            await work.add_event(
                EventKind.ALIAS_DELETED, alias=alias, from_version=current.number, reason=reason
            )


def check_expected(
    reference: str,
    current: AliasState | None,
    expected_version: int | None,
    expected_revision: int | None = None,
) -> None:
    """Raises AliasMoved."""
    found = current.number if current else None
    if expected_version not in (ANYWHERE, found):
        raise AliasMoved(reference, expected_version, found)
    revision = current.revision if current else None
    if expected_revision not in (None, revision):
        raise AliasMoved(reference, expected_revision, revision, "revision")


async def point(
    work: UnitOfWork,
    alias: str,
    weights: Mapping[int, int],
    reason: str | None,
    current: AliasState | None,
) -> AliasState:
    """Move the alias within a unit of work. Raises UnknownVersion, VersionNotServable."""
    found = {number: await work.version(number) for number in sorted(weights)}
    versions = list({version.number: version for version in found.values()}.values())
    weights = _by_own_number(found, weights)
    for version in versions:
        if version.state not in SERVABLE:
            raise VersionNotServable(work.reference(version.number), version.state)
    if current is not None and current.weights == weights:
        return current
    revision, at = await _next(work, alias)
    state = AliasState(alias, revision, dict(weights), at, None, work.actor, reason)
    ids = {version.number: row_id(version) for version in versions}
    await _write(work, state, ids)
    await work.add_event(
        EventKind.ALIAS_MOVED if len(weights) == 1 else EventKind.ALIAS_SPLIT,
        alias=alias,
        from_version=current.number if current else None,
        to_version=state.number,
        reason=reason,
    )
    return state


def _by_own_number(found: Mapping[int, Version], weights: Mapping[int, int]) -> dict[int, int]:
    """A further number's weight is its version's."""
    own: dict[int, int] = {}
    for number, version in found.items():
        own[version.number] = own.get(version.number, 0) + weights[number]
    return own


async def point_first(work: UnitOfWork, alias: str, version: Version, reason: str) -> None:
    """Create an alias of an adapter whose first version this is: it can't have had any."""
    row = AliasHistory(
        adapter_id=work.adapter_id,
        alias=alias,
        revision=1,
        version_id=row_id(version),
        weight=1,
        valid_from=now(),
        actor=work.actor,
        reason=reason,
    )
    current = Alias(adapter_id=work.adapter_id, name=alias, version_id=row_id(version), revision=1)
    await work.aliases.add(current, row)
    await work.add_event(
        EventKind.ALIAS_MOVED, alias=alias, to_version=version.number, reason=reason
    )


async def _write(work: UnitOfWork, state: AliasState, ids: Mapping[int, int]) -> None:
    """`ids`: row ids by version number."""
    await work.aliases.end(work.adapter_id, state.alias, state.valid_from)
    rows = [
        AliasHistory(
            adapter_id=work.adapter_id,
            alias=state.alias,
            revision=state.revision,
            version_id=ids[number],
            weight=weight,
            valid_from=state.valid_from,
            actor=state.actor,
            reason=state.reason,
        )
        for number, weight in state.weights.items()
    ]
    row = Alias(
        adapter_id=work.adapter_id,
        name=state.alias,
        version_id=ids[state.number],
        revision=state.revision,
    )
    await work.aliases.begin(row, rows)


async def _next(work: UnitOfWork, alias: str) -> tuple[int, datetime]:
    """The next revision and its start, later than all earlier ones even if the clock goes back."""
    last = await work.aliases.last(work.adapter_id, alias)
    if last is None:
        return 1, now()
    revision, latest = last
    return revision + 1, max(now(), latest + _TICK)
