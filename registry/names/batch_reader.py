"""Batch reader: reads what texts may name, many in one query, one query at a time.

Anybody may send names that nothing has. They share the query that is next, so that they neither
reach the database more often nor hold more than one of its connections.
"""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from itertools import islice

from sqlalchemy.ext.asyncio import AsyncSession

from registry.errors import DatabaseUnavailable
from registry.names.repository import NameRepository
from registry.references import PLATFORM, AdapterReference

BATCH = 256
MAX_WAITING = 10_000

OpenSession = Callable[[], AbstractAsyncContextManager[AsyncSession]]


@dataclass(frozen=True, slots=True)
class Question:
    """`owner` asks for a served name, or for the adapter of a reference, or for both."""

    owner: str
    name: str | None
    adapter: str | None


@dataclass(frozen=True, slots=True)
class Answer:
    """What the owner's own name means, what the platform's does, and whether the adapter exists."""

    own: AdapterReference | None
    platforms: AdapterReference | None
    has_adapter: bool


class NameReader:
    """Concurrent reads of one question are one read."""

    def __init__(self, open_session: OpenSession, *, max_waiting: int = MAX_WAITING) -> None:
        self._open_session = open_session
        self._max_waiting = max_waiting
        self._waiting: dict[Question, asyncio.Future[Answer]] = {}
        self._work: asyncio.Task[None] | None = None

    async def read(self, question: Question) -> Answer:
        """Raises DatabaseUnavailable."""
        reading = self._waiting.get(question)
        if reading is None:
            if len(self._waiting) >= self._max_waiting:
                raise DatabaseUnavailable("too many names are being looked up")
            reading = self._waiting[question] = asyncio.get_running_loop().create_future()
        if self._work is None:
            self._work = asyncio.create_task(self._read_all())
        return await asyncio.shield(reading)

    async def _read_all(self) -> None:
        try:
            while self._waiting:
                await self._read_some()
        finally:
            self._work = None

    async def _read_some(self) -> None:
        questions = list(islice(self._waiting, BATCH))
        batch = {each: self._waiting.pop(each) for each in questions}
        try:
            async with self._open_session() as session:
                answers = await _select(NameRepository(session), questions)
        except Exception as error:
            for reading in batch.values():
                reading.set_exception(error)
                reading.exception()  # whoever asked may have left
        else:
            for reading, answer in zip(batch.values(), answers, strict=True):
                reading.set_result(answer)
        finally:
            for reading in batch.values():
                reading.cancel()  # this task was cancelled, or it is done


async def _select(repository: NameRepository, questions: Sequence[Question]) -> list[Answer]:
    names = {each.name for each in questions if each.name is not None}
    adapters = {each.adapter for each in questions if each.adapter is not None}
    owners = {PLATFORM, *(each.owner for each in questions)}
    targets = await repository.targets(owners, names) if names else ()
    found = {(target.owner, target.name): target.reference for target in targets}
    existing = await repository.adapters(adapters) if adapters else frozenset()
    return [
        Answer(
            found.get((each.owner, each.name or "")),
            found.get((PLATFORM, each.name or "")),
            each.adapter in existing,
        )
        for each in questions
    ]
