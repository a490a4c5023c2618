"""Response schemas of jobs."""

from datetime import datetime

from pydantic import BaseModel

from registry.models.job import Job

MAX_CANCELLED = 500


class JobRead(BaseModel):
    """One registration in the background.

    `bytes_total` is null while unknown. `code` and `detail` say why it failed, or is retried.
    `version` is set once it has succeeded; `created` is false if that version existed before.
    """

    id: int
    adapter: str
    source: str
    state: str
    step: str | None
    attempts: int
    bytes_done: int
    bytes_total: int | None
    cancel_requested: bool
    code: str | None
    detail: str | None
    version: str | None
    created: bool | None
    created_at: datetime
    created_by: str
    started_at: datetime | None
    next_attempt_at: datetime | None
    finished_at: datetime | None


class JobPage(BaseModel):
    items: list[JobRead]
    next_page_token: str | None


class JobsCancelled(BaseModel):
    """How many jobs were told to stop. `more`: there may be others that match."""

    cancelled: int
    more: bool


def job_read(job: Job) -> JobRead:
    return JobRead(
        id=job.number,
        adapter=job.adapter,
        source=job.source,
        state=job.state,
        step=job.step,
        attempts=job.attempts,
        bytes_done=job.bytes_done,
        bytes_total=job.bytes_total,
        cancel_requested=job.cancel_requested,
        code=job.code,
        detail=job.detail,
        version=None if job.version is None else f"{job.adapter}:{job.version}",
        created=job.created,
        created_at=job.created_at,
        created_by=job.created_by,
        started_at=job.started_at,
        next_attempt_at=job.next_attempt_at,
        finished_at=job.finished_at,
    )
