"""Who watches the database, and what a transaction tells once it is committed."""

from collections.abc import Sequence
from enum import StrEnum
from typing import Protocol

from sqlalchemy import event, inspect
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session, UOWTransaction, sessionmaker

from registry.models import Event, Version
from registry.models.job import Job

_TOLD = "adaptry_told"

Told = Event | Job | Version
"""An event that was written, or a job or version that has entered another state."""


class Operation(StrEnum):
    READ = "read"
    WRITE = "write"


class DatabaseObserver(Protocol):
    """Must not raise or block."""

    def took(self, operation: Operation, seconds: float) -> None:
        """One session, from its beginning to its end, however it ended."""

    def failed(self) -> None:
        """The database could not be used."""

    def committed(self, rows: Sequence[Told]) -> None:
        """What one transaction changed; nothing of one that was not committed."""


def note_changes(sessions: sessionmaker[Session]) -> None:
    """From now on, what these sessions write can be `told`."""
    event.listen(sessions, "after_flush", _note)


def told(session: AsyncSession) -> Sequence[Told]:
    """In the order written."""
    rows: list[Told] = session.info.get(_TOLD, [])
    return rows


def _note(session: Session, _: UOWTransaction) -> None:
    rows: list[Told] = [row for row in session.new if isinstance(row, Event)]
    rows += [row for row in session.dirty if isinstance(row, Job | Version) and _moved(row)]
    session.info.setdefault(_TOLD, []).extend(rows)


def _moved(row: Job | Version) -> bool:
    return bool(inspect(row).attrs.state.history.has_changes())
