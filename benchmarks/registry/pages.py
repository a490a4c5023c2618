"""List pages: the time of one page, for each kind of search."""

import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

from benchmarks.registry.rows import ADAPTERS, VERSIONS_EACH, adapter_name
from registry.catalog.catalog import Catalog
from registry.database.engine import Database
from registry.database.pagination import token_after
from registry.search.filters import AdapterFilter, VersionFilter

ROUNDS = 20
LIMIT = 100
NEVER = "two words of a third each, never together"
MANY = ("two words and a rank", "eight conditions")

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
    NEVER: VersionFilter(text="french german"),
}
ADAPTER_FILTERS = {
    "all": AdapterFilter(),
    "a tag of half of them": AdapterFilter(tags=["prod"]),
    "an owner": AdapterFilter(owner="team03"),
    "words": AdapterFilter(text="team03 bo"),
    "three conditions": AdapterFilter(owner="team03", tags=["prod"], text="bot"),
}

Ask = Callable[[], Awaitable[Any]]


async def page_ms(database: Database) -> dict[str, float]:
    """Median milliseconds of one page of 100, by what is listed."""
    return {name: await _median_ms(page) for name, page in _pages(Catalog(database, Path))}


def _pages(catalog: Catalog) -> Iterator[tuple[str, Ask]]:
    middle = token_after(ADAPTERS * VERSIONS_EACH // 2)
    for name, filters in VERSION_FILTERS.items():
        yield f"versions: {name}", _versions(catalog, filters, None)
        yield f"versions: {name}, from the middle", _versions(catalog, filters, middle)
    for name, chosen in ADAPTER_FILTERS.items():
        yield f"adapters: {name}", _adapters(catalog, chosen)
    yield "versions of one adapter", lambda: catalog.versions_of(adapter_name(20), limit=LIMIT)


def _versions(catalog: Catalog, filters: VersionFilter, token: str | None) -> Ask:
    return lambda: catalog.versions(filters, limit=LIMIT, page_token=token)


def _adapters(catalog: Catalog, filters: AdapterFilter) -> Ask:
    return lambda: catalog.adapters(filters, limit=LIMIT)


async def _median_ms(page: Ask) -> float:
    seconds = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        await page()
        seconds.append(time.perf_counter() - began)
    return sorted(seconds)[ROUNDS // 2] * 1000
