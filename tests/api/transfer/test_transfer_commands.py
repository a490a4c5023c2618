"""`adaptry export` and `adaptry import`: every form of an export, and foreign adapters."""

import asyncio
import gzip
import json
import os
import sys
import tarfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from adaptry.client.resources.registration import FILES
from tests.api.conftest import AdapterMaker, Run
from tests.support.archives import INDEX
from tests.support.servers.asgi_server import serving
from tests.support.servers.scripted_http import answering

Json = dict[str, Any]


@pytest.fixture
async def published(client: httpx.AsyncClient, make_adapter: AdapterMaker) -> None:
    for n, name in enumerate(("bot", "bot", "other")):
        body = {"source": str(make_adapter(f"source{n}", seed=n))}
        response = await client.post(f"/adapters/{name}/versions", json=body)
        assert response.status_code == 201, response.text


async def names(client: httpx.AsyncClient) -> dict[str, int]:
    """How many versions each adapter has."""
    found = {}
    for adapter in (await client.get("/adapters")).json()["items"]:
        versions = (await client.get(f"/adapters/{adapter['name']}/versions")).json()["items"]
        found[adapter["name"]] = len(versions)
    return found


@pytest.mark.usefixtures("published")
@pytest.mark.parametrize("target", ["backup", "backup.tar", "backup.tar.gz", "new/backup.tgz"])
async def test_an_export_is_written_completely_and_can_be_imported(
    run: Run, tmp_path: Path, target: str
) -> None:
    path = tmp_path / target
    code, out, err = await run("export", str(path))
    assert (code, err) == (0, "")
    assert out.startswith(f"{path}  ")
    if target == "backup":
        assert (path / INDEX).is_file()
        assert (path / "adapters" / "bot.json").is_file()
    else:
        with tarfile.open(path) as tar:
            assert tar.getnames()[0] == INDEX
    assert not list(path.parent.glob("*.partial"))
    assert not list(path.parent.glob(".*.partial"))
    code, out, err = await run("import", str(path))
    assert (code, err) == (0, "")
    assert out.splitlines() == [
        "imported:",
        "       0  adapters added",
        "       0  versions added",
        "       0  aliases set",
        "       0  events added",
        "       3  versions that were here already",
    ]


@pytest.mark.usefixtures("published")
async def test_equal_exports_are_equal_files(run: Run, tmp_path: Path) -> None:
    for suffix in (".tar", ".tar.gz"):
        first, second = tmp_path / f"first{suffix}", tmp_path / f"second{suffix}"
        await run("export", str(first))
        await run("export", str(second))
        assert first.read_bytes() == second.read_bytes()


@pytest.mark.usefixtures("published")
async def test_some_adapters_may_be_chosen(run: Run, tmp_path: Path) -> None:
    await run("export", str(tmp_path / "some"), "--adapter", "other")
    assert [p.name for p in (tmp_path / "some" / "adapters").iterdir()] == ["other.json"]
    code, _, err = await run("export", str(tmp_path / "none"), "--adapter", "nobody")
    hint = "`adaptry adapter list` shows all adapters"
    assert (code, err) == (1, f"adaptry: there is no adapter 'nobody' [unknown_adapter]: {hint}\n")
    assert not (tmp_path / "none").exists()


@pytest.mark.usefixtures("published")
async def test_an_export_can_be_piped_into_an_import(app: FastAPI) -> None:
    async with serving(app) as url:
        adaptry = f"{sys.executable} -m adaptry"
        line = f"{adaptry} export - --server {url} | {adaptry} import - --server {url} --json"
        piped = await asyncio.create_subprocess_shell(line, stdout=asyncio.subprocess.PIPE)
        out, _ = await piped.communicate()
    assert piped.returncode == 0
    assert json.loads(out)["versions_unchanged"] == 3


async def test_an_existing_target_is_not_overwritten(run: Run, tmp_path: Path) -> None:
    (tmp_path / "x.tar").write_text("mine")
    code, _, err = await run("export", str(tmp_path / "x.tar"))
    assert code == 1
    assert "already exists" in err
    assert (tmp_path / "x.tar").read_text() == "mine"


