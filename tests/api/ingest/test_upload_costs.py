"""Costs of a small upload beside serving: statements and changes of threads, which take its CPU."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiosqlite
import pytest

from registry.database.sqlite_connection import SqliteCursor
from registry.sources.disks.reads import ReadThreads
from tests.support.databases.noted_statements import noted_statements
from tests.support.servers.registry_in_loop import running_registry

MOST_STATEMENTS = 14
"""Two transactions, each with its BEGIN."""

MOST_TRIPS = 2
"""To the connection's thread: each transaction is one."""

MOST_HOPS = 5
"""The workspace, its files, what is verified and stored, what is closed; one sync of both
transactions."""


async def test_a_small_upload_takes_few_statements_and_few_threads(
    database_url: str,
    tmp_path: Path,
    base_model: Any,
    make_adapter: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    trips: list[object] = []
    hops: list[object] = []
    cursors: list[str] = []
    execute = SqliteCursor._execute
    to_thread, send, submit = asyncio.to_thread, aiosqlite.Connection._execute, ReadThreads.submit

    async def note_trip(
        connection: aiosqlite.Connection, function: Any, *more: Any, **named: Any
    ) -> Any:
        trips.append(function)
        return await send(connection, function, *more, **named)  # type: ignore[no-untyped-call]

    async def note_hop(function: Any, /, *arguments: Any, **named: Any) -> Any:
        hops.append(function)
        return await to_thread(function, *arguments, **named)

    def note_read(threads: ReadThreads, share: Any, work: Any) -> Any:
        hops.append(share)
        return submit(threads, share, work)

    def note_cursor(cursor: SqliteCursor, how: Any, operation: str, parameters: Any) -> None:
        cursors.append(operation)
        execute(cursor, how, operation, parameters)

    async with running_registry(database_url, tmp_path, base_model) as registry:
        for name in ("first", "second"):  # the first one adds the base model, and compiles
            files = [
                ("files", (file.name, file.read_bytes())) for file in make_adapter(name).iterdir()
            ]
            monkeypatch.setattr(aiosqlite.Connection, "_execute", note_trip)
            monkeypatch.setattr(asyncio, "to_thread", note_hop)
            monkeypatch.setattr(ReadThreads, "submit", note_read)
            monkeypatch.setattr(SqliteCursor, "_execute", note_cursor)
            for noted in (trips, hops, cursors):
                noted.clear()
            with noted_statements() as statements:
                answer = await registry.http.post(f"/adapters/{name}/versions", files=files)
            monkeypatch.undo()
            assert answer.status_code == 201, answer.text
    assert 0 < len(statements) <= MOST_STATEMENTS, statements
    assert 0 < len(trips) <= MOST_TRIPS, trips
    assert [each for each in cursors if not each.startswith("SELECT")] == []
    assert 0 < len(hops) <= MOST_HOPS, hops
