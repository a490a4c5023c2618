"""Lists with conditions: every combination finds what a plain loop over everything finds."""

import itertools
import random
from typing import Any

import httpx
import pytest

from registry.models import Adapter, Version, row_id
from registry.search import paging as search
from registry.search.repository import TermRepository, adapter_terms, version_terms, words
from registry.service import RegistryService
from tests.api.helpers import AdapterMaker, assert_problem, publish, step

pytestmark = pytest.mark.both_databases

MODULES = ("q_proj", "k_proj", "down_proj")
WORDS = ("french", "Fresh", "german", "GERMANY", "été", "a-b")
OWNERS = (None, "team-a", "team-b")


def some_adapters(rng: random.Random) -> list[Adapter]:
    names = (f"{rng.choice(['support', 'search', 's'])}-{n:02d}" for n in range(20))
    return [
        Adapter(
            id=n,
            name=name,
            owner=rng.choice(OWNERS),
            description=rng.choice(WORDS),
            tags=rng.sample(["prod", "exp"], rng.randint(0, 2)),
        )
        for n, name in enumerate(names, 1)
    ]


def some_versions(rng: random.Random, adapters: list[Adapter]) -> list[Version]:
    return [
        Version(
            id=n,
            adapter_id=row_id(rng.choice(adapters)),
            number=n,
            digest=f"{n:064x}",
            state=rng.choice(["ready", "ready", "deprecated", "retired"]),
            rank=rng.choice([4, 8, 16]),
            alpha=1.0,
            target_modules=rng.sample(MODULES, rng.randint(1, 3)),
            dtype="float32",
            base_model=rng.choice([None, "llama", "mistral"]),
            size_bytes=1,
            source="x",
            peft_config={},
            created_by="x",
            tags=rng.sample(["prod", "exp", "old"], rng.randint(0, 2)),
            description=rng.choice(WORDS),
            dataset=rng.choice([None, "tickets 2026"]),
        )
        for n in range(1, 121)
    ]


@pytest.fixture
async def filled(
    service: RegistryService, monkeypatch: pytest.MonkeyPatch
) -> tuple[list[Adapter], list[Version]]:
    """120 versions over 20 adapters, and a search that takes 10 rows for many."""
    monkeypatch.setattr(search, "PROBED_ROWS", 10)
    rng = random.Random(7)
    adapters = some_adapters(rng)
    versions = some_versions(rng, adapters)
    names = {adapter.id: adapter.name for adapter in adapters}
    async with service._database.transaction() as session:
        terms = TermRepository(session)
        for row in (*adapters, *versions):
            session.add(row)
        await session.flush()
        for adapter in adapters:
            await terms.add_adapter(adapter.name, adapter_terms(adapter))
        for version in versions:
            await terms.add_version(
                row_id(version), version_terms(names[version.adapter_id], version)
            )
    return adapters, versions


async def all_pages(client: httpx.AsyncClient, path: str, **query: Any) -> list[dict[str, Any]]:
    """Each page is full but for the last."""
    items: list[dict[str, Any]] = []
    for _ in range(100):
        page = (await client.get(path, params={"limit": 7, **query})).json()
        items += page["items"]
        if page["next_page_token"] is None:
            return items
        assert len(page["items"]) == 7
        query["page_token"] = page["next_page_token"]
    raise AssertionError("no end")


def has_words(text: str, *texts: str | None) -> bool:
    return bool(words(text) or not text) and all(
        any(w.startswith(start) for w in words(*texts)) for start in words(text)
    )


async def test_versions_are_found_by_any_conditions(
    client: httpx.AsyncClient, filled: tuple[list[Adapter], list[Version]]
) -> None:
    adapters, versions = filled
    names = {adapter.id: adapter.name for adapter in adapters}
    rng = random.Random(1)
    choices: dict[str, list[Any]] = {
        "tag": [[], ["prod"], ["prod", "exp"], ["none"]],
        "target_module": [[], ["q_proj"], ["q_proj", "k_proj"]],
        "state": [[], ["ready"], ["deprecated"], ["ready", "retired"], ["purged"]],
        "base_model": [None, "llama", "none"],
        "rank_min": [None, 8, 99],
        "rank_max": [None, 8],
        "text": [None, "fr", "french", "ger sup", "ÉTÉ", "tick 2026", "none", "s", "b a", "--"],
    }
    combinations = [
        dict(zip(choices, c, strict=True)) for c in itertools.product(*choices.values())
    ]
    alone = [{key: value} for key, values in choices.items() for value in values if value]
    found_some = 0
    for asked in alone + rng.sample(combinations, 80):
        query = {key: value for key, value in asked.items() if value}
        expected = [
            v.number
            for v in versions
            if set(query.get("tag", ())) <= set(v.tags)
            and set(query.get("target_module", ())) <= set(v.target_modules)
            and v.state in (query.get("state") or [v.state])
            and query.get("base_model") in (None, v.base_model)
            and query.get("rank_min", 0) <= v.rank <= query.get("rank_max", 99)
            and has_words(
                query.get("text", ""), names[v.adapter_id], v.description, v.dataset, *v.tags
            )
        ]
        found = [item["number"] for item in await all_pages(client, "/versions", **query)]
        assert found == expected, query
        found_some += bool(expected)
    assert found_some > 20


