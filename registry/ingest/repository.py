"""SQL of jobs. Never commits: the caller owns the transaction."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, cast

from sqlalchemy import (
    ColumnElement,
    CursorResult,
    String,
    and_,
    bindparam,
    case,
    delete,
    func,
    or_,
    select,
)
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import GenericFunction
from sqlmodel import col

from registry.models.base import table_of
from registry.models.job import UNFINISHED, Job, JobState
from registry.references import tenant_of
from registry.sources.urls import is_url

CLEARED_AT_END = dict.fromkeys(("step", "code", "detail", "fetched_from", "next_attempt_at"))
"""Fields of a job that say something of its attempts only."""

_TABLE = table_of(Job)
_SUCCEED = (
    _TABLE.update()
    .where(
        _TABLE.c.id == bindparam("number"),
        _TABLE.c.state.in_(sorted(UNFINISHED)),
        _TABLE.c.cancel_requested.is_(False),
    )
    .values(
        state=JobState.SUCCEEDED,
        **CLEARED_AT_END,
        **{
            name: bindparam(name)
            for name in ("version", "created", "bytes_done", "bytes_total", "finished_at")
        },
    )
)

_ANY_UNFINISHED = select(_TABLE.c.id).where(_TABLE.c.state.in_(sorted(UNFINISHED))).limit(1)


@dataclass(frozen=True, slots=True)
class JobFilter:
    """Jobs in this state, of this adapter and of this tenant; None: of any."""

    state: JobState | None = None
    adapter: str | None = None
    tenant: str | None = None

    def conditions(self) -> list[ColumnElement[bool]]:
        found: list[ColumnElement[bool]] = []
        if self.state is not None:
            found.append(col(Job.state) == self.state)
        if self.adapter is not None:
            found.append(col(Job.adapter) == self.adapter)
        if self.tenant is not None:
            found.append(_is_of(self.tenant))
        return found


@dataclass(frozen=True, slots=True)
class DueJob:
    """A job to run. `upload_bytes`: size of the uploaded body; None if it must be fetched.

    `owner`: the tenant; of the platform's jobs, where they are fetched from. As that has a slash,
    it is no tenant. `turn`: 1 for the tenant's oldest job, 2 for the next.
    """

    number: int
    workspace: str
    tenant: str | None
    upload_bytes: int | None
    owner: str = "/"
    turn: int = 1


class JobRepository:
    """Queries on one session."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def add(self, job: Job) -> Job:
        """Insert the job, so that its id is known."""
        self._session.add(job)
        await self._session.flush()
        return job

    async def job(self, number: int, *, lock: bool = False) -> Job | None:
        """`lock`: no other transaction changes it until this one ends."""
        statement = select(Job).where(col(Job.id) == number)
        if lock:
            statement = statement.with_for_update(key_share=True)
        return (await self._session.execute(statement)).scalar_one_or_none()

    async def succeed(self, number: int, outcome: Mapping[str, Any]) -> bool:
        """Finish an unfinished job; False if it is finished or its cancellation was requested."""
        result = await self._session.execute(_SUCCEED, {**outcome, "number": number})
        return bool(cast("CursorResult[Any]", result).rowcount)

    async def to_cancel(self, wanted: JobFilter, limit: int) -> Sequence[Job]:
        """Unfinished jobs whose cancellation was not requested, oldest first, and locked."""
        statement = (
            select(Job)
            .where(*wanted.conditions(), col(Job.state).in_(sorted(UNFINISHED)))
            .where(col(Job.cancel_requested).is_(False))
            .order_by(col(Job.id))
            .limit(limit)
            .with_for_update(key_share=True)
        )
        return (await self._session.execute(statement)).scalars().all()

    async def jobs(self, wanted: JobFilter, *, before: int | None, limit: int) -> Sequence[Job]:
        """The next jobs, newest first."""
        statement = select(Job).where(*wanted.conditions())
        if before is not None:
            statement = statement.where(col(Job.id) < before)
        ordered = statement.order_by(col(Job.id).desc()).limit(limit)
        return (await self._session.execute(ordered)).scalars().all()

    async def due(
        self, at: datetime, *, after: DueJob | None = None, excluding: Collection[int], limit: int
    ) -> Sequence[DueJob]:
        """Jobs that are due, including those whose worker died: each tenant's oldest first.

        `after`: the last one of the page before.
        """
        tenant = _tenant_prefix(col(Job.adapter))
        turn = func.row_number().over(partition_by=tenant, order_by=col(Job.id))
        found = (
            select(
                col(Job.id),
                col(Job.workspace),
                col(Job.adapter),
                case((col(Job.fetched_from).is_(None), col(Job.bytes_done))).label("upload_bytes"),
                col(Job.fetched_from),
                turn.label("turn"),
            )
            .where(col(Job.state).in_(sorted(UNFINISHED)), col(Job.id).not_in(excluding))
            .where(or_(col(Job.next_attempt_at).is_(None), col(Job.next_attempt_at) <= at))
            .subquery()
            .c
        )
        statement = select(*found).order_by(found.turn, found.id).limit(limit)
        if after is not None:
            is_later = and_(found.turn == after.turn, found.id > after.number)
            statement = statement.where(or_(found.turn > after.turn, is_later))
        return [_due_job(row) for row in await self._session.execute(statement)]

    async def unfinished(self, tenant: str, *, up_to: int) -> int:
        """Number of the tenant's unfinished jobs, counted to this one at most."""
        unfinished = select(col(Job.id)).where(
            _is_of(tenant), col(Job.state).in_(sorted(UNFINISHED))
        )
        counted = select(func.count()).select_from(unfinished.limit(up_to).subquery())
        return (await self._session.execute(counted)).scalar_one()

    async def workspaces(self) -> set[str]:
        """The workspaces in which unfinished jobs have their files."""
        statement = select(col(Job.workspace)).where(col(Job.state).in_(sorted(UNFINISHED)))
        return set((await self._session.execute(statement)).scalars())

    async def needs_workspace(self, name: str) -> bool:
        """Whether an unfinished job has its files there."""
        statement = select(col(Job.id)).where(
            col(Job.workspace) == name, col(Job.state).in_(sorted(UNFINISHED))
        )
        return (await self._session.execute(statement.limit(1))).first() is not None

    async def has_any_unfinished(self) -> bool:
        """Whether there is a job to do, now or later."""
        return (await self._session.execute(_ANY_UNFINISHED)).first() is not None

    async def has_unfinished(self, tenant: str) -> bool:
        """Whether the tenant has an unfinished job."""
        unfinished = select(col(Job.id)).where(
            _is_of(tenant), col(Job.state).in_(sorted(UNFINISHED))
        )
        return (await self._session.execute(unfinished.limit(1))).first() is not None

    async def delete_of_tenant(self, tenant: str) -> None:
        """Delete the tenant's jobs: a tenant that reuses the name must not see them."""
        await self._session.execute(delete(Job).where(_is_of(tenant)))

    async def delete_finished(self, finished_before: datetime) -> None:
        """Delete jobs that finished before then."""
        await self._session.execute(delete(Job).where(col(Job.finished_at) < finished_before))


