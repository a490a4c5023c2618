"""Prompt sets: prompts that versions are compared with, kept under a name for everyone of a tenant.

A set is no part of an adapter: the same prompts are put to many. So it is a row of its own, and
neither metadata of an adapter nor in the event log.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import delete, func, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from registry.auth.grants import get_tenant
from registry.database.engine import Database
from registry.errors import PromptSetExists, TooManyPromptSets, UnknownPromptSet
from registry.models import PromptSet, now
from registry.quotas.repository import QuotaRepository
from registry.quotas.service import TenantQuotas
from registry.references import PLATFORM

MAX_SETS = 200
"""Of one tenant, or of the platform."""


@dataclass(frozen=True, slots=True)
class PromptSetLine:
    """A set in a list; `number`: of its prompts."""

    name: str
    number: int
    updated_at: datetime
    updated_by: str


class PromptSetService:
    """`owner`: a tenant, or `PLATFORM`. Each change is one transaction."""

    def __init__(self, database: Database, quotas: TenantQuotas) -> None:
        self._database = database
        self._quotas = quotas

    async def all(self, owner: str) -> Sequence[PromptSetLine]:
        """By name. The database counts the prompts: to read all would hold up the event loop."""
        number = func.json_array_length(col(PromptSet.prompts))
        changed = (col(PromptSet.updated_at), col(PromptSet.updated_by))
        chosen = select(col(PromptSet.name), number, *changed).where(col(PromptSet.owner) == owner)
        async with self._database.read_session() as session:
            found = await session.execute(chosen.order_by(col(PromptSet.name)))
            return [PromptSetLine(*row) for row in found]

    async def find(self, owner: str, name: str) -> PromptSet:
        """Raises UnknownPromptSet."""
        async with self._database.read_session() as session:
            return await _get(session, owner, name)

    async def save(self, owner: str, name: str, prompts: Sequence[str], *, actor: str) -> PromptSet:
        """Create it, or replace its prompts.

        Raises TooManyPromptSets, UnknownTenant; TenantLimit, unless it becomes no larger.
        """
        try:
            return await self._save(owner, name, prompts, actor)
        except IntegrityError:  # PostgreSQL: another request created it meanwhile
            return await self._save(owner, name, prompts, actor)

    async def _save(self, owner: str, name: str, prompts: Sequence[str], actor: str) -> PromptSet:
        async with self._database.transaction(for_catalog=False) as session:
            found = await session.get(PromptSet, (owner, name), with_for_update=True)
            if found is None:
                if owner != PLATFORM:  # a tenant that is deleted meanwhile must leave nothing
                    await get_tenant(session, owner, lock=True)
                await _check_number(session, owner)
                found = PromptSet(owner=owner, name=name, updated_by=actor)
                session.add(found)
            before, found.size_bytes = found.size_bytes, sum(len(each.encode()) for each in prompts)
            found.prompts = list(prompts)
            found.updated_at, found.updated_by = now(), actor
            await session.flush()
            if owner != PLATFORM and found.size_bytes > before:
                await self._quotas.check_prompts(session, owner)
        return found

    async def rename(self, owner: str, name: str, new: str, *, actor: str) -> PromptSet:
        """Raises UnknownPromptSet, PromptSetExists."""
        try:
            async with self._database.transaction(for_catalog=False) as session:
                found = await _get(session, owner, name, lock=True)
                if new != name and await session.get(PromptSet, (owner, new)) is not None:
                    raise PromptSetExists(new)
                found.name, found.updated_at, found.updated_by = new, now(), actor
                await session.flush()
        except IntegrityError:
            raise PromptSetExists(new) from None
        return found

    async def delete(self, owner: str, name: str) -> None:
        """Raises UnknownPromptSet."""
        async with self._database.transaction(for_catalog=False) as session:
            await session.delete(await _get(session, owner, name, lock=True))


async def delete_of_tenant(session: AsyncSession, tenant: str) -> None:
    """All of a tenant that is deleted itself."""
    await session.execute(delete(PromptSet).where(col(PromptSet.owner) == tenant))


async def _get(session: AsyncSession, owner: str, name: str, *, lock: bool = False) -> PromptSet:
    """`lock`: no other transaction changes or deletes it before this one ends."""
    found = await session.get(PromptSet, (owner, name), with_for_update=lock)
    if found is None:
        raise UnknownPromptSet(name)
    return found


async def _check_number(session: AsyncSession, owner: str) -> None:
    """Raises TooManyPromptSets."""
    await QuotaRepository(session).lock_tenant(owner)  # the platform has no row to lock
    counted = select(func.count()).select_from(PromptSet).where(col(PromptSet.owner) == owner)
    if (await session.execute(counted)).scalar_one() >= MAX_SETS:
        raise TooManyPromptSets(MAX_SETS)
