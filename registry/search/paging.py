"""Paging over several conditions, in order, a page at a time, with bounded work.

Databases guess badly which of several conditions leads to a page soonest: where they are wrong, a
page takes a scan of all rows. So each condition is probed first, for as many rows as fill a few
pages. The most selective one then drives: the list follows its index, which has the keys in the
list's order, and the others are tested row by row. Over 100,000 versions this
keeps most pages within a few milliseconds (`python -m benchmarks.registry --only pages`), where
SQLite's and PostgreSQL's own plans took up to 80. It can't help where two conditions that many
rows meet never hold together.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, FromClause, Row, Select, select
from sqlalchemy.ext.asyncio import AsyncSession

PROBED_ROWS = 1000


@dataclass(frozen=True, slots=True)
class Condition:
    """One condition of a search, in two forms.

    `keys`: one column, the keys of all rows that meet it. With `ordered`, an index has them in the
    list's order; else they are collected and sorted. `test`: the same for the row with one key,
    written so that no index is used for it.
    """

    keys: Select[Any]
    test: Callable[[ColumnElement[Any]], ColumnElement[bool]]
    ordered: bool = True

    @property
    def key(self) -> ColumnElement[Any]:
        return next(iter(self.keys.selected_columns))


@dataclass(frozen=True, slots=True)
class Search:
    """A list of `rows` in the order of `key`, starting after the key `after`."""

    rows: Select[*tuple[Any, ...]]
    key: Any
    conditions: Sequence[Condition]
    after: str | int

    async def page(self, session: AsyncSession, limit: int) -> Sequence[Row[*tuple[Any, ...]]]:
        """The next rows."""
        driver = await self._driver(session)
        statement, key = self.rows.where(self.key > self.after), self.key
        if driver is not None:
            keys = self._keys_of(driver)
            (key,) = keys.c
            statement = statement.join(keys, key == self.key)
        others = [condition for condition in self.conditions if condition is not driver]
        tested = statement.where(*(condition.test(key) for condition in others))
        return (await session.execute(tested.order_by(key).limit(limit))).all()

    def _keys_of(self, driver: Condition) -> FromClause:
        keys = driver.keys.where(driver.key > self.after)
        if driver.ordered:
            return keys.subquery()
        return keys.distinct().cte().prefix_with("MATERIALIZED")

    async def _driver(self, session: AsyncSession) -> Condition | None:
        """None: the list's own order drives."""
        if not self.conditions:
            return None
        probes = [self._probe(condition) for condition in self.conditions]
        found = (await session.execute(select(*probes))).one()
        few = [c for c, key in zip(self.conditions, found, strict=True) if key is None]
        if few:
            return next((c for c in few if c.ordered), few[0])
        reached = [
            (key, n) for n, key in enumerate(found) if self.conditions[n].ordered
        ]  # the further the probe gets, the fewer keys there are
        return self.conditions[max(reached)[1]] if reached else None

    def _probe(self, condition: Condition) -> ColumnElement[Any]:
        """The key after `PROBED_ROWS` matching rows; NULL if there are fewer."""
        keys = condition.keys.where(condition.key > self.after)
        if condition.ordered:
            keys = keys.order_by(condition.key)
        return keys.offset(PROBED_ROWS).limit(1).scalar_subquery()