def _due_job(row: Any) -> DueJob:
    tenant = tenant_of(row.adapter)
    owner = tenant or _place_of(row.fetched_from)
    return DueJob(row.id, row.workspace, tenant, row.upload_bytes, owner, row.turn)


def _place_of(fetched_from: str | None) -> str:
    """What may hang as a whole: `https://HOST` of a URL, `/mnt/nas` of a folder."""
    source = fetched_from or ""
    absolute = source if is_url(source) else f"/{source.lstrip('/')}"
    return "/".join(absolute.split("/")[:3])


def _is_of(tenant: str) -> ColumnElement[bool]:
    return col(Job.adapter).startswith(f"{tenant}~")


class _tenant_prefix(GenericFunction[str]):  # noqa: N801  # SQLAlchemy names the function by it
    """The tenant and its tilde in an adapter's name; empty for the platform's own adapters."""

    type = String()
    inherit_cache = True


@compiles(_tenant_prefix)
def _with_instr(element: _tenant_prefix, compiler: SQLCompiler, **options: Any) -> str:
    name = compiler.process(element.clauses, **options)
    return f"substr({name}, 1, instr({name}, '~'))"


@compiles(_tenant_prefix, "postgresql")
def _with_strpos(element: _tenant_prefix, compiler: SQLCompiler, **options: Any) -> str:
    name = compiler.process(element.clauses, **options)
    return f"substr({name}, 1, strpos({name}, '~'))"
