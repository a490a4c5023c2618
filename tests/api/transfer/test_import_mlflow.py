"""A real MLflow server: imported whole, and read as a source of single versions."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from registry.errors import AddressNotAllowed, InvalidSource, SourceNotFound, SourceTooLarge
from registry.sources.base import FetchLimits
from registry.sources.egress_guard import EgressGuard
from registry.sources.registry import RemoteSources
from tests.api.conftest import AdapterMaker, Run, write_adapter
from tests.support.adapters.fetch import LOOPBACK, Fetch
from tests.support.registries.mlflow import PYTHON, mlflow_server, run_client
from tests.support.registries.mlflow_registry import Filled, filled_server

Json = dict[str, Any]

pytestmark = pytest.mark.skipif(not PYTHON.exists(), reason="MLflow is missing: make mlflow")


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Filled]:
    folder = tmp_path_factory.mktemp("mlflow")
    sources = [write_adapter(folder / f"source{n}", seed=n) for n in range(3)]
    with filled_server(folder, sources) as found:
        yield found


async def get(client: httpx.AsyncClient, path: str, **query: Any) -> Json:
    response = await client.get(path, params=query)
    assert response.status_code == 200, response.text
    content: Json = response.json()
    return content


async def test_a_real_mlflow_registry_is_imported(
    run: Run, client: httpx.AsyncClient, filled: Filled, tmp_path: Path
) -> None:
    code, out, err = await run("import", "--from", "mlflow", filled.url)
    assert code == 0, err
    assert sorted(err.splitlines()) == sorted(
        [
            "left out: Support Bot version 3: holds no adapter that PEFT saved as safetensors",
            "left out: Support Bot version 5: holds 2 adapters",
            "left out: Support Bot@lost: version 3 is not imported",
            "left out: no-adapter version 1: holds no adapter that PEFT saved as safetensors",
            "left out: far-away version 1: its files are at s3://, not with MLflow "
            "(--serve-artifacts)",
        ]
    )
    adapter = await get(client, "/adapters/support-bot")
    assert adapter["description"] == "answers mails"
    assert adapter["tags"] == ["team=cx"]
    tags = {"team": "cx", "long tag": "a b"}
    assert adapter["metadata"] == {"mlflow": {"name": "Support Bot", "tags": tags}}
    versions = (await get(client, "/adapters/support-bot/versions"))["items"]
    assert [version["number"] for version in versions] == [1, 2, 4], "6 has the files of 1"
    assert [version["further_numbers"] for version in versions] == [[6], [], []]
    assert "support-bot:6 has the content of support-bot:1" in out
    sixth = await get(client, "/resolve", reference="support-bot:6")
    assert (sixth["reference"], sixth["digest"]) == ("support-bot:1", versions[0]["digest"])
    first, second, fourth = versions
    assert first["description"] == "the first"
    assert first["tags"] == ["rank=4", "reviewed"]
    assert first["training_run"] == second["training_run"] == filled.run_id
    assert first["source"] == f"{filled.url}#models:/Support Bot/1"
    for n, version in enumerate((first, second, fourth)):
        copied = shutil.copytree(filled.sources[n], tmp_path / "sources" / str(n))
        body = {"source": str(copied)}
        direct = await client.post(f"/adapters/direct{n}/versions", json=body)
        assert version["digest"] == direct.json()["digest"], "the very same files"
    aliases = (await get(client, "/adapters/support-bot/aliases"))["items"]
    assert {alias["alias"]: alias["version"] for alias in aliases} == {
        "champion": 2,
        "copy": 1,
        "default": 1,
    }
    staged = (await get(client, "/adapters/staged/aliases"))["items"]
    assert {alias["alias"]: alias["version"] for alias in staged} == {"default": 1, "production": 1}
    recorded = (await get(client, "/adapters/support-bot/events"))["items"]
    assert [(e["kind"], e["to_version"], e["imported"]) for e in recorded] == [
        ("version.registered", 1, True),
        ("version.registered", 2, True),
        ("version.registered", 4, True),
        ("adapter.imported", None, False),
    ]
    assert recorded[0]["at"] == first["created_at"]


MOVE = """
import sys
from mlflow import MlflowClient
client = MlflowClient(sys.argv[1])
client.set_registered_model_alias("Support Bot", "Champion", sys.argv[2])
"""


async def test_a_second_import_adds_only_what_is_new(
    run: Run, client: httpx.AsyncClient, filled: Filled
) -> None:
    chosen = ["--from", "mlflow", filled.url, "--model", "Support Bot"]
    code, out, _ = await run("import", *chosen, "--default-alias", "champion", "--json")
    assert code == 0
    assert json.loads(out)["versions_added"] == 3
    assert json.loads(out)["further_numbers"] == {"support-bot:6": "support-bot:1"}
    assert (await get(client, "/resolve", reference="support-bot"))["number"] == 2
    assert len((await get(client, "/adapters"))["items"]) == 1
    run_client(filled.url, MOVE, "1")
    again = json.loads((await run("import", *chosen, "--json"))[1])
    assert (again["versions_added"], again["events_added"], again["aliases_set"]) == (0, 0, 0)
    assert again["further_numbers"] == {}
    assert "support-bot@champion" in again["aliases_kept"]
    followed = json.loads((await run("import", *chosen, "--aliases", "replace", "--json"))[1])
    assert followed["aliases_set"] >= 1
    assert (await get(client, "/resolve", reference="support-bot@champion"))["number"] == 1
    run_client(filled.url, MOVE, "2")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model", "nobody"], "Registered Model with name=nobody not found (HTTP 404)"),
        (["--model", "no-adapter"], "there is no adapter in"),
    ],
)
async def test_a_missing_model_is_a_one_line_error(
    run: Run, filled: Filled, arguments: list[str], message: str
) -> None:
    code, out, err = await run("import", "--from", "mlflow", filled.url, *arguments)
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert message in err


async def test_files_that_mlflow_stores_on_this_machine_are_read_there(
    run: Run,
    client: httpx.AsyncClient,
    make_adapter: AdapterMaker,
    tmp_path: Path,
    unused_tcp_port: int,
) -> None:
    (tmp_path / "server").mkdir()
    folder = tmp_path / "server"
    options = ("--no-serve-artifacts", "--default-artifact-root", str(folder / "artifacts"))
    script = """
