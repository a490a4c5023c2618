"""Costs of a small upload beside serving: statements and changes of threads, which take its CPU."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiosqlite
import pytest

from registry.database.sqlite_connection import SqliteCursor
from tests.support.servers.registry_in_loop import running_registry

MOST_STATEMENTS = 14
"""Two transactions, each with its BEGIN."""

MOST_TRIPS = 2
"""To the connection's thread: each transaction is one."""

MOST_HOPS = 7
"""The workspace, its files, what is verified, stored and closed, and a sync of each transaction."""


async def test_a_small_upload_takes_few_statements_and_few_threads(
    database_url: str,
    tmp_path: Path,
    base_model: Any,
    make_adapter: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    statements: list[str] = []
    trips: list[object] = []
    hops: list[object] = []
    execute, to_thread = SqliteCursor._execute, asyncio.to_thread
    send = aiosqlite.Connection._execute

    def note(cursor: SqliteCursor, how: Any, operation: str, parameters: Any) -> None:
        statements.append(operation)
        execute(cursor, how, operation, parameters)

    async def note_trip(
        connection: aiosqlite.Connection, function: Any, *more: Any, **named: Any
    ) -> Any:
        trips.append(function)
        return await send(connection, function, *more, **named)  # type: ignore[no-untyped-call]

    async def note_hop(function: Any, /, *arguments: Any, **named: Any) -> Any:
        hops.append(function)
        return await to_thread(function, *arguments, **named)

    async with running_registry(database_url, tmp_path, base_model) as registry:
        for name in ("first", "second"):  # the first one adds the base model, and compiles
            files = [
                ("files", (file.name, file.read_bytes())) for file in make_adapter(name).iterdir()
            ]
            monkeypatch.setattr(SqliteCursor, "_execute", note)
            monkeypatch.setattr(aiosqlite.Connection, "_execute", note_trip)
            monkeypatch.setattr(asyncio, "to_thread", note_hop)
            for noted in (statements, trips, hops):
                noted.clear()
            answer = await registry.http.post(f"/adapters/{name}/versions", files=files)
            monkeypatch.undo()
            assert answer.status_code == 201, answer.text
    assert 0 < len(statements) <= MOST_STATEMENTS, statements
    assert 0 < len(trips) <= MOST_TRIPS, trips
    assert 0 < len(hops) <= MOST_HOPS, hops
