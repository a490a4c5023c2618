"""Cache history store: rows of about a minute of a server's cache, bounded by age and bytes."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import blake2b

from sqlalchemy import ColumnElement, and_, delete, func, or_, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import defer
from sqlmodel import col

from registry.database.engine import Database
from registry.models import CacheHistory
from registry.models.cache_history import MAX_NAME_LENGTH

MICROSECONDS = 1_000_000
_OF_REPLICA = "~"  # in no server's name
_DIGEST_BYTES = 16
GRACE_SECONDS = 86400
"""How far a server's clock may be ahead without deleting what others keep."""


@dataclass(frozen=True, slots=True)
class HistoryRow:
    """See the table. `content` is empty if only the totals were asked for."""

    began_at: int
    ended_at: int
    totals: dict[str, float] = field(default_factory=dict)
    content: bytes = b""


@dataclass(frozen=True, slots=True)
class HistoryBounds:
    """A server's oldest and newest recorded time."""

    oldest: int
    newest: int


def replica_name(server: str, replica: str) -> str:
    """Under which a replica of that server has its history, beside those of the others.

    A replica's name that is too long for the table, such as a host's and port, ends in its digest.
    """
    name = f"{server}{_OF_REPLICA}{replica}"
    if len(name) <= MAX_NAME_LENGTH:
        return name
    digest = blake2b(replica.encode(), digest_size=_DIGEST_BYTES).hexdigest()
    return f"{name[: MAX_NAME_LENGTH - len(digest) - 1]}-{digest}"


def may_be_shortened(name: str) -> bool:
    return len(name) == MAX_NAME_LENGTH


def split_name(name: str) -> tuple[str, str | None]:
    """The server, and its replica; None: it has no replicas."""
    server, mark, replica = name.partition(_OF_REPLICA)
    return server, replica if mark else None


def rows_of(server: str) -> ColumnElement[bool]:
    """All rows of the server, its replicas' among them."""
    name, beginning = col(CacheHistory.server), replica_name(server, "")
    # SQLite's LIKE takes `GPU-1` for `gpu-1`
    return or_(name == server, func.substr(name, 1, len(beginning)) == beginning)


