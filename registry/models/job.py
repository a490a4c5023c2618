"""Table of registration jobs and their outcomes."""

from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import JSON, BigInteger, CheckConstraint, Column, UniqueConstraint
from sqlmodel import Field

from registry.models.base import Table, UtcDateTime, now, one_of


class JobState(StrEnum):
    """`(receiving →) queued → running → succeeded`, or failed or cancelled from any of them."""

    RECEIVING = "receiving"
    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


UNFINISHED = frozenset({JobState.RECEIVING, JobState.QUEUED, JobState.RUNNING})


class JobStep(StrEnum):
    """Current step of a running job."""

    FETCHING = "fetching"
    INSPECTING = "inspecting"
    STORING = "storing"
    PUBLISHING = "publishing"


class Job(Table, table=True):
    """One registration in the background.

    `source` is safe to show. `fetched_from` may hold secrets: it is cleared at the end, and None
    for an upload. `request` is the rest of the request, and the client's address.
    """

    __tablename__ = "job"
    __table_args__ = (
        CheckConstraint(one_of("state", JobState), name="ck_job_state"),
        UniqueConstraint("workspace", name="uq_job_workspace"),
        {"sqlite_autoincrement": True},
    )

    id: int | None = Field(default=None, primary_key=True)
    adapter: str = Field(max_length=64)
    source: str = Field(max_length=4096)  # safe to show
    fetched_from: str | None = Field(default=None, max_length=4096)
    request: dict[str, Any] = Field(sa_column=Column(JSON, nullable=False))
    workspace: str = Field(max_length=32)
    state: str = Field(max_length=16, index=True)
    step: str | None = Field(default=None, max_length=16)
    attempts: int = 0
    bytes_done: int = Field(default=0, sa_type=BigInteger)
    bytes_total: int | None = Field(default=None, sa_type=BigInteger)
    cancel_requested: bool = False
    code: str | None = Field(default=None, max_length=64)
    detail: str | None = Field(default=None, max_length=1024)
    version: int | None = None
    created: bool | None = None
    created_by: str = Field(max_length=256)
    created_at: datetime = Field(default_factory=now, sa_column=Column(UtcDateTime, nullable=False))
    started_at: datetime | None = Field(default=None, sa_column=Column(UtcDateTime))
    next_attempt_at: datetime | None = Field(default=None, sa_column=Column(UtcDateTime))
    finished_at: datetime | None = Field(default=None, sa_column=Column(UtcDateTime))

    @property
    def number(self) -> int:
        """The id of a job that is in the database."""
        if self.id is None:
            raise ValueError("the job has not been written yet")
        return self.id

    @property
    def address(self) -> str | None:
        """Address of the client that requested it."""
        address: str | None = self.request.get("address")
        return address

    @property
    def is_finished(self) -> bool:
        return self.state not in UNFINISHED
