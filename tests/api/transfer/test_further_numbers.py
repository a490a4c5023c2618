"""Further numbers: content that another registry has under several numbers is one version here."""

from collections.abc import Callable
from typing import Any

import httpx
import pytest

from tests.api.conftest import AdapterMaker
from tests.support.archives import archive_of, changed_json, parts_of, sealed

pytestmark = pytest.mark.both_databases

Json = dict[str, Any]
COPY = "adapters/copy.json"


async def ok(client: httpx.AsyncClient, method: str, path: str, **options: Any) -> Any:
    response = await client.request(method, path, **options)
    assert response.is_success, response.text
    return response.json()


async def register(client: httpx.AsyncClient, name: str, source: object) -> Json:
    body = {"source": str(source)}
    version: Json = await ok(client, "POST", f"/adapters/{name}/versions", json=body)
    return version


async def exported(client: httpx.AsyncClient, change: Callable[[Json], object]) -> bytes:
    """An export of the adapter `bot` under the name `copy`, changed."""
    archive = (await client.get("/export", params={"adapter": "bot"})).content
    parts = parts_of(archive)
    manifest = parts.pop("adapters/bot.json")

    def rename(content: Json) -> None:
        content["name"] = "copy"
        change(content)

    parts[COPY] = changed_json(manifest, rename)
    parts["events.jsonl"] = b""
    return archive_of(sealed(parts))


def with_further(*numbers: int) -> Callable[[Json], None]:
    def change(manifest: Json) -> None:
        manifest["versions"][0]["further_numbers"] = list(numbers)

    return change


@pytest.fixture
async def copy(client: httpx.AsyncClient, make_adapter: AdapterMaker) -> Json:
    """The adapter `copy`: version 1 is 4 and 7 as well, and 2 is only itself."""
    for seed in (1, 2):
        await register(client, "bot", make_adapter(f"a{seed}", seed=seed))
    archive = await exported(client, with_further(7, 4))
    report: Json = await ok(client, "POST", "/import", content=archive)
    return report


async def test_an_import_keeps_them(client: httpx.AsyncClient, copy: Json) -> None:
    assert copy["further_numbers"] == {"copy:4": "copy:1", "copy:7": "copy:1"}
    listed = (await ok(client, "GET", "/adapters/copy/versions"))["items"]
    assert [(v["number"], v["further_numbers"]) for v in listed] == [(1, [4, 7]), (2, [])]
    events = (await ok(client, "GET", "/adapters/copy/events"))["items"]
    assert events[-1]["data"]["further_numbers"] == [4, 7]
    again = parts_of((await client.get("/export", params={"adapter": "copy"})).content)
    assert b'"further_numbers": [\n    4,\n    7\n   ]' in again[COPY]


async def test_every_reference_by_one_means_the_version(
    client: httpx.AsyncClient, copy: Json, make_adapter: AdapterMaker
) -> None:
    resolved = await ok(client, "GET", "/resolve", params={"reference": "copy:4"})
    assert (resolved["reference"], resolved["number"]) == ("copy:1", 1)
    version = await ok(client, "GET", "/adapters/copy/versions/7")
    assert (version["reference"], version["further_numbers"]) == ("copy:1", [4, 7])
    alias = await ok(client, "PUT", "/adapters/copy/aliases/prod", json={"version": 4})
    assert alias["version"] == 1
    weights = [{"version": 1, "weight": 1}, {"version": 7, "weight": 2}]
    split = await ok(client, "PUT", "/adapters/copy/aliases/prod", json={"weights": weights})
    assert [(w["version"], w["weight"]) for w in split["weights"]] == [(1, 3)]
    described = await ok(client, "PATCH", "/adapters/copy/versions/4", json={"description": "x"})
    assert (described["number"], described["description"]) == (1, "x")
    told = (await ok(client, "GET", "/adapters/copy/events"))["items"][-1]
    assert (told["kind"], told["to_version"]) == ("version.updated", 1)
    child = {"source": str(make_adapter("child", seed=9)), "parent": "copy:7"}
    registered = await ok(client, "POST", "/adapters/child/versions", json=child)
    assert registered["parent"] == "copy:1"
    found = await ok(client, "GET", "/versions", params={"parent": "copy:4"})
    assert [v["reference"] for v in found["items"]] == ["child:1"]
    missing = await client.get("/adapters/copy/versions/5")
    assert (missing.status_code, missing.json()["code"]) == (404, "unknown_version")


