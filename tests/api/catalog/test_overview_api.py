"""The overview: every sort and filter finds what a plain loop over everything finds."""

import json
import random
import re
from datetime import datetime
from itertools import product
from typing import Any

import httpx
import pytest
from sqlalchemy import text
from sqlmodel import select

from registry.auth.scopes import Scope
from registry.catalog.overview import OverviewCatalog
from registry.catalog.overview_filter import OverviewFilter
from registry.catalog.overview_order import (
    OF_CACHE,
    AdapterSort,
    CacheFacts,
    ColumnOrder,
    KeptOrders,
)
from registry.database.engine import Database
from registry.models import Adapter, AdapterOrder, Version
from registry.service import RegistryService
from tests.api.helpers import AdapterMaker, assert_problem, publish
from tests.api.keyed_client import Asked

pytestmark = pytest.mark.both_databases


@pytest.fixture
async def filled(
    service: RegistryService, client: httpx.AsyncClient, make_adapter: AdapterMaker
) -> Any:
    """Seven adapters: two versions of the first, an alias, tags, owners; one has no default."""
    for n, name in enumerate(["alpha-0042", "beta", "customer-00421", "delta", "eta", "zeta"]):
        await publish(client, name, make_adapter(name, seed=n, rank=1 + n % 3))
    await publish(client, "alpha-0042", make_adapter("second", seed=9, rank=8))
    await client.patch("/adapters/beta", json={"owner": "team-b", "tags": ["crm"]})
    await client.patch("/adapters/delta", json={"owner": "team-a", "description": "Tickets"})
    await client.patch("/adapters/eta/versions/1", json={"tags": ["env-dev"]})
    await client.put("/adapters/alpha-0042/aliases/beta", json={"version": 2})
    await client.delete("/adapters/zeta/aliases/default")
    await client.post("/adapters/delta/versions/1/quarantine", json={"reason": "it rambles"})


async def found(client: httpx.AsyncClient, **query: Any) -> list[str]:
    page = (await client.get("/overview", params=query)).json()
    assert page["total"] == len(page["items"])
    return [item["name"] for item in page["items"]]


async def test_a_row_has_what_the_table_shows(client: httpx.AsyncClient, filled: Any) -> None:
    page = (await client.get("/overview")).json()
    first, last = page["items"][0], page["items"][-1]
    assert first["aliases"] == {"beta": 2, "default": 1}
    shown = ("versions", "version", "state", "rank")
    assert [first[name] for name in shown] == [2, 1, "ready", 1]
    assert first["size_bytes"] > 0
    assert (last["name"], last["aliases"], last["version"]) == ("zeta", {}, 1)
    assert page["items"][4]["version_tags"] == ["env-dev"]


async def test_a_row_has_the_weights_of_the_aliases_that_are_split(
    client: httpx.AsyncClient, filled: Any
) -> None:
    split = [{"version": 1, "weight": 1}, {"version": 2, "weight": 9}]
    await client.put("/adapters/alpha-0042/aliases/default", json={"weights": split})
    first, *others = (await client.get("/overview")).json()["items"]
    assert first["splits"] == {"default": split}
    assert first["aliases"] == {"beta": 2, "default": 2}
    assert first["version"] == 2
    assert not any(other["splits"] for other in others)


async def test_any_part_of_the_table_is_read_at_once(
    client: httpx.AsyncClient, filled: Any
) -> None:
    page = (await client.get("/overview", params={"offset": 4, "limit": 1})).json()
    assert (page["total"], [item["name"] for item in page["items"]]) == (6, ["eta"])
    beyond = (await client.get("/overview", params={"offset": 100})).json()
    assert (beyond["total"], beyond["items"]) == (6, [])
    refused = await client.get("/overview", params={"offset": -1})
    assert_problem(refused, 422, "invalid_request")


async def test_a_search_has_at_most_twelve_words(client: httpx.AsyncClient, filled: Any) -> None:
    words = ["alpha"] * 12
    assert await found(client, text=f"  {' '.join(words)} ") == ["alpha-0042"]
    refused = await client.get("/overview", params={"text": " ".join([*words, "a"])})
    assert_problem(refused, 422, "invalid_request")


