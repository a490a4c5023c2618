"""Locks of an import: in the order in which others take them, or PostgreSQL ends one of the two."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any, cast

import pytest

from registry.database.engine import Database
from registry.inspection.base_identity import BaseIdentity
from registry.names.repository import NameRepository
from registry.transfer import importer as importer_module
from registry.transfer.importer import Importer
from registry.transfer.plan import ImportOptions
from registry.transfer.report import CheckedFiles
from registry.transfer.repository import TransferRepository
from registry.transfer.staging import Stage


class AddingBegan(Exception):
    """Nothing after it matters here."""


class Tables:
    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[None]:
        yield


class Writer:
    def __init__(self, *inputs: Any) -> None: ...

    async def write_adapters(self) -> None:
        raise AddingBegan


async def test_an_import_locks_its_adapters_then_the_names_and_then_adds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    order: list[str] = []

    def noting(what: str) -> Callable[..., Awaitable[dict[str, Any]]]:
        async def note(*inputs: Any, **options: Any) -> dict[str, Any]:
            order.append(what)
            return {}

        return note

    monkeypatch.setattr(TransferRepository, "lock_imports", noting("imports"))
    monkeypatch.setattr(TransferRepository, "local", noting("adapters"))
    monkeypatch.setattr(TransferRepository, "check_tenants", noting("tenants"))
    monkeypatch.setattr(NameRepository, "lock_platform", noting("names"))
    monkeypatch.setattr(importer_module, "ImportWriter", Writer)
    unused: Any = None
    importer = Importer(
        cast("Database", Tables()),
        unused,
        unused,
        unused,
        cast("BaseIdentity", unused),
        reserved_names=frozenset(),
        max_bytes=1,
    )
    stage = cast("Stage", SimpleNamespace(manifests=()))
    with pytest.raises(AddingBegan):
        await importer._write_once(stage, ImportOptions(), CheckedFiles(), set(), "alice")
    assert order == ["imports", "adapters", "tenants", "names"]
