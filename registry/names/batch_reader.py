"""Batch reader: reads what texts may name, many in one query, one query at a time.

Any caller may send names that nothing has. They share the query that is next, so that they neither
reach the database more often nor hold more than one of its connections.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence, Set
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from itertools import islice

from sqlalchemy.ext.asyncio import AsyncSession

from registry.auth.caller import is_seen
from registry.catalog.types import Resolution
from registry.errors import DatabaseUnavailable, RegistryError
from registry.names.repository import NameRepository
from registry.references import PLATFORM, AdapterReference

BATCH = 256
MAX_WAITING = 10_000
MAX_TOGETHER = 8
"""Questions in a query with which their versions are read too: who is behind waits for these."""

OpenSession = Callable[[], AbstractAsyncContextManager[AsyncSession]]


@dataclass(frozen=True, slots=True)
class Question:
    """`owner` asks for a served name, or for what a reference means, or for both.

    `granted`: the adapters of others that it may use.
    """

    owner: str
    granted: frozenset[str]
    name: str | None
    direct: AdapterReference | None


@dataclass(frozen=True, slots=True)
class Answer:
    """What the text means. `resolution`: the versions of that, or why there are none."""

    reference: AdapterReference
    resolution: Resolution | RegistryError | None = None


ReadVersions = Callable[[AsyncSession, AdapterReference], Awaitable[Resolution]]
"""In the same session: what was not asked for before is one look-up."""


class NameReader:
    """Concurrent reads of one question are one read."""

    def __init__(
        self,
        open_session: OpenSession,
        read_versions: ReadVersions | None = None,
        *,
        max_waiting: int = MAX_WAITING,
    ) -> None:
        self._open_session = open_session
        self._read_versions = read_versions
        self._max_waiting = max_waiting
        self._waiting: dict[Question, asyncio.Future[Answer | None]] = {}
        self._work: asyncio.Task[None] | None = None

    async def read(self, question: Question) -> Answer | None:
        """None if it means nothing to the owner. Raises DatabaseUnavailable."""
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
                meanings = await _select(NameRepository(session), questions)
                read = self._read_versions if len(questions) <= MAX_TOGETHER else None
                answers = [await _answer(session, each, read) for each in meanings]
        except Exception as error:
            for reading in batch.values():
                reading.set_exception(error)
                reading.exception()  # its caller may have left
        else:
            for reading, answer in zip(batch.values(), answers, strict=True):
                reading.set_result(answer)
        finally:
            for reading in batch.values():
                reading.cancel()  # this task was cancelled, or it is done


async def _answer(
    session: AsyncSession, reference: AdapterReference | None, read: ReadVersions | None
) -> Answer | None:
    if reference is None or read is None:
        return None if reference is None else Answer(reference)
    try:
        return Answer(reference, await read(session, reference))
    except DatabaseUnavailable:
        raise
    except RegistryError as error:  # it may have no such alias, say
        return Answer(reference, error)


async def _select(
    repository: NameRepository, questions: Sequence[Question]
) -> list[AdapterReference | None]:
    names = {each.name for each in questions if each.name is not None}
    adapters = {each.direct.adapter for each in questions if each.direct is not None}
    owners = {PLATFORM, *(each.owner for each in questions)}
    targets = await repository.targets(owners, names) if names else ()
    found = {(target.owner, target.name): target.reference for target in targets}
    existing = await repository.adapters(adapters) if adapters else frozenset()
    return [_meaning(each, found, existing) for each in questions]


def _meaning(
    question: Question,
    found: Mapping[tuple[str, str], AdapterReference],
    existing: Set[str],
) -> AdapterReference | None:
    """Its own name, or else the reference, or else the platform's name."""
    name, direct = question.name or "", question.direct
    if (own := found.get((question.owner, name))) is not None:
        return own
    if direct is not None and direct.adapter in existing:
        return direct
    platforms = found.get((PLATFORM, name))
    tenant = question.owner or None
    if platforms is None or not is_seen(platforms.adapter, tenant, question.granted):
        return None
    return platforms