def value_of(item: Any, sort: str) -> Any:
    """What its row is sorted by; None: nothing."""
    if sort in ("version", "state", "rank", "size") and "default" not in item["aliases"]:
        return None
    if sort == "tags":
        return item["tags"] or item["version_tags"] or None
    if sort == "aliases":
        return " ".join(item["aliases"]) or None
    return item[{"created": "created_at", "size": "size_bytes"}.get(sort, sort)]


BY_SQL: list[str] = sorted(set(AdapterSort) - OF_CACHE)


async def test_a_part_of_any_order_is_the_same_however_it_is_read(
    service: RegistryService, client: httpx.AsyncClient, filled: Any
) -> None:
    """By an index, with a filter that leaves many, and sorted here where it leaves few."""
    every = await found(client)
    many = OverviewCatalog(service._database, few=0)
    for sort, descending in product(BY_SQL, (False, True)):
        asked: dict[str, Any] = {"sort": sort, "descending": descending}
        whole = await found(client, **asked)
        assert await found(client, **asked, name=every) == whole, asked
        for filters in (OverviewFilter(names=every), OverviewFilter()):
            read: list[str] = []
            for offset in range(0, 8, 2):
                part = await many.page(
                    filters, AdapterSort(sort), descending=descending, offset=offset, limit=2
                )
                read += [row.adapter.name for row in part.rows]
            assert read == whole, asked


@pytest.mark.parametrize("descending", [False, True])
@pytest.mark.parametrize("sort", BY_SQL)
async def test_a_page_follows_an_index_and_sorts_nothing(
    database: Database, sort: str, descending: bool
) -> None:
    """Of 100,000 adapters it reads as many as it shows."""
    order = ColumnOrder((), AdapterSort(sort), descending)
    is_sqlite = database.url.get_backend_name() == "sqlite"
    async with database.transaction() as session:
        if not is_sqlite:  # with so few rows it would sort them, and does if no index has the order
            for way in ("seqscan", "bitmapscan", "sort"):
                await session.execute(text(f"SET LOCAL enable_{way} = off"))
        for statement in (order.with_value(), order.without_value()):
            asked = statement.limit(100).compile(session.get_bind())
            explain = "EXPLAIN QUERY PLAN" if is_sqlite else "EXPLAIN"
            connection = await session.connection()
            sql = str(asked).replace(":param_1", "100").replace("?", "100")
            sql = re.sub(r"\$\d+::\w+", "100", sql)
            plan = "\n".join(map(str, await connection.exec_driver_sql(f"{explain} {sql}")))
            assert re.search("index", plan, re.IGNORECASE), plan
            assert not re.search("TEMP B-TREE|Sort", plan), plan


async def test_the_order_is_kept_whatever_changes(
    service: RegistryService, client: httpx.AsyncClient, filled: Any
) -> None:
    """By triggers: each column agrees with what the rows of the table show."""
    await client.put("/adapters/alpha-0042/aliases/default", json={"version": 2})
    await client.patch("/adapters/alpha-0042/versions/2", json={"tags": ["late"]})
    await client.patch("/adapters/beta", json={"owner": "team-c", "tags": []})
    await client.delete("/adapters/alpha-0042/aliases/beta")
    await client.put("/adapters/zeta/aliases/prod", json={"version": 1})
    await client.post("/adapters/eta/versions/1/retire", json={"force": True})
    items = {item["name"]: item for item in (await client.get("/overview")).json()["items"]}
    async with service._database.read_session() as session:
        kept = {row.name: row for row in (await session.execute(select(AdapterOrder))).scalars()}
    assert kept.keys() == items.keys()
    for name, item in items.items():
        row = kept[name]
        shown = {str(each): value_of(item, each) for each in BY_SQL}
        tags = shown.pop("tags")
        assert row.tags == (json.dumps(tags)[1:-1] if tags else None)
        assert (
            row.created_at.isoformat() == datetime.fromisoformat(shown.pop("created")).isoformat()
        )
        assert row.size_bytes == shown.pop("size")
        assert {each: getattr(row, each) for each in shown} == shown


