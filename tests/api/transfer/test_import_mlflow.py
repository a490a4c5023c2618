"""Import from a real MLflow server: numbers, aliases, tags, descriptions and files."""

import json
import shutil
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.api.conftest import AdapterMaker, Run, write_adapter
from tests.support.servers.mlflow import PYTHON, mlflow_server, run_client

Json = dict[str, Any]

FILL = """
import sys
import mlflow
from mlflow import MlflowClient
url, first, second, third = sys.argv[1:]
mlflow.set_tracking_uri(url)
client = MlflowClient()

class Model(mlflow.pyfunc.PythonModel):
    def predict(self, context, model_input: list[str]) -> list[str]:
        return model_input

client.create_registered_model("Support Bot", tags={"team": "cx", "long tag": "a b"},
                               description="answers mails")
with mlflow.start_run() as run:
    mlflow.log_artifacts(first, "adapter")
    mlflow.log_artifacts(second, "model/peft")
    mlflow.log_artifacts(first, "both/a")
    mlflow.log_artifacts(second, "both/b")
    mlflow.log_text("hello", "note/readme.txt")
    logged = mlflow.pyfunc.log_model(name="m", python_model=Model(), pip_requirements=[],
                                     artifacts={"adapter": third})
source = run.info.artifact_uri
versions = [
    client.create_model_version("Support Bot", source + "/adapter", run.info.run_id,
                                tags={"rank": "4", "reviewed": ""}, description="the first"),
    client.create_model_version("Support Bot", f"runs:/{run.info.run_id}/model", run.info.run_id),
    client.create_model_version("Support Bot", f"runs:/{run.info.run_id}/note", run.info.run_id),
    mlflow.register_model(logged.model_uri, "Support Bot"),
    client.create_model_version("Support Bot", f"runs:/{run.info.run_id}/both", run.info.run_id),
    client.create_model_version("Support Bot", source + "/adapter", run.info.run_id),
]
client.set_registered_model_alias("Support Bot", "Champion", 2)
client.set_registered_model_alias("Support Bot", "copy", 6)
client.set_registered_model_alias("Support Bot", "lost", 3)
client.create_registered_model("no-adapter")
client.create_model_version("no-adapter", f"runs:/{run.info.run_id}/note", run.info.run_id)
client.create_registered_model("far-away")
client.create_model_version("far-away", "s3://bucket/adapter")
client.create_registered_model("staged")
client.create_model_version("staged", source + "/adapter", run.info.run_id)
client.transition_model_version_stage("staged", "1", "Production")
print(run.info.run_id)
"""

pytestmark = pytest.mark.skipif(not PYTHON.exists(), reason="MLflow is missing: make mlflow")


@dataclass
class Filled:
    """An MLflow server with a registry in it."""

    url: str
    run_id: str
    sources: list[Path]


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Filled]:
    folder = tmp_path_factory.mktemp("mlflow")
    sources = [write_adapter(folder / f"source{n}", seed=n) for n in range(3)]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    destination = str(folder / "artifacts")
    with mlflow_server(folder, port, "--artifacts-destination", destination) as url:
        run_id = run_client(url, FILL, *map(str, sources)).split()[-1]
        yield Filled(url, run_id, sources)


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
