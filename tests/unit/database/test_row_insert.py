"""Rows inserted past the ORM are those that its flush would write."""

from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import inspect, text

from registry.database.engine import Database
from registry.database.row_insert import insert_row
from registry.models import Adapter, Alias, AliasHistory, Event, EventKind, Version, now
from registry.models.base import Table, table_of
from registry.models.job import Job

AT = now()
PARTS: dict[str, Any] = {"digest": "d", "rank": 8, "alpha": 16.0, "dtype": "float32"}
ROWS: list[tuple[type[Table], dict[str, Any]]] = [
    (Adapter, {"name": "bot", "tags": ["a"], "created_at": AT}),
    (
        Version,
        {
            **{"adapter_id": 1, "number": 1, "target_modules": ["q"], "size_bytes": 9},
            **{"source": "upload", "peft_config": {"r": 8}, "created_by": "me", "created_at": AT},
            **{**PARTS, "user_metadata": {"é": None}},
        },
    ),
    (Event, {"uid": "u", "at": AT, "actor": "me", "kind": EventKind.ALIAS_MOVED, "data": {}}),
    (Alias, {"adapter_id": 1, "name": "default", "version_id": 1}),
    (
        AliasHistory,
        {
            **{"adapter_id": 1, "alias": "default", "revision": 1, "version_id": 1, "weight": 1},
            **{"valid_from": AT, "actor": "me"},
        },
    ),
    (
        Job,
        {
            **{"adapter": "bot", "source": "upload", "request": {"address": None}},
            **{"workspace": "w", "state": "running", "created_by": "me", "created_at": AT},
        },
    ),
]


@pytest.mark.parametrize(("kind", "values"), ROWS, ids=[kind.__name__ for kind, _ in ROWS])
async def test_a_row_is_the_one_that_a_flush_writes(
    kind: type[Table], values: dict[str, Any], tmp_path: Path
) -> None:
    written = []
    for number, is_flushed in enumerate((False, True)):
        database = Database(f"sqlite:///{tmp_path}/{number}.db")
        async with database.transaction() as session:
            await session.execute(text("PRAGMA defer_foreign_keys=ON"))
            connection = await session.connection()
            await connection.run_sync(table_of(kind).metadata.create_all)
            row = kind(**values)
            if is_flushed:
                session.add(row)
                await session.flush()
            else:
                await insert_row(session, row)
            assert getattr(row, "id", 1) == 1
            found = await session.execute(text(f"SELECT * FROM {kind.__tablename__}"))
            written.append([dict(each) for each in found.mappings()])
            await session.rollback()
        await database.close()
    assert written[0] == written[1]
    assert len(written[0]) == 1


def test_columns_are_called_as_the_fields_are() -> None:
    for mapper in Adapter._sa_registry.mappers:
        for attribute in inspect(mapper.class_).column_attrs:
            assert [column.key for column in attribute.columns] == [attribute.key]
