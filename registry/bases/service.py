"""Base models of a registry: the one that this server serves, and which are compatible."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy.exc import IntegrityError

from registry.auth.client_address import client_address
from registry.bases.repository import BaseRepository
from registry.database.engine import Database
from registry.errors import DatabaseUnavailable, SameBase
from registry.inspection.base_identity import BaseIdentity
from registry.models import BaseLink, Event, EventKind, KnownBase, row_id
from registry.redaction import redact_keys

_ATTEMPTS = 5


@dataclass(frozen=True, slots=True)
class BaseState:
    """`versions`: how many are bound to it. `links`: the names of those compatible with it.

    `is_this`: the one that the server serves that was asked.
    """

    name: str
    digest: str
    facts: Mapping[str, Any]
    created_at: datetime
    versions: int
    links: tuple[str, ...]
    is_this: bool


class BaseService:
    """Each call is one short transaction. `identity`: the base model that this server serves."""

    def __init__(self, database: Database, identity: BaseIdentity) -> None:
        self._database = database
        self.identity = identity

    async def open(self) -> int:
        """Make this server's base model known; its row id."""
        for _ in range(_ATTEMPTS):
            try:
                async with self._database.transaction(for_catalog=False) as session:
                    return await BaseRepository(session).id_of(self.identity)
            except IntegrityError:  # another server with the same one starts
                continue
        raise DatabaseUnavailable("too many servers start at the same time: try again")

    async def all(self) -> list[BaseState]:
        """Every base model that a server has served or a version is bound to, by name."""
        async with self._database.read_session() as session:
            repository = BaseRepository(session)
            rows, counts = await repository.all(), await repository.version_counts()
            links = await repository.links()
        names = {row_id(row): row.name for row in rows}
        return [
            BaseState(
                row.name,
                row.digest,
                row.facts,
                row.created_at,
                counts.get(row_id(row), 0),
                tuple(sorted(names[other] for other in _find_linked(row_id(row), links))),
                (row.name, row.digest) == (self.identity.name, self.identity.digest),
            )
            for row in rows
        ]

    async def link(self, base: str, other: str, *, actor: str, reason: str | None = None) -> None:
        """Declare two compatible: servers of each serve the versions of the other.

        Raises UnknownBase, AmbiguousBase, SameBase.
        """
        async with self._database.transaction() as session:
            repository = BaseRepository(session)
            one, two = await repository.named(base), await repository.named(other)
            if one.id == two.id:
                raise SameBase(base)
            if await repository.lock_link(one, two) is None:
                first, second = sorted((row_id(one), row_id(two)))
                session.add(BaseLink(first_id=first, second_id=second, created_by=actor))
                session.add(_event(EventKind.BASE_LINKED, one, two, actor, reason))

    async def unlink(self, base: str, other: str, *, actor: str, reason: str | None = None) -> None:
        """Withdraw that. Raises UnknownBase, AmbiguousBase."""
        async with self._database.transaction() as session:
            repository = BaseRepository(session)
            one, two = await repository.named(base), await repository.named(other)
            link = await repository.lock_link(one, two)
            if link is not None:
                await session.delete(link)
                session.add(_event(EventKind.BASE_UNLINKED, one, two, actor, reason))


def _find_linked(base_id: int, links: list[BaseLink]) -> list[int]:
    pairs = [(link.first_id, link.second_id) for link in links]
    return [b if a == base_id else a for a, b in pairs if base_id in (a, b)]


def _event(
    kind: EventKind, one: KnownBase, two: KnownBase, actor: str, reason: str | None
) -> Event:
    return Event(
        actor=actor,
        address=client_address(),
        kind=kind,
        reason=None if reason is None else redact_keys(reason),
        data={"bases": sorted(f"{base.name}#{base.digest[:8]}" for base in (one, two))},
    )