async def test_a_version_is_retired_and_its_aliases_move_by_any_of_its_numbers(
    client: httpx.AsyncClient, copy: Json
) -> None:
    for number, to in ((4, 1), (1, 7), (7, 4)):
        response = await client.post(
            f"/adapters/copy/versions/{number}/retire", json={"move_aliases_to": to}
        )
        found = (response.status_code, response.json()["code"])
        assert found == (409, "version_aliased"), "it moves to itself"
    await ok(client, "POST", "/adapters/copy/versions/4/retire", json={"move_aliases_to": 2})
    aliases = (await ok(client, "GET", "/adapters/copy/aliases"))["items"]
    assert [(alias["alias"], alias["version"]) for alias in aliases] == [("default", 2)]


async def test_no_version_gets_one(
    client: httpx.AsyncClient, copy: Json, make_adapter: AdapterMaker
) -> None:
    new = await register(client, "copy", make_adapter("new", seed=3))
    assert (new["number"], new["further_numbers"]) == (8, [])
    same = await register(client, "copy", make_adapter("same", seed=1))
    assert (same["number"], same["further_numbers"]) == (1, [4, 7])


async def test_a_second_import_adds_only_new_ones(client: httpx.AsyncClient, copy: Json) -> None:
    archive = await exported(client, with_further(4, 7, 9))
    report = await ok(client, "POST", "/import", content=archive)
    assert report["further_numbers"] == {"copy:9": "copy:1"}
    again = await ok(client, "POST", "/import", content=archive)
    assert (again["further_numbers"], again["versions_unchanged"]) == ({}, 2)


async def test_the_first_number_may_vanish_elsewhere(client: httpx.AsyncClient, copy: Json) -> None:
    """What is number 4 there now is a further number here, and so are its aliases."""

    def change(manifest: Json) -> None:
        manifest["versions"][0] |= {"number": 4, "further_numbers": [7]}
        for alias in manifest["aliases"]:
            alias["name"] = "theirs"
            alias["states"][0]["weights"] = {"4": 1}

    report = await ok(client, "POST", "/import", content=await exported(client, change))
    assert (report["versions_added"], report["further_numbers"]) == (0, {})
    alias = await ok(client, "GET", "/adapters/copy/aliases/theirs")
    assert alias["version"] == 1


@pytest.mark.parametrize("numbers", [(2,), (4, 4), (0,)])
async def test_one_that_is_taken_there_is_no_export(
    client: httpx.AsyncClient, copy: Json, numbers: tuple[int, ...]
) -> None:
    archive = await exported(client, with_further(*numbers))
    response = await client.post("/import", content=archive)
    assert (response.status_code, response.json()["code"]) == (422, "archive_invalid")


async def test_one_that_is_taken_here_is_a_conflict(
    client: httpx.AsyncClient, copy: Json, make_adapter: AdapterMaker
) -> None:
    await register(client, "copy", make_adapter("new", seed=3))

    def take_other(manifest: Json) -> None:
        manifest["versions"][1]["further_numbers"] = [4]

    for change, number in ((with_further(4, 7, 8), 8), (take_other, 4)):
        response = await client.post("/import", content=await exported(client, change))
        assert (response.status_code, response.json()["code"]) == (409, "import_conflict")
        assert f"copy:{number} has other content here" in response.json()["detail"]
