"""Job queue: due jobs in turns between tenants, read in batches."""

import time
from collections import deque
from collections.abc import Collection

from registry.database.engine import Database
from registry.ingest.repository import DueJob, JobRepository
from registry.models import now

_BATCH = 100
_LOOK_SECONDS = 1.0


class JobQueue:
    """Reads the table once a second or batch, not once a job: a drain is linear in its jobs."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._batch: deque[DueJob] = deque()
        self._tried: set[int] = set()
        self._is_last = True
        self._looked_at = 0.0

    async def next(self, running: Collection[int]) -> DueJob | None:
        """A job that none of this process's is running; None if there is no further one.

        Each is given once a look: it may be held by another process. Raises DatabaseUnavailable.
        """
        if not self._batch:
            await self._read(running)
        if not self._batch:
            return None
        job = self._batch.popleft()
        self._tried.add(job.number)
        return job

    def look(self) -> None:
        """Begin again with all due jobs, if the last look is used up or old."""
        is_used_up = self._is_last and not self._batch
        if is_used_up or time.monotonic() - self._looked_at > _LOOK_SECONDS:
            self._batch.clear()
            self._tried.clear()
            self._is_last = False
            self._looked_at = time.monotonic()

    async def _read(self, running: Collection[int]) -> None:
        if self._is_last:
            return
        async with self._database.read_session() as session:
            excluding = self._tried.union(running)
            jobs = await JobRepository(session).due(now(), excluding=excluding, limit=_BATCH)
        self._batch.extend(jobs)
        self._is_last = len(jobs) < _BATCH
