"""How long pages of lists take over 100,000 versions of 20,000 adapters, on any database.

    python -m benchmarks.registry_lists sqlite:////tmp/lists.db postgresql://me@localhost/lists

fills each database that has no adapters yet (minutes), and prints milliseconds per page of 100.
"""

import argparse
import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

from sqlalchemy import insert
from sqlalchemy.ext.asyncio import AsyncSession

from registry.catalog import Catalog
from registry.db import Database
from registry.filters import AdapterFilter, VersionFilter
from registry.migrate import upgrade
from registry.models import Adapter, Version, now
from registry.pages import token_after
from registry.term_tables import AdapterTerm, VersionTerm
from registry.terms import Terms, adapter_terms, version_terms

ADAPTERS = 20_000
VERSIONS_EACH = 5
ROUNDS = 20
CHUNK = 5_000
MODULES = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")

VERSION_FILTERS = {
    "all": VersionFilter(),
    "a tag of half of them": VersionFilter(tags=["prod"]),
    "a tag of one in twenty": VersionFilter(tags=["exp"]),
    "a tag of one in three thousand": VersionFilter(tags=["rare"]),
    "a tag that none has": VersionFilter(tags=["none"]),
    "one tag and one module": VersionFilter(tags=["exp"], target_modules=["gate_proj"]),
    "ranks that most have": VersionFilter(rank_min=8, rank_max=32),
    "ranks that few have": VersionFilter(rank_min=128),
    "a rare state": VersionFilter(states=["quarantined"]),
    "two states": VersionFilter(states=["ready", "deprecated"]),
    "a base model that none has": VersionFilter(base_model="none"),
    "a word that all have": VersionFilter(text="bot"),
    "the beginning of rare words": VersionFilter(text="0001"),
    "two words and a rank": VersionFilter(text="team03 fre", rank_min=16, rank_max=16),
    "eight conditions": VersionFilter(
        tags=["prod"],
        target_modules=["q_proj", "v_proj"],
        states=["ready"],
        base_model="llama",
        rank_min=8,
        rank_max=16,
        text="team03 bot",
    ),
    "two words of a third each, never together": VersionFilter(text="french german"),
}
ADAPTER_FILTERS = {
    "all": AdapterFilter(),
    "a tag of half of them": AdapterFilter(tags=["prod"]),
    "an owner": AdapterFilter(owner="team03"),
    "words": AdapterFilter(text="team03 bo"),
    "three conditions": AdapterFilter(owner="team03", tags=["prod"], text="bot"),
}


def some_adapters(rng: random.Random) -> Iterator[Adapter]:
    for n in range(ADAPTERS):
        team = f"team{n % 20:02d}"
        tags = ["prod"] if rng.random() < 0.5 else []
        yield Adapter(id=n + 1, name=f"{team}-bot-{n:05d}", owner=team, tags=tags)


def some_versions(rng: random.Random, adapter: Adapter, n: int) -> Version:
    tags = [
        tag
        for tag, share in (("prod", 0.5), ("exp", 0.05), ("rare", 0.0003))
        if rng.random() < share
    ]
    state = rng.choices(["ready", "deprecated", "retired", "quarantined"], [80, 9, 10.99, 0.01])[0]
    modules = list(MODULES[: rng.choice((2, 4, 7))])
    rank = rng.choices([8, 16, 32, 64, 256], [50, 30, 15, 4.99, 0.01])[0]
    return Version(
        id=(n - 1) * ADAPTERS + (adapter.id or 0),
        adapter_id=adapter.id or 0,
        number=n,
        digest=f"{(n - 1) * ADAPTERS + (adapter.id or 0):064x}",
        state=state,
        rank=rank,
        alpha=2.0 * rank,
        target_modules=modules,
        dtype="bfloat16",
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
    async with database.transaction() as session:
        await insert_all(session, Adapter, [row.model_dump() for row in adapters])
        terms = ((a.name, adapter_terms(a)) for a in adapters)
        await insert_all(session, AdapterTerm, list(term_rows("adapter_name", terms)))
        for n in range(1, VERSIONS_EACH + 1):
            versions = [some_versions(rng, adapter, n) for adapter in adapters]
            await insert_all(session, Version, [row.model_dump() for row in versions])
            found = (
                (version.id, version_terms(adapter.name, version))
                for adapter, version in zip(adapters, versions, strict=True)
            )
            await insert_all(session, VersionTerm, list(term_rows("version_id", found)))


def term_rows(column: str, found: Iterator[tuple[Any, Terms]]) -> Iterator[dict[str, Any]]:
    for key, terms in found:
        yield from ({"kind": kind, "value": value, column: key} for kind, value in terms)


async def insert_all(session: AsyncSession, table: type[Any], rows: list[dict[str, Any]]) -> None:
    for start in range(0, len(rows), CHUNK):
        await session.execute(insert(table), rows[start : start + CHUNK])


async def measure(name: str, page: Callable[[], Awaitable[Any]]) -> None:
    seconds = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        found = await page()
        seconds.append(time.perf_counter() - began)
    seconds.sort()
    median, worst = seconds[ROUNDS // 2], seconds[-1]
    print(f"{name:58} {median * 1000:8.2f} {worst * 1000:8.2f}  {len(found.items):4}")


async def measure_all(database: Database) -> None:
    catalog = Catalog(database, Path)
    middle = ADAPTERS * VERSIONS_EACH // 2
    print(f"{'':58} {'median':>8} {'worst':>8}  rows")
    for name, wanted in VERSION_FILTERS.items():
        for where, token in (("", None), (", from the middle", token_after(middle))):
            await measure(
                f"versions: {name}{where}",
                lambda f=wanted, t=token: catalog.versions(f, limit=100, page_token=t),  # type: ignore[misc]  # mypy infers no lambda with defaults
            )
    for label, chosen in ADAPTER_FILTERS.items():
        await measure(
            f"adapters: {label}",
            lambda f=chosen: catalog.adapters(f, limit=100),  # type: ignore[misc]  # the same
        )
    await measure(
        "versions of one adapter", lambda: catalog.versions_of("team00-bot-00020", limit=100)
    )


async def run(url: str) -> None:
    await asyncio.to_thread(upgrade, url)
    database = Database(url)
    if not (await Catalog(database, Path).adapters(limit=1)).items:
        began = now()
        await fill(database)
        print(f"filled in {(now() - began).total_seconds():.0f} s")
    await measure_all(database)
    await database.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url", nargs="+", help="a database of its own for this benchmark")
    for url in parser.parse_args().url:
        print(f"\n{url.partition(':')[0]}")
        asyncio.run(run(url))


if __name__ == "__main__":
    main()
