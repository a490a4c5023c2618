"""Rows of a registry in use: 100,000 versions of 20,000 adapters."""

import asyncio
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sqlalchemy import insert, text
from sqlalchemy.ext.asyncio import AsyncSession

from registry.catalog.catalog import Catalog
from registry.database.engine import Database
from registry.database.migrate import upgrade
from registry.inspection.base_identity import unread_identity
from registry.models import Adapter, Alias, AliasHistory, Event, EventKind, KnownBase, Version, now
from registry.models.search import AdapterTerm, VersionTerm
from registry.references import DEFAULT_ALIAS
from registry.search.repository import Terms, adapter_terms, version_terms

ADAPTERS = 20_000
VERSIONS_EACH = 5
BASE, BASE_ID = "any", 1  # what the servers of these benchmarks serve
CHUNK = 5_000
MODULES = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


async def open_filled(url: str) -> Database:
    """Migrate the database, and add the rows if it has none (minutes)."""
    await asyncio.to_thread(upgrade, url)
    database = Database(url)
    if not (await Catalog(database, Path).adapters(limit=1)).items:
        await fill(database)
    return database


def adapter_name(n: int) -> str:
    return f"team{n % 20:02d}-bot-{n:05d}"


def some_adapters(rng: random.Random) -> Iterator[Adapter]:
    for n in range(ADAPTERS):
        tags = ["prod"] if rng.random() < 0.5 else []
        yield Adapter(id=n + 1, name=adapter_name(n), owner=f"team{n % 20:02d}", tags=tags)


def some_versions(rng: random.Random, adapter: Adapter, n: int) -> Version:
    tags = [
        tag
        for tag, share in (("prod", 0.5), ("exp", 0.05), ("rare", 0.0003))
        if rng.random() < share
    ]
    state = rng.choices(["ready", "deprecated", "retired", "quarantined"], [80, 9, 10.99, 0.01])[0]
    modules = list(MODULES[: rng.choice((2, 4, 7))])
    rank = rng.choices([8, 16, 32, 64, 256], [50, 30, 15, 4.99, 0.01])[0]
    version_id = (n - 1) * ADAPTERS + (adapter.id or 0)
    return Version(
        id=version_id,
        adapter_id=adapter.id or 0,
        number=n,
        digest=f"{version_id:064x}",
        state="ready" if n == VERSIONS_EACH else state,  # where the alias points
        rank=rank,
        alpha=2.0 * rank,
        target_modules=modules,
        dtype="bfloat16",
        base_id=BASE_ID,
        base_model="llama" if rng.random() < 0.9 else "mistral",
        size_bytes=10_000_000,
        source="/srv/adapters",
        peft_config={"r": rank, "target_modules": modules, "filler": "x" * 600},
        created_by="benchmark",
        tags=tags,
        description=rng.choice(["french", "german", "italian"]),
    )


async def fill(database: Database) -> None:
    rng = random.Random(1)
    adapters = list(some_adapters(rng))
    identity = unread_identity(BASE)
    async with database.transaction() as session:
        session.add(KnownBase(id=BASE_ID, name=BASE, digest=identity.digest))
        await session.flush()
        await insert_all(session, Adapter, [row.model_dump() for row in adapters])
        terms = ((a.name, adapter_terms(a)) for a in adapters)
        await insert_all(session, AdapterTerm, list(term_rows("adapter_name", terms)))
        for n in range(1, VERSIONS_EACH + 1):
            await fill_versions(session, [some_versions(rng, adapter, n) for adapter in adapters])
        await fill_aliases(session, adapters)
        if database.url.get_backend_name() == "postgresql":
            for table in ("adapter", "version", "base_model"):  # their ids were given, not taken
                last = f"SELECT setval('{table}_id_seq', (SELECT max(id) FROM {table}))"
                await session.execute(text(last))
    async with database.transaction() as session:
        await session.execute(text("ANALYZE"))


async def fill_versions(session: AsyncSession, versions: list[Version]) -> None:
    await insert_all(session, Version, [row.model_dump() for row in versions])
    found = ((v.id, version_terms(adapter_name(v.adapter_id - 1), v)) for v in versions)
    await insert_all(session, VersionTerm, list(term_rows("version_id", found)))
    told = [
        Event(
            actor="benchmark",
            kind=EventKind.VERSION_REGISTERED,
            adapter_id=version.adapter_id,
            to_version=version.number,
        ).model_dump(exclude={"id"})
        for version in versions
    ]
    await insert_all(session, Event, told)


async def fill_aliases(session: AsyncSession, adapters: list[Adapter]) -> None:
    """Each adapter's `default` is its last version."""
    first = (VERSIONS_EACH - 1) * ADAPTERS
    same = [
        {"adapter_id": adapter.id, "version_id": first + (adapter.id or 0), "revision": 1}
        for adapter in adapters
    ]
    since = {"weight": 1, "valid_from": now(), "actor": "benchmark"}
    history = [{**row, **since, "alias": DEFAULT_ALIAS} for row in same]
    await insert_all(session, AliasHistory, history)
    await insert_all(session, Alias, [{**row, "name": DEFAULT_ALIAS} for row in same])


def term_rows(column: str, found: Iterator[tuple[Any, Terms]]) -> Iterator[dict[str, Any]]:
    for key, terms in found:
        yield from ({"kind": kind, "value": value, column: key} for kind, value in terms)


async def insert_all(session: AsyncSession, table: type[Any], rows: list[dict[str, Any]]) -> None:
    for start in range(0, len(rows), CHUNK):
        await session.execute(insert(table), rows[start : start + CHUNK])
