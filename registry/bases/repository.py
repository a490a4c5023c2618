"""SQL of base models. Never commits."""

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from registry.bases.scope import is_base, is_named, served_bases
from registry.errors import AmbiguousBase, UnknownBase
from registry.inspection.base_identity import BaseIdentity
from registry.models import BaseLink, KnownBase, Version, VersionState, row_id


class BaseRepository:
    """Queries on one session."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def id_of(self, identity: BaseIdentity) -> int:
        """Its row id; it is added if it is new. On PostgreSQL a concurrent one may win."""
        found = await self.find_id(identity)
        if found is not None:
            return found
        row = KnownBase(name=identity.name, digest=identity.digest, facts=dict(identity.facts))
        self._session.add(row)
        await self._session.flush()
        return row_id(row)

    async def find_id(self, identity: BaseIdentity) -> int | None:
        statement = select(col(KnownBase.id)).where(is_base(identity))
        return (await self._session.execute(statement)).scalar_one_or_none()

    async def is_served(self, base_id: int, identity: BaseIdentity) -> bool:
        """Whether a server of this identity serves versions that are bound to the base model."""
        statement = select(col(KnownBase.id)).where(
            col(KnownBase.id) == base_id, col(KnownBase.id).in_(served_bases(identity))
        )
        return (await self._session.execute(statement)).first() is not None

    async def name_of(self, base_id: int | None) -> str | None:
        if base_id is None:
            return None
        statement = select(col(KnownBase.name)).where(col(KnownBase.id) == base_id)
        return (await self._session.execute(statement)).scalar_one_or_none()

    async def named(self, text: str) -> KnownBase:
        """The one that is called so: a name, without its revision if that is unambiguous, and
        `NAME#DIGEST` with the digest's first letters. Raises UnknownBase, AmbiguousBase."""
        name, _, digest = text.partition("#")
        statement = select(KnownBase).where(
            is_named(name), col(KnownBase.digest).startswith(digest, autoescape=True)
        )
        rows = list((await self._session.execute(statement)).scalars())
        exact = [row for row in rows if row.name == name] or rows
        if not exact:
            raise UnknownBase(text)
        if len(exact) > 1:
            raise AmbiguousBase(text, [f"{row.name}#{row.digest[:8]}" for row in exact])
        return exact[0]

    async def all(self) -> list[KnownBase]:
        """By name."""
        statement = select(KnownBase).order_by(col(KnownBase.name), col(KnownBase.id))
        return list((await self._session.execute(statement)).scalars())

    async def version_counts(self) -> dict[int | None, int]:
        """Number of versions by base model; None: bound to none yet. Purged ones don't count."""
        statement = (
            select(col(Version.base_id), func.count())
            .where(col(Version.state) != VersionState.PURGED)
            .group_by(col(Version.base_id))
        )
        return {row[0]: row[1] for row in (await self._session.execute(statement)).all()}

    async def links(self) -> list[BaseLink]:
        return list((await self._session.execute(select(BaseLink))).scalars())

    async def lock_link(self, one: KnownBase, other: KnownBase) -> BaseLink | None:
        """Their link; no other transaction links or unlinks them before this one ends."""
        pair = tuple(sorted((row_id(one), row_id(other))))
        chosen = select(col(KnownBase.id)).where(col(KnownBase.id).in_(pair))
        in_order = chosen.order_by(col(KnownBase.id)).with_for_update(key_share=True)
        await self._session.execute(in_order)
        return await self._session.get(BaseLink, pair)
