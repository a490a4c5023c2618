"""Database observer: durations, failures, and the rows each transaction committed."""

from collections.abc import Sequence
from enum import StrEnum
from typing import Protocol

from sqlalchemy import event, inspect
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session, UOWTransaction, sessionmaker

from registry.models import Event, Version
from registry.models.job import Job

_ROWS_KEY = "adaptry_told"

CommittedRow = Event | Job | Version
"""An inserted event, or a job or version whose state changed."""


class Operation(StrEnum):
    READ = "read"
    WRITE = "write"


class DatabaseObserver(Protocol):
    """Must not raise or block."""

    def on_session_end(self, operation: Operation, seconds: float) -> None:
        """A session ended, successfully or not, after `seconds`."""

    def on_failure(self) -> None:
        """The database was unavailable."""

    def on_commit(self, rows: Sequence[CommittedRow]) -> None:
        """A transaction was committed with these changed rows."""


def track_changes(sessions: sessionmaker[Session]) -> None:
    """Collect what these sessions write, for `committed_rows`."""
    event.listen(sessions, "after_flush", _collect)


def committed_rows(session: AsyncSession) -> Sequence[CommittedRow]:
    """Rows that the session has written, in order."""
    rows: list[CommittedRow] = session.info.get(_ROWS_KEY, [])
    return rows


def add_committed_row(session: AsyncSession, row: CommittedRow) -> None:
    """Add one to `committed_rows` that a statement changed, not the session's own rows."""
    session.info.setdefault(_ROWS_KEY, []).append(row)


def _collect(session: Session, _: UOWTransaction) -> None:
    rows: list[CommittedRow] = [row for row in session.new if isinstance(row, Event)]
    rows += [row for row in session.dirty if isinstance(row, Job | Version) and _state_changed(row)]
    session.info.setdefault(_ROWS_KEY, []).extend(rows)


def _state_changed(row: Job | Version) -> bool:
    return bool(inspect(row).attrs.state.history.has_changes())
