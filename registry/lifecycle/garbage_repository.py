"""SQL of garbage collection: candidates, and why others are kept. Never commits."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ColumnElement, Select, Subquery, case, func, null, or_, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from registry.catalog.alias_repository import is_current
from registry.models import Adapter, Alias, AliasHistory, Version, VersionState

_CHUNK = 500


@dataclass(frozen=True, slots=True)
class Candidate:
    """A version that no retention rule keeps."""

    adapter: str
    number: int
    state: str
    digest: str
    size_bytes: int

    @property
    def reference(self) -> str:
        return f"{self.adapter}:{self.number}"


class GarbageRepository:
    """Queries on one session."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def find(
        self,
        *,
        states: Sequence[str],
        keep_last: int,
        since: datetime,
        adapter: str | None,
        limit: int,
    ) -> tuple[list[Candidate], dict[str, int]]:
        """The first candidates by adapter and number, and the number of kept ones by rule."""
        judged = _judge(states, keep_last, since, adapter)
        garbage = select(judged).where(judged.c.kept_for.is_(None))
        rows = await self._session.execute(
            garbage.order_by(judged.c.name, judged.c.number).limit(limit)
        )
        candidates = [Candidate(*row[:5]) for row in rows.all()]
        counted = select(judged.c.kept_for, func.count()).where(judged.c.kept_for.is_not(None))
        kept = await self._session.execute(counted.group_by(judged.c.kept_for))
        return candidates, {row[0]: row[1] for row in kept.all()}

    async def uses(self, digests: Sequence[str]) -> dict[str, int]:
        """Number of versions that need each of these files; unused ones are omitted."""
        found: dict[str, int] = {}
        for start in range(0, len(digests), _CHUNK):
            statement = (
                select(col(Version.digest), func.count())
                .where(
                    col(Version.digest).in_(digests[start : start + _CHUNK]),
                    col(Version.state) != VersionState.PURGED,
                )
                .group_by(col(Version.digest))
            )
            rows = (await self._session.execute(statement)).all()
            found |= {row[0]: row[1] for row in rows}
        return found


def _judge(states: Sequence[str], keep_last: int, since: datetime, adapter: str | None) -> Subquery:
    """Every version in the states with `kept_for`: the first rule that keeps it, or NULL."""
    newest_first = func.row_number().over(
        partition_by=col(Version.adapter_id), order_by=col(Version.number).desc()
    )
    living = select(col(Version.id).label("id"), newest_first.label("place"))
    living = living.where(col(Version.state) != VersionState.PURGED)
    places = living.subquery()
    recently = func.coalesce(col(Version.state_changed_at), col(Version.created_at)) > since
    kept_for = case(
        (col(Version.id).in_(_aliased_versions()), "aliased"),
        (places.c.place <= keep_last, "last"),
        (or_(recently, col(Version.id).in_(_versions_aliased_since(since))), "rollback_window"),
        else_=null(),
    )
    judged = (
        select(
            col(Adapter.name).label("name"),
            col(Version.number).label("number"),
            col(Version.state),
            col(Version.digest),
            col(Version.size_bytes),
            kept_for.label("kept_for"),
        )
        .join(Adapter, col(Version.adapter_id) == col(Adapter.id))
        .join(places, places.c.id == col(Version.id))
        .where(col(Version.state).in_(states), *_of(adapter))
    )
    return judged.subquery()


def _of(adapter: str | None) -> list[ColumnElement[bool]]:
    return [] if adapter is None else [col(Adapter.name) == adapter]


def _aliased_versions() -> "Select[int]":
    return select(col(AliasHistory.version_id)).join(Alias, is_current())


def _versions_aliased_since(since: datetime) -> "Select[int]":
    ended = col(AliasHistory.valid_to)
    return select(col(AliasHistory.version_id)).where(or_(ended.is_(None), ended > since))