async def test_each_column_sorts_both_ways(client: httpx.AsyncClient, filled: Any) -> None:
    await client.patch("/adapters/zeta", json={"tags": ["a-b", "crm"], "description": "Answers"})
    for sort, descending in product(BY_SQL, (False, True)):
        asked: dict[str, Any] = {"sort": sort, "descending": descending}
        items = (await client.get("/overview", params=asked)).json()["items"]
        values = [value_of(item, sort) for item in items]
        present = [value for value in values if value is not None]
        assert present == sorted(present, reverse=descending), asked
        last = values[len(present) :]
        assert last == [None] * (len(values) - len(present)), f"they come last: {asked}"
        assert len(items) == 6, asked


FACTS = {
    "zeta": CacheFacts(tier=0, pinned=True, asked=4.0, hits=1.0),
    "eta": CacheFacts(tier=1, asked=0.0, hits=0.5),
    "beta": CacheFacts(asked=9.0, hits=0.5),
    "deleted": CacheFacts(tier=0, asked=0.0, hits=0.0),
}


@pytest.fixture
def cache_facts(service: RegistryService) -> dict[str, CacheFacts]:
    """What a cache knows, which changes while the table is read."""
    facts = dict(FACTS)

    async def read() -> dict[str, CacheFacts]:
        return dict(facts)

    service.overview.facts = read
    return facts


OTHERS = ["alpha-0042", "customer-00421", "delta"]


@pytest.mark.parametrize(
    ("sort", "ascending", "descending"),
    [
        ("memory", ["zeta", "eta"], ["eta", "zeta"]),
        ("asked", ["eta", "zeta", "beta"], ["beta", "zeta", "eta"]),
        ("hits", ["beta", "eta", "zeta"], ["zeta", "beta", "eta"]),
    ],
)
async def test_what_only_the_cache_knows_sorts_both_ways(
    client: httpx.AsyncClient,
    filled: Any,
    cache_facts: Any,
    sort: str,
    ascending: list[str],
    descending: list[str],
) -> None:
    """Those it knows first; all others behind them by name, in either direction."""
    for order, first in ((False, ascending), (True, descending)):
        rest = sorted({*OTHERS, "beta"} - set(first))
        assert await found(client, sort=sort, descending=order) == [*first, *rest]
    assert await found(client, sort=sort, owner="team-b") == ["beta"]
    assert await found(client, sort=sort, text="ta", memory="in") == [
        name for name in ascending if name != "beta"
    ]


async def test_pages_are_of_one_order_though_the_cache_moves_on(
    client: httpx.AsyncClient, filled: Any, cache_facts: dict[str, CacheFacts]
) -> None:
    asked: dict[str, Any] = {"sort": "asked", "limit": 2}
    page = (await client.get("/overview", params=asked)).json()
    read = [item["name"] for item in page["items"]]
    cache_facts["delta"] = CacheFacts(tier=0, asked=0.0)
    cache_facts["beta"] = CacheFacts(tier=0, asked=0.0)
    for offset in (2, 4):
        more = {**asked, "offset": offset, "as_of": page["as_of"]}
        part = (await client.get("/overview", params=more)).json()
        assert part["as_of"] == page["as_of"]
        read += [item["name"] for item in part["items"]]
    assert read == ["eta", "zeta", "beta", *OTHERS], "none twice, none missed"
    for other in (page["as_of"], "-asked.unknown", "x"):
        again = {"sort": "asked", "descending": True, "as_of": other}
        part = (await client.get("/overview", params=again)).json()
        assert part["as_of"] != other, "another order, and it says so"
        assert part["items"][0]["name"] == "zeta"


async def test_a_kept_order_asks_no_cache(
    client: httpx.AsyncClient, filled: Any, service: RegistryService
) -> None:
    """In a fleet that asks all replicas, of which one may be away."""
    known = {"eta": CacheFacts(tier=0, asked=1.0)}
    asked: list[int] = []

    async def read() -> dict[str, CacheFacts]:
        asked.append(1)
        return known

    service.overview.facts = read
    page = (await client.get("/overview", params={"sort": "asked"})).json()
    for _ in range(2):
        query = {"sort": "asked", "as_of": page["as_of"]}
        assert (await client.get("/overview", params=query)).json() == page
    assert len(asked) == 1


def test_a_caller_who_asks_much_loses_its_own_orders() -> None:
    kept = KeptOrders()
    sort, down = AdapterSort.MEMORY, False
    mine = kept.keep(["a"], sort, descending=down, caller="me")
    used, *others = [kept.keep([], sort, descending=down, caller="other") for _ in range(60)]
    for _ in range(200):
        assert kept.find(used, sort, descending=down, caller="other") == []
        kept.keep(["b"], sort, descending=down, caller="other")
    assert kept.find(mine, sort, descending=down, caller="me") == ["a"]
    assert kept.find(mine, sort, descending=down, caller="other") is None
    assert kept.find(others[0], sort, descending=down, caller="other") is None


