"""Job queue: due jobs in turns between tenants, read in batches."""

import time
from collections import deque
from collections.abc import Collection, Sequence

from registry.database.commit_watch import Version
from registry.database.engine import Database
from registry.ingest.repository import DueJob, JobRepository
from registry.models import now

_BATCH = 100
_LARGEST_BATCH = 2_000
_LOOK_SECONDS = 1.0
_NEAR = 1_000
_FAR_SECONDS = 10.0


class JobQueue:
    """Reads the table once a second or batch, not once a job: a drain is linear in its jobs.

    Where no job of a long queue gets a place, as all are of an owner that has its share, a look
    goes through all of it. Each batch sorts the queue, so batches grow, and it goes beyond `_NEAR`
    jobs only now and then. A queue without a job costs a look one short statement, and none where
    nothing was committed since.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._commits = database.seen_commits()  # with which there was no job
        self._batch: deque[DueJob] = deque()
        self._last_read: DueJob | None = None
        self._count = 0  # read in this look
        self._is_last = True
        self._looked_at = 0.0
        self._far_at = -_FAR_SECONDS
        self._may_go_far = True

    async def next(self, running: Collection[int]) -> DueJob | None:
        """A job that none of this process's is running; None if there is no further one.

        Each is given once a look: it may be held by another process. Raises DatabaseUnavailable.
        """
        if not self._batch:
            await self._read(running)
        return self._batch.popleft() if self._batch else None

    def look(self) -> None:
        """Begin again with all due jobs, if the last look is used up or old."""
        at = time.monotonic()
        is_used_up = self._is_last and not self._batch
        if is_used_up or at - self._looked_at > _LOOK_SECONDS:
            self._batch.clear()
            self._last_read, self._count = None, 0
            self._is_last = False
            self._looked_at = at
            self._may_go_far = at - self._far_at >= _FAR_SECONDS

    async def _read(self, running: Collection[int]) -> None:
        if self._count >= _NEAR:
            self._is_last = self._is_last or not self._may_go_far
            self._far_at = self._looked_at if self._may_go_far else self._far_at
        if self._is_last:
            return
        limit = min(_BATCH + self._count, _LARGEST_BATCH)
        unseen = self._commits.unseen()
        jobs = () if unseen is None else await self._due(running, limit, unseen)
        self._batch.extend(jobs)
        self._count += len(jobs)
        self._last_read = jobs[-1] if jobs else None
        self._is_last = len(jobs) < limit

    async def _due(self, running: Collection[int], limit: int, unseen: Version) -> Sequence[DueJob]:
        async with self._database.read_session() as session:
            jobs = JobRepository(session)
            if await jobs.has_any_unfinished():
                return await jobs.due(now(), after=self._last_read, excluding=running, limit=limit)
        self._commits.record(unseen)
        return ()