@pytest.mark.usefixtures("published")
async def test_a_damaged_folder_is_refused(run: Run, tmp_path: Path) -> None:
    await run("export", str(tmp_path / "x"))
    weights = next((tmp_path / "x" / "files").rglob("*.safetensors"))
    weights.write_bytes(weights.read_bytes()[:-1] + b"!")
    code, out, err = await run("import", str(tmp_path / "x"))
    assert (code, out) == (1, "")
    assert err.endswith("[digest_mismatch]\n")
    assert err.count("\n") == 1


@pytest.mark.usefixtures("published")
async def test_a_dry_run_is_labelled(run: Run, tmp_path: Path) -> None:
    await run("export", str(tmp_path / "x"))
    _, out, _ = await run("import", str(tmp_path / "x"), "--dry-run")
    assert out.startswith("would be imported:\n")
    _, out, _ = await run("import", str(tmp_path / "x"), "--dry-run", "--json")
    assert json.loads(out)["dry_run"] is True


# ---- from elsewhere --------------------------------------------------------------------------


async def test_a_folder_of_peft_folders_is_imported(
    run: Run, client: httpx.AsyncClient, make_adapter: AdapterMaker, tmp_path: Path
) -> None:
    folders = tmp_path / "sources"
    make_adapter("Support Bot", seed=1)
    make_adapter("other_2", seed=2)
    (folders / "notes").mkdir()
    pickled = make_adapter("pickled", seed=3)
    (pickled / "adapter_model.safetensors").rename(pickled / "adapter_model.bin")
    code, out, err = await run("import", "--from", "peft", str(folders))
    assert code == 0, err
    assert out.splitlines()[1:3] == ["       2  adapters added", "       2  versions added"]
    assert err.splitlines() == [
        "left out: notes: has no adapter_config.json",
        "left out: pickled: adapter_model.bin is a pickle, which can run code: "
        "save it as safetensors",
    ]
    assert await names(client) == {"other_2": 1, "support-bot": 1}
    version = (await client.get("/resolve", params={"reference": "support-bot"})).json()
    assert version["reference"] == "support-bot:1"
    assert version["source"] == str(folders / "Support Bot")
    again = await run("import", "--from", "peft", str(folders), "--json")
    report = json.loads(again[1])
    assert (report["versions_added"], report["versions_unchanged"]) == (0, 2)


async def test_an_imported_folder_is_dated_by_its_import(
    run: Run, client: httpx.AsyncClient, make_adapter: AdapterMaker
) -> None:
    """Not by its file, which may be older than the registry: it is not what was registered then."""
    folder = make_adapter("a/bot", seed=1)
    os.utime(folder / "adapter_config.json", (0, 0))
    before = datetime.now(UTC)
    await run("import", "--from", "peft", str(folder))
    for path in ("/adapters/bot", "/adapters/bot/versions/1"):
        created = (await client.get(path)).json()["created_at"]
        assert before <= datetime.fromisoformat(created) <= datetime.now(UTC)


async def test_a_retrained_adapter_becomes_the_next_version(
    run: Run, client: httpx.AsyncClient, make_adapter: AdapterMaker
) -> None:
    first = make_adapter("a/bot", seed=1)
    second = make_adapter("b/bot", seed=2)
    await run("import", "--from", "peft", str(first.parent))
    await run("import", "--from", "peft", str(second.parent))
    await run("import", "--from", "peft", str(first))  # an adapter's own folder
    assert await names(client) == {"bot": 2}
    assert (await client.get("/resolve", params={"reference": "bot"})).json()["number"] == 1


async def test_lora_modules_are_imported_in_each_form_that_vllm_accepts(
    run: Run, client: httpx.AsyncClient, make_adapter: AdapterMaker
) -> None:
    paths = [str(make_adapter(f"m{n}", seed=n)) for n in range(4)]
    code, _, err = await run(
        "import",
        "--from",
        "lora-modules",
        f"sql={paths[0]}",
        json.dumps({"name": "Chat", "path": paths[1], "base_model_name": "tiny"}),
        json.dumps([{"name": f"x/{n}", "path": paths[n]} for n in (2, 3)]),
    )
    assert (code, err) == (0, "")
    assert await names(client) == {"chat": 1, "sql": 1, "x-2": 1, "x-3": 1}