async def test_those_in_memory_are_filtered(
    client: httpx.AsyncClient, filled: Any, cache_facts: Any
) -> None:
    assert await found(client, memory="in") == ["eta", "zeta"]
    assert await found(client, memory="pinned") == ["zeta"]
    assert await found(client, memory="in", sort="rank", text="zeta") == ["zeta"]
    refused = await client.get("/overview", params={"memory": "out"})
    assert_problem(refused, 422, "invalid_request")


async def test_a_cache_may_know_more_than_a_statement_has_values(
    client: httpx.AsyncClient, filled: Any, cache_facts: dict[str, CacheFacts]
) -> None:
    """A large fleet's: PostgreSQL's driver takes 32,767."""
    cache_facts.update({f"gone-{n}": CacheFacts(tier=0, asked=1e6 + n) for n in range(40_000)})
    assert await found(client, memory="in", sort="asked") == ["eta", "zeta"]
    assert await found(client, sort="asked") == ["eta", "zeta", "beta", *OTHERS]


async def test_a_server_without_a_cache_sorts_by_name(
    client: httpx.AsyncClient, filled: Any
) -> None:
    assert await found(client, sort="hits") == await found(client)
    assert await found(client, memory="in") == []


async def test_filters_find_parts_of_names_and_tags_of_versions(
    client: httpx.AsyncClient, filled: Any
) -> None:
    assert await found(client, text="0042") == ["alpha-0042", "customer-00421"]
    assert await found(client, text="customer-0042") == ["customer-00421"]
    assert await found(client, text="tick") == ["delta"]
    assert await found(client, text="alpha 42") == ["alpha-0042"]
    assert await found(client, text="%") == []
    assert await found(client, tag="env-dev") == ["eta"]
    assert await found(client, tag="crm") == ["beta"]
    assert await found(client, owner="team-a") == ["delta"]
    assert await found(client, state="quarantined") == ["delta"]
    assert await found(client, name=["eta", "beta", "nothing"]) == ["beta", "eta"]
    assert await found(client, tenant="acme") == []


async def test_adapters_without_a_version_are_rows(
    service: RegistryService, client: httpx.AsyncClient
) -> None:
    async with service._database.transaction() as session:
        session.add(Adapter(name="empty"))
    page = (await client.get("/overview")).json()
    assert [(item["name"], item["version"]) for item in page["items"]] == [("empty", None)]


async def test_a_long_table_is_read_in_bounded_time(
    service: RegistryService, client: httpx.AsyncClient
) -> None:
    """Three queries a page, however many rows: 500 rows with two versions each."""
    rng = random.Random(3)
    async with service._database.transaction() as session:
        for n in range(1, 501):
            session.add(Adapter(id=n, name=f"many-{rng.random():.12f}"))
        await session.flush()
        for n in range(1000):
            session.add(
                Version(
                    adapter_id=1 + n // 2,
                    number=1 + n % 2,
                    digest=f"{n:064x}",
                    rank=4,
                    alpha=1.0,
                    target_modules=[],
                    dtype="float32",
                    size_bytes=n,
                    source="x",
                    peft_config={},
                    created_by="x",
                )
            )
    page = (await client.get("/overview", params={"limit": 500})).json()
    assert [item["version"] for item in page["items"]] == [2] * 500


async def test_any_key_reads_the_table_and_only_what_it_may_see(
    asked: Asked, database: Database
) -> None:
    await asked.key("reader", Scope.INFER)
    assert await asked.says("root", "POST", "/tenants", json={"name": "acme"}) == (201, "")
    await asked.key("acme~app", Scope.INFER)
    async with database.transaction() as session:
        session.add_all([Adapter(name="platform"), Adapter(name="acme~own")])
    seen = {
        key: [item["name"] for item in (await asked.ask(key, "GET", "/overview")).json()["items"]]
        for key in ("reader", "acme~app")
    }
    assert seen == {"reader": ["acme~own", "platform"], "acme~app": ["acme~own"]}
