"""Change poller: detects what other processes changed in the same database."""

import asyncio
import time
from collections.abc import Callable

from sqlalchemy import case, func, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import aliased
from sqlmodel import col

from registry.database.change_counter import SERVED_NAMES
from registry.database.commit_watch import Version
from registry.database.engine import Database
from registry.errors import DatabaseUnavailable
from registry.models import Adapter, Event, EventKind

# Events get their ids before they are committed, so that a lower id may appear after a higher one.
_LATE_IDS = 1000
_POLL_TIMEOUT_SECONDS = 0.5  # a stopped database may take a minute to time out

_OF_EVERY_ADAPTER = (
    *(EventKind.BASE_LINKED, EventKind.BASE_UNLINKED),
    EventKind.ADAPTER_IMPORTED,  # stands for served names too
)
_OF_NAMES = (EventKind.NAME_SET, EventKind.NAME_REMOVED)
_EVERY_ADAPTER = "*"  # instead of a name: what any reference means may have changed

_HIGHEST = select(func.coalesce(func.max(col(aliased(Event).id)), 0)).scalar_subquery()
_LATEST = select(func.count()).where(col(Event.id) > _HIGHEST - _LATE_IDS).scalar_subquery()
_NEWEST = select(_HIGHEST, _LATEST)  # the highest id, and the number of the latest ids


class ChangePoller:
    """Polls for new events. Commits of this process itself are known immediately.

    Under steady traffic no request waits for a poll: requests start one in the background before
    it is due.
    """

    def __init__(
        self,
        database: Database,
        *,
        every_seconds: float = 1.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._database = database
        self._clock = clock
        self._every_seconds = every_seconds
        self._due = 0.0
        self._polling: asyncio.Task[None] | None = None
        self._last: tuple[int, int] | None = None
        self._last_ids: frozenset[int | None] = frozenset()
        self._commits = database.seen_commits()

    async def poll(self) -> None:
        """Record changes of other processes, if a poll is due.

        A database that is unavailable or does not respond changes nothing: cached answers stay
        valid.
        """
        now = self._clock()
        is_due = now >= self._due
        if not is_due and (now < self._due - self._every_seconds / 2 or self.is_polling()):
            return
        self._due = now + self._every_seconds
        if not self.is_polling() and (unseen := self._commits.unseen()) is not None:
            self._polling = asyncio.create_task(self._poll(unseen))
            if is_due:  # on timeout it continues in the background
                done, _ = await asyncio.wait({self._polling}, timeout=_POLL_TIMEOUT_SECONDS)
                for poll in done:
                    poll.result()

    async def poll_now(self) -> None:
        """Poll after a notification: a poll that is already running may have missed the change."""
        while self._polling is not None and self.is_polling():
            await asyncio.wait({self._polling})
        self._due = self._clock() + self._every_seconds
        poll = self._polling = asyncio.create_task(self._poll(self._commits.unseen()))
        await asyncio.wait({poll})  # requests may wait for it too
        poll.result()

    def is_polling(self) -> bool:
        """There is one poll at a time."""
        return self._polling is not None and not self._polling.done()

    async def _poll(self, commits: Version | None) -> None:
        try:
            async with self._database.read_session() as session:
                await self._compare(session)
        except DatabaseUnavailable:
            return
        if commits is not None:
            self._commits.record(commits)

    async def _compare(self, session: AsyncSession) -> None:
        row = (await session.execute(_NEWEST)).one()
        seen = row[0], row[1]
        if seen == self._last:
            return
        before, self._last = self._last, seen
        latest = await _latest(session, seen[0])
        new = latest.keys() - self._last_ids
        self._last_ids = frozenset(latest)
        found = {latest[id_] for id_ in new}
        missed = before is None or seen[0] - before[0] >= _LATE_IDS  # more than these ids cover
        if missed or _EVERY_ADAPTER in found:
            self._database.changes.record()
        elif named := set(filter(None, found)):
            self._database.changes.record(*named)


async def _latest(session: AsyncSession, newest: int) -> dict[int | None, str]:
    """What the latest events changed, by event id: an adapter's name, or what stands for it."""
    kind = col(Event.kind)
    named = case(
        (kind.in_(_OF_EVERY_ADAPTER), _EVERY_ADAPTER),
        (kind.in_(_OF_NAMES), SERVED_NAMES),
        else_=col(Adapter.name),
    )
    statement = (
        select(col(Event.id), named)
        .outerjoin(Adapter, col(Event.adapter_id) == col(Adapter.id))
        .where(col(Event.id) > newest - _LATE_IDS)
    )
    return {row[0]: row[1] for row in (await session.execute(statement)).all()}