async def test_an_adapter_that_can_t_be_served_is_refused_or_left_out(
    run: Run, client: httpx.AsyncClient, make_adapter: AdapterMaker
) -> None:
    good = make_adapter("good", seed=1)
    make_adapter("large", rank=17)
    code, out, err = await run("import", "--from", "peft", str(good.parent))
    assert (code, out) == (1, "")
    assert "rank 17 is over --max-lora-rank 16" in err
    assert err.endswith("[rank_too_large]\n")
    assert await names(client) == {}
    code, _, err = await run("import", "--from", "peft", str(good.parent), "--invalid", "skip")
    assert code == 0
    assert err.startswith("left out: large:")
    assert await names(client) == {"good": 1}


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["import", "nowhere"], 1, "nowhere can't be read"),
        (["import", "."], 1, "say --from peft"),
        (["import", "a", "b"], 2, "one SOURCE"),
        (["import", "a", "--from", "disk"], 2, "--from"),
        (["import", "a", "--model", "x"], 2, "--from mlflow"),
        (["import", "--from", "peft", "nowhere"], 1, "nowhere is not a folder"),
        (["import", "--from", "peft", "empty"], 1, "it has no subfolders"),
        (["import", "--from", "peft", "notes"], 1, "a has no adapter_config.json"),
        (["import", "--from", "lora-modules", "nonsense"], 2, "neither NAME=PATH nor JSON"),
        (["import", "--from", "lora-modules", '{"name": 1, "x": 2}'], 2, "neither"),
        (["import", "--from", "lora-modules", "a=org/repo"], 1, "not a folder here"),
        (["import", "--from", "lora-modules", "a=notes"], 1, "has no adapter_config.json"),
        (["import", "--from", "mlflow", "http://127.0.0.1:1"], 1, "no answer from"),
        (["import", "--from", "mlflow", "nonsense"], 1, "no URL of an MLflow server"),
        (["import", "text.txt"], 1, "[archive_invalid]"),
        (["import", "broken.tar.gz"], 1, "the archive can't be read"),
        (["import", "damaged.tar.gz"], 1, "the archive can't be read"),
        (["export", "/proc/x/y.tar"], 1, "can't be written"),
    ],
)
async def test_an_error_is_one_line(
    run: Run,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    code: int,
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("empty").mkdir()
    Path("notes/a").mkdir(parents=True)
    Path("text.txt").write_text("x" * 2000)
    Path("broken.tar.gz").write_bytes(gzip.compress(os.urandom(2000))[:-500])
    Path("damaged.tar.gz").write_bytes(gzip.compress(b"")[:10] + b"\xff" * 50)
    exit_code, out, err = await run(*arguments)
    assert (exit_code, out, err.count("\n")) == (code, "", 1), err
    assert message in err


async def test_two_adapters_that_would_have_one_name_are_refused(
    run: Run, make_adapter: AdapterMaker
) -> None:
    make_adapter("A b", seed=1)
    folder = make_adapter("a-b", seed=2).parent
    code, _, err = await run("import", "--from", "peft", str(folder))
    assert code == 1
    assert "would both be named a-b" in err


async def test_two_models_of_mlflow_that_would_have_one_name_are_refused(run: Run) -> None:
    """Also where the first one's files are here already."""
    with answering() as mlflow:
        names = ("A b", "a-b")
        mlflow.will_say(200, {"registered_models": [{"name": name} for name in names]})
        for name in names:
            model = {"name": name, "creation_timestamp": 1}
            mlflow.will_say(200, {"registered_model": model})
        for name in names:
            version = {"name": name, "version": "1", "creation_timestamp": 1}
            mlflow.will_say(200, {"model_versions": [version]})
            mlflow.will_say(200, {"artifact_uri": "mlflow-artifacts:/here"})
            mlflow.will_say(200, {"files": [{"path": file, "file_size": 2} for file in FILES]})
            for _ in FILES:
                mlflow.will_say(200, b"{}")
        code, _, err = await run("import", "--from", "mlflow", mlflow.url)
    assert (code, err) == (1, "adaptry: two models would both be named a-b\n")