import sys
import mlflow
url, source = sys.argv[1:]
mlflow.set_tracking_uri(url)
client = mlflow.MlflowClient()
client.create_registered_model("local")
with mlflow.start_run() as run:
    mlflow.log_artifacts(source, "some/adapter")
client.create_model_version("local", run.info.artifact_uri + "/some", run.info.run_id)
"""
    with mlflow_server(folder, unused_tcp_port, *options) as url:
        run_client(url, script, str(make_adapter("a")))
        code, _, err = await run("import", "--from", "mlflow", url)
    assert code == 0, err
    assert (await get(client, "/resolve", reference="local"))["number"] == 1


@pytest.fixture
def fetch(filled: Filled, tmp_path: Path) -> Fetch:
    def sources(guard: EgressGuard) -> RemoteSources:
        return RemoteSources(("mlflow:/",), guard, mlflow_uri=filled.url)

    return Fetch(tmp_path, 100_000_000, sources)


@pytest.mark.parametrize(
    ("url", "source", "revision"),
    [
        ("mlflow:/Support%20Bot/1", 0, "1"),
        ("mlflow:/Support%20Bot/4", 2, "4"),
        ("mlflow:/Support%20Bot@Champion", 1, "2"),
    ],
)
async def test_a_version_of_mlflow_is_a_source(
    filled: Filled, fetch: Fetch, url: str, source: int, revision: str
) -> None:
    fetched, files = await fetch(url)
    assert files == {f.name: f.read_bytes() for f in filled.sources[source].iterdir()}
    assert fetched.revision == revision


@pytest.mark.parametrize(
    ("url", "error", "words"),
    [
        ("mlflow:/Support%20Bot/99", SourceNotFound, "there is no mlflow:/Support%20Bot/99"),
        ("mlflow:/nobody/1", SourceNotFound, "nobody"),
        ("mlflow:/Support%20Bot@none", (SourceNotFound, InvalidSource), "none"),
        ("mlflow:/Support%20Bot/3", InvalidSource, "holds no adapter"),
        ("mlflow:/Support%20Bot/5", InvalidSource, "holds 2 adapters"),
        ("mlflow:/far-away/1", InvalidSource, "its files are at s3://"),
    ],
)
async def test_what_is_no_adapter_there_is_an_error(
    fetch: Fetch, url: str, error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        await fetch(url)


async def test_mlflow_at_a_private_address_is_not_called(fetch: Fetch) -> None:
    with pytest.raises(AddressNotAllowed):
        await fetch("mlflow:/Support%20Bot/1", EgressGuard())


async def test_too_many_bytes_or_files_of_mlflow_are_refused(fetch: Fetch) -> None:
    for limits in (FetchLimits(10), FetchLimits(100_000_000, max_files=1)):
        fetch.limits = limits
        with pytest.raises(SourceTooLarge):
            await fetch("mlflow:/Support%20Bot/1", LOOPBACK)
