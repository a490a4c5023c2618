"""Settings of an adapter: whether requests get what its versions were trained with."""

import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from engine.resolver import RegistryResolver
from registry.service import RegistryService

AdapterMaker = Callable[..., Path]

TEMPLATE = "{{ messages[-1]['content'] }}!"
DEFAULTS = {"temperature": 0.5, "eos_token_id": [1]}


def train(folder: Path, template: str = TEMPLATE, **defaults: Any) -> Path:
    (folder / "chat_template.jinja").write_text(template)
    (folder / "generation_config.json").write_text(json.dumps(defaults or DEFAULTS))
    return folder


async def register(client: httpx.AsyncClient, source: Path) -> dict[str, Any]:
    response = await client.post("/adapters/bot/versions", json={"source": str(source)})
    assert response.is_success, response.text
    version: dict[str, Any] = response.json()
    return version


async def served(service: RegistryService) -> tuple[str | None, Any]:
    version = await RegistryResolver(service.catalog).resolve("bot")
    return version.chat_template, version.sampling_defaults


@pytest.mark.both_databases
async def test_they_are_off_until_they_are_switched_on(
    client: httpx.AsyncClient, make_adapter: AdapterMaker, service: RegistryService
) -> None:
    version = await register(client, train(make_adapter("a")))
    assert version["has_chat_template"] is True
    assert version["sampling_defaults"] == DEFAULTS
    assert await served(service) == (None, None)
    adapter = (await client.patch("/adapters/bot", json={"serve_chat_template": True})).json()
    assert adapter["serve_chat_template"] is True
    assert adapter["serve_sampling_defaults"] is False
    assert await served(service) == (TEMPLATE, None)
    await client.patch("/adapters/bot", json={"serve_sampling_defaults": True})
    assert await served(service) == (TEMPLATE, DEFAULTS)
    await client.patch("/adapters/bot", json={"serve_chat_template": False, "owner": "team"})
    assert await served(service) == (None, DEFAULTS)
    events = (await client.get("/events", params={"adapter": "bot"})).json()["items"]
    reasons = [event["reason"] for event in events if event["kind"] == "adapter.updated"]
    assert sorted(reasons) == [
        "owner, serve_chat_template",
        "serve_chat_template",
        "serve_sampling_defaults",
    ]


async def test_a_version_without_its_own_gets_the_base_models(
    client: httpx.AsyncClient, make_adapter: AdapterMaker, service: RegistryService
) -> None:
    version = await register(client, make_adapter("a"))
    assert (version["has_chat_template"], version["sampling_defaults"]) == (False, None)
    await client.patch("/adapters/bot", json={"serve_chat_template": True})
    assert await served(service) == (None, None)


async def test_a_corrected_template_is_taken_over_and_recorded(
    client: httpx.AsyncClient, make_adapter: AdapterMaker, service: RegistryService
) -> None:
    source = train(make_adapter("a"))
    await register(client, source)
    await client.patch("/adapters/bot", json={"serve_chat_template": True})
    version = await register(client, train(source, "corrected"))
    assert version["number"] == 1
    assert await served(service) == ("corrected", None)
    for name in ("chat_template.jinja", "generation_config.json"):
        (source / name).unlink()
    await register(client, source)
    assert await served(service) == ("corrected", None), "no file says nothing"
    events = (await client.get("/events", params={"adapter": "bot"})).json()["items"]
    reasons = [event["reason"] for event in events if event["kind"] == "version.updated"]
    assert reasons == ["chat_template: registered again with others"]


async def test_the_training_files_are_not_stored(
    client: httpx.AsyncClient, make_adapter: AdapterMaker, tmp_path: Path
) -> None:
    version = await register(client, train(make_adapter("a")))
    stored = next((tmp_path / "store" / "adapters").glob("*/*"))
    assert {file.name for file in stored.iterdir()} == set(version["inspection"]["files"])
    plain = await client.post(
        "/adapters/other/versions", json={"source": str(make_adapter("plain"))}
    )
    assert plain.json()["digest"] == version["digest"]


@pytest.mark.parametrize("value", [None, "yes", 2])
async def test_a_setting_is_yes_or_no(
    client: httpx.AsyncClient, make_adapter: AdapterMaker, value: object
) -> None:
    await register(client, make_adapter("a"))
    response = await client.patch("/adapters/bot", json={"serve_chat_template": value})
    assert response.status_code == 422


async def test_they_are_exported_and_imported(
    client: httpx.AsyncClient, make_adapter: AdapterMaker, service: RegistryService
) -> None:
    await register(client, train(make_adapter("a")))
    await client.patch("/adapters/bot", json={"serve_chat_template": True})
    exported = (await client.get("/export")).content
    with tarfile.open(fileobj=io.BytesIO(exported)) as archive:
        member = archive.extractfile("adapters/bot.json")
        assert member is not None
        manifest = json.load(member)
    assert manifest["serve_chat_template"] is True
    assert manifest["versions"][0]["chat_template"] == TEMPLATE
    assert manifest["versions"][0]["sampling_defaults"] == DEFAULTS