async def test_the_same_conditions_hold_within_one_adapter(
    client: httpx.AsyncClient, filled: tuple[list[Adapter], list[Version]]
) -> None:
    adapters, versions = filled
    in_all = 0
    for adapter in adapters:
        found = await all_pages(
            client, f"/adapters/{adapter.name}/versions", tag="prod", text="fr", state="ready"
        )
        in_all += len(found)
        assert [item["number"] for item in found] == [
            v.number
            for v in versions
            if v.adapter_id == adapter.id
            and "prod" in v.tags
            and v.state == "ready"
            and has_words("fr", adapter.name, v.description, v.dataset, *v.tags)
        ]
    assert in_all > 0


async def test_adapters_are_found_by_any_conditions(
    client: httpx.AsyncClient, filled: tuple[list[Adapter], list[Version]]
) -> None:
    adapters, _ = filled
    ordered = sorted(adapters, key=lambda adapter: adapter.name)
    tags: list[list[str]] = [[], ["prod"], ["prod", "exp"]]
    texts = [None, "s", "support", "fr", "ger team", "none"]
    for tag, owner, text in itertools.product(tags, (*OWNERS, "none"), texts):
        query = {"tag": tag, "owner": owner, "text": text}
        given_ = {key: value for key, value in query.items() if value}
        found = await all_pages(client, "/adapters", **given_)
        assert [item["name"] for item in found] == [
            a.name
            for a in ordered
            if set(tag) <= set(a.tags)
            and owner in (None, a.owner)
            and has_words(text or "", a.name, a.description, a.owner, *a.tags)
        ], query


async def test_a_page_after_an_insert_neither_repeats_nor_hides(
    client: httpx.AsyncClient, make_adapter: AdapterMaker
) -> None:
    for n in range(4):
        await publish(client, "bot", make_adapter(f"a{n}", seed=n), tags=["x"])
    query: dict[str, Any] = {"tag": "x", "limit": 2}
    first = (await client.get("/versions", params=query)).json()
    await publish(client, "another", make_adapter("b", seed=9), tags=["x"])
    await client.patch("/adapters/bot/versions/1", json={"remove_tags": ["x"]})
    token = first["next_page_token"]
    second = (await client.get("/versions", params={**query, "page_token": token})).json()
    assert [v["reference"] for v in second["items"]] == ["bot:3", "bot:4"]
    token = second["next_page_token"]
    third = (await client.get("/versions", params={**query, "page_token": token})).json()
    assert [v["reference"] for v in third["items"]] == ["another:1"]


async def test_a_change_is_found_immediately(
    client: httpx.AsyncClient, make_adapter: AdapterMaker
) -> None:
    await publish(client, "bot", make_adapter("a"), description="Old words")

    async def found(**query: Any) -> list[str]:
        return [v["reference"] for v in await all_pages(client, "/versions", **query)]

    assert await found(text="old") == await found(target_module="q_proj") == ["bot:1"]
    await client.patch("/adapters/bot/versions/1", json={"description": "New words", "tags": ["x"]})
    assert await found(text="old") == []
    assert await found(text="new x") == await found(tag="x") == ["bot:1"]
    await step(client, "bot:1", "deprecate")
    assert await found(state="ready") == []
    assert await found(state="deprecated", base_model="tiny", rank_min=4, rank_max=4) == ["bot:1"]
    await client.patch("/adapters/bot", json={"owner": "team a", "tags": ["y"]})
    by_owner = await all_pages(client, "/adapters", owner="team a", tag="y", text="TEAM")
    assert [a["name"] for a in by_owner] == ["bot"]


@pytest.mark.parametrize(
    "query",
    [
        {"rank_min": 0},
        {"rank_min": "x"},
        {"rank_max": 2**31},
        {"state": "happy"},
        {"tag": "two words"},
        {"tag": ["a"] * 17},
        {"text": "a\0b"},
        {"base_model": "a\0b"},
        {"base_model": ""},
        {"target_module": "\0"},
        {"limit": 501},
        {"text": "x" * 257},
    ],
)
async def test_conditions_that_make_no_sense(client: httpx.AsyncClient, query: Any) -> None:
    assert_problem(await client.get("/versions", params=query), 422, "invalid_request")


async def test_a_parent_that_is_no_reference(client: httpx.AsyncClient) -> None:
    response = await client.get("/versions", params={"parent": "bot"})
    assert_problem(response, 400, "invalid_reference")
    response = await client.get("/versions", params={"parent": "nobody:1"})
    assert response.json()["items"] == []


@pytest.mark.parametrize("path", ["/adapters", "/versions"])
async def test_a_search_has_a_bounded_number_of_words(client: httpx.AsyncClient, path: str) -> None:
    """Each is a look at all rows that it may mean, however the words are joined."""
    many = [f"{a}{b}" for a in "abc" for b in "klmno"]
    for joined in (" ", "-", "."):
        refused = await client.get(path, params={"text": joined.join(many)})
        assert_problem(refused, 422, "invalid_request")
        few = await client.get(path, params={"text": joined.join(many[:12] * 3)})
        assert few.status_code == 200, few.text
