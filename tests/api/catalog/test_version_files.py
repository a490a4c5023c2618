"""A version's files over REST, and `adaptry adapter pull`."""

import shutil
from pathlib import Path

import httpx
import pytest

from adaptry.client import unpack_version
from registry.auth.scopes import Scope
from registry.service import RegistryService
from tests.api.conftest import AdapterMaker, Run
from tests.api.helpers import assert_problem, publish
from tests.api.keyed_client import Asked

FILES = ["adapter_config.json", "adapter_model.safetensors"]


def files_of(service: RegistryService, digest: str) -> Path:
    return service.catalog._path_of(digest)


async def test_what_comes_is_what_was_registered(
    client: httpx.AsyncClient, make_adapter: AdapterMaker, tmp_path: Path
) -> None:
    source = make_adapter("bot")
    version = (await publish(client, "bot", source)).json()
    answer = await client.get("/adapters/bot/versions/1/files")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/x-tar"
    assert "bot-1.tar" in answer.headers["content-disposition"]
    unpack_version(iter([answer.content]), version["digest"], tmp_path / "pulled")
    for name in FILES:
        assert (tmp_path / "pulled" / name).read_bytes() == (source / name).read_bytes()


async def test_retired_versions_have_files_and_purged_ones_none(
    client: httpx.AsyncClient, make_adapter: AdapterMaker
) -> None:
    await publish(client, "bot", make_adapter("bot"))
    path = "/adapters/bot/versions/1"
    await client.post(f"{path}/retire", json={"force": True})
    assert (await client.get(f"{path}/files")).status_code == 200
    assert (await client.delete("/adapters/bot/aliases/default")).status_code == 204
    purged = await client.post(f"{path}/purge")
    assert purged.status_code == 200, purged.text
    assert_problem(await client.get(f"{path}/files"), 409, "files_missing")


async def test_what_is_not_whole_is_not_sent(
    client: httpx.AsyncClient, service: RegistryService, make_adapter: AdapterMaker
) -> None:
    version = (await publish(client, "bot", make_adapter("bot"))).json()
    folder = files_of(service, version["digest"])
    with (folder / FILES[0]).open("ab") as file:
        file.write(b" ")
    path = "/adapters/bot/versions/1/files"
    assert_problem(await client.get(path), 409, "files_damaged")
    shutil.rmtree(folder)
    assert_problem(await client.get(path), 409, "files_missing")
    store = service.store.adapters
    store.rename(store.with_name("away"))
    assert_problem(await client.get(path), 503, "store_unavailable")
    assert_problem(await client.get("/export"), 503, "store_unavailable")


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("/adapters/nobody/versions/1/files", 404, "unknown_adapter"),
        ("/adapters/bot/versions/9/files", 404, "unknown_version"),
        ("/adapters/bot/versions/x/files", 422, "invalid_request"),
        ("/adapters/No%20Name/versions/1/files", 400, "invalid_reference"),
    ],
)
async def test_bad_questions_are_problems(
    client: httpx.AsyncClient, make_adapter: AdapterMaker, path: str, status: int, code: str
) -> None:
    await publish(client, "bot", make_adapter("bot"))
    assert_problem(await client.get(path), status, code)


async def test_a_grant_to_use_an_adapter_does_not_include_its_weights(
    asked: Asked, service: RegistryService, make_adapter: AdapterMaker
) -> None:
    for tenant in ("acme", "other"):
        await asked.ask("root", "POST", "/tenants", json={"name": tenant})
        await asked.key(f"{tenant}~boss", Scope.ADMIN)
    await service.registrar.register("acme~bot", str(make_adapter("one")), actor="root")
    path = "/adapters/acme~bot/versions/1/files"
    assert_problem(await asked.ask("other~boss", "GET", path), 404, "unknown_adapter")
    granted = await asked.ask("root", "PUT", "/adapters/acme~bot/grants/other")
    assert granted.is_success
    assert_problem(await asked.ask("other~boss", "GET", path), 403, "not_owner")
    assert (await asked.ask("acme~boss", "GET", path)).status_code == 200


async def test_the_command_pulls_into_a_new_folder_only(
    client: httpx.AsyncClient, run: Run, make_adapter: AdapterMaker, tmp_path: Path
) -> None:
    source = make_adapter("bot")
    await publish(client, "bot", source)
    folder = tmp_path / "pulled"
    code, out, err = await run("adapter", "pull", "bot@default", str(folder))
    assert (code, err) == (0, "")
    assert out.startswith(f"bot:1  {folder}  ")
    assert sorted(file.name for file in folder.iterdir()) == FILES
    code, out, err = await run("adapter", "pull", "bot:1", str(folder))
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert "already exists" in err
    code, out, err = await run("adapter", "pull", "bot:2", str(tmp_path / "none"))
    assert (code, "[unknown_version]" in err, (tmp_path / "none").exists()) == (1, True, False)
