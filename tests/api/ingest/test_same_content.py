"""The same adapter is the same version, whoever wrote its files."""

import asyncio
import json
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from safetensors.numpy import load_file, save_file
from sqlalchemy import text

from registry.database.engine import Database
from registry.ingest.cleanup import Cleanup
from registry.inspection.base_model import BaseModel
from registry.service import RegistryService
from tests.support.servers.registry_in_loop import running_registry

pytestmark = pytest.mark.both_databases

AdapterMaker = Callable[..., Path]


def save_again(source: Path, folder: Path) -> Path:
    """As another tool would: other spacing, another order, other metadata."""
    folder.mkdir()
    config = json.loads((source / "adapter_config.json").read_text())
    config = dict(sorted(config.items(), reverse=True)) | {"peft_version": "9.9"}
    (folder / "adapter_config.json").write_text(json.dumps(config, indent=7))
    tensors = load_file(source / "adapter_model.safetensors")
    save_file(tensors, folder / "adapter_model.safetensors", {"format": "np"})
    return folder


async def register(client: httpx.AsyncClient, source: Path) -> httpx.Response:
    return await client.post("/adapters/bot/versions", json={"source": str(source)})


def kept(tmp_path: Path) -> set[str]:
    return {path.name for path in (tmp_path / "store" / "adapters").glob("*/*")}


async def test_a_saved_again_adapter_is_the_version_that_is_there(
    client: httpx.AsyncClient,
    make_adapter: AdapterMaker,
    service: RegistryService,
    database: Database,
    tmp_path: Path,
) -> None:
    source = make_adapter("a")
    first = (await register(client, source)).json()
    again = await register(client, save_again(source, source.with_name("again")))
    assert (again.status_code, again.json()) == (200, first)
    assert len(first["content_digest"]) == 64
    assert (await register(client, make_adapter("b", seed=1))).status_code == 201
    assert len(kept(tmp_path)) == 3
    await Cleanup(service.store, database, retention=timedelta(days=1)).run()
    assert len(kept(tmp_path)) == 2
    assert first["digest"] in kept(tmp_path)


@pytest.mark.parametrize("is_job", [False, True], ids=["direct", "as a job"])
async def test_files_that_are_not_used_go_at_once(
    database_url: str,
    tmp_path: Path,
    base_model: BaseModel,
    make_adapter: AdapterMaker,
    is_job: bool,
) -> None:
    settings: dict[str, Any] = {"max_direct_bytes": 0} if is_job else {}
    source = make_adapter("a")
    again = save_again(source, source.with_name("again"))
    async with running_registry(database_url, tmp_path, base_model, **settings) as registry:
        for folder in (source, again):
            response = await registry.register("bot", folder)
            if is_job:
                assert (await registry.finished(response))["state"] == "succeeded"
            await registry.no_leftovers()
        assert len(registry.kept()) == 1


async def test_a_version_from_before_content_digests_is_found_and_keeps_its_digest(
    client: httpx.AsyncClient, make_adapter: AdapterMaker, database: Database
) -> None:
    source = make_adapter("a")
    first = (await register(client, source)).json()
    async with database.transaction() as session:
        await session.execute(text("UPDATE version SET content_digest = NULL"))
    again = await register(client, save_again(source, source.with_name("again")))
    assert (again.status_code, again.json()) == (200, first)


async def test_what_was_purged_is_a_new_version_if_its_files_differ(
    client: httpx.AsyncClient, make_adapter: AdapterMaker
) -> None:
    source = make_adapter("a")
    await register(client, source)
    await register(client, make_adapter("b", seed=1))
    await client.put("/adapters/bot/aliases/default", json={"version": 2})
    for step in ("retire", "purge"):
        response = await client.post(f"/adapters/bot/versions/1/{step}", json={"reason": "old"})
        assert response.is_success, response.text
    again = await register(client, save_again(source, source.with_name("again")))
    assert (again.status_code, again.json()["number"]) == (201, 3)
    assert (await register(client, source)).json()["number"] == 1  # its own files: restored


async def test_two_at_once_are_one_version(
    client: httpx.AsyncClient, make_adapter: AdapterMaker
) -> None:
    source = make_adapter("a")
    again = save_again(source, source.with_name("again"))
    responses = await asyncio.gather(register(client, source), register(client, again))
    assert sorted(response.status_code for response in responses) == [200, 201]
    assert {response.json()["number"] for response in responses} == {1}
