"""Further numbers: other registries' numbers for content that is a version here already."""

from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import insert, select, union_all
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from registry.models import FurtherNumber, Version

_BATCH = 500


def ids_of_number(adapter_id: Any, number: int) -> Any:
    """The row id of the version that a number means: a subquery of one row, or none."""
    own = select(col(Version.id)).where(
        col(Version.adapter_id) == adapter_id, col(Version.number) == number
    )
    further = select(col(FurtherNumber.version_id)).where(
        col(FurtherNumber.adapter_id) == adapter_id, col(FurtherNumber.number) == number
    )
    return union_all(own, further)


async def further_numbers(
    session: AsyncSession, version_ids: Iterable[int]
) -> dict[int, tuple[int, ...]]:
    """By row id of the version, in order; nothing for versions without."""
    ids, found = list(version_ids), dict[int, list[int]]()
    for start in range(0, len(ids), _BATCH):
        statement = (
            select(col(FurtherNumber.version_id), col(FurtherNumber.number))
            .where(col(FurtherNumber.version_id).in_(ids[start : start + _BATCH]))
            .order_by(col(FurtherNumber.number))
        )
        for version_id, number in (await session.execute(statement)).all():
            found.setdefault(version_id, []).append(number)
    return {version_id: tuple(numbers) for version_id, numbers in found.items()}


async def add_further_numbers(session: AsyncSession, rows: Sequence[dict[str, int]]) -> None:
    """Under the locks of their adapters."""
    if rows:
        await session.execute(insert(FurtherNumber), rows)