class CacheHistoryStore:
    """Every call is one short transaction. Raises DatabaseUnavailable.

    `keep_seconds`, `max_bytes`: of the rows that this server writes, and of no other's.
    """

    def __init__(
        self, database: Database, server: str, *, keep_seconds: float, max_bytes: int
    ) -> None:
        self.server = server
        self.keep_seconds = keep_seconds
        self._database = database
        self._max_bytes = max_bytes

    async def save(self, row: HistoryRow) -> None:
        """Write the row, or its longer state over an earlier one."""
        values = {
            "server": self.server,
            "began_at": row.began_at,
            "ended_at": row.ended_at,
            "expires_at": row.ended_at + int(self.keep_seconds * MICROSECONDS),
            "size_bytes": len(row.content),
            "totals": row.totals,
            "content": row.content,
        }
        keys = ("server", "began_at")
        changed = {name: values[name] for name in values if name not in keys}
        async with self._database.transaction(for_catalog=False) as session:
            name = session.get_bind().dialect.name
            insert = postgresql.insert if name == "postgresql" else sqlite.insert
            statement = insert(CacheHistory).values(values)
            await session.execute(
                statement.on_conflict_do_update(index_elements=keys, set_=changed)
            )

    async def prune(self, now: int) -> None:
        """Delete what is too old, and this server's oldest rows beyond its bytes.

        Other servers' rows are deleted a day after they expired.
        """
        oldest = now - int(self.keep_seconds * MICROSECONDS)
        ended, own = col(CacheHistory.ended_at), col(CacheHistory.server) == self.server
        expired = col(CacheHistory.expires_at) < now - GRACE_SECONDS * MICROSECONDS
        async with self._database.transaction(for_catalog=False) as session:
            await session.execute(delete(CacheHistory).where(expired))
            await session.execute(delete(CacheHistory).where(own, ended < oldest))
            size, began = col(CacheHistory.size_bytes), col(CacheHistory.began_at)
            total = select(func.coalesce(func.sum(size), 0)).where(own)
            if (await session.execute(total)).scalar_one() <= self._max_bytes:
                return
            newer = func.sum(size).over(order_by=began.desc())
            sums = select(began.label("began"), newer.label("bytes")).where(own).subquery()
            excess = select(func.max(sums.c.began)).where(sums.c.bytes > self._max_bytes)
            last = (await session.execute(excess)).scalar_one()
            await session.execute(delete(CacheHistory).where(own, began <= last))

    async def clear(self) -> None:
        """Delete all of this server and of its replicas."""
        async with self._database.transaction(for_catalog=False) as session:
            await session.execute(delete(CacheHistory).where(rows_of(self.server)))

    async def servers(self) -> list[str]:
        """Names of those that have rows."""
        statement = select(col(CacheHistory.server)).distinct().order_by(col(CacheHistory.server))
        async with self._database.read_session() as session:
            return list((await session.execute(statement)).scalars())

    async def replicas(self, server: str, begin: int, end: int) -> list[str]:
        """Names of the server's replicas, of which something in the range is recorded."""
        name = col(CacheHistory.server)
        overlaps = and_(col(CacheHistory.began_at) < end, col(CacheHistory.ended_at) >= begin)
        statement = select(name).where(rows_of(server), name != server, overlaps)
        statement = statement.distinct().order_by(name)
        async with self._database.read_session() as session:
            return list((await session.execute(statement)).scalars())

    async def bounds(self, server: str) -> HistoryBounds | None:
        """None: it has no row."""
        oldest, newest = func.min(col(CacheHistory.began_at)), func.max(col(CacheHistory.ended_at))
        statement = select(oldest, newest).where(col(CacheHistory.server) == server)
        async with self._database.read_session() as session:
            found = (await session.execute(statement)).one()
        return None if None in found else HistoryBounds(*found)

    async def last_before(self, server: str, at: int) -> HistoryRow | None:
        """The last row that begins by then; it may have ended before."""
        statement = (
            select(CacheHistory)
            .where(col(CacheHistory.server) == server, col(CacheHistory.began_at) <= at)
            .order_by(col(CacheHistory.began_at).desc())
            .limit(1)
        )
        async with self._database.read_session() as session:
            row = (await session.execute(statement)).scalar_one_or_none()
        return None if row is None else _history_row(row)

    async def first_after(self, server: str, at: int) -> int | None:
        """When the first row that begins later begins."""
        statement = select(func.min(col(CacheHistory.began_at))).where(
            col(CacheHistory.server) == server, col(CacheHistory.began_at) > at
        )
        async with self._database.read_session() as session:
            return (await session.execute(statement)).scalar_one()

    async def within(
        self, server: str, begin: int, end: int, *, content: bool = True, limit: int | None = None
    ) -> Sequence[HistoryRow]:
        """Rows that overlap the range, oldest first. `content` False: their totals only."""
        overlaps = and_(col(CacheHistory.began_at) < end, col(CacheHistory.ended_at) >= begin)
        statement = (
            select(CacheHistory)
            .where(col(CacheHistory.server) == server, overlaps)
            .order_by(col(CacheHistory.began_at))
            .limit(limit)
        )
        if not content:
            statement = statement.options(defer(CacheHistory.content, raiseload=True))  # type: ignore[arg-type]  # SQLModel types a column as its value
        async with self._database.read_session() as session:
            rows = (await session.execute(statement)).scalars()
            return [_history_row(row, content=content) for row in rows]


def _history_row(row: CacheHistory, *, content: bool = True) -> HistoryRow:
    packed = bytes(row.content) if content else b""
    return HistoryRow(row.began_at, row.ended_at, dict(row.totals), packed)
