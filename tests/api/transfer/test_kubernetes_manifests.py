"""What other projects read of the registry, held to their own schemas, and what it reads of
theirs."""

import json
from pathlib import Path
from typing import Any

import httpx
import jsonschema
import pytest
import yaml

from tests.api.conftest import AdapterMaker, Run

Json = dict[str, Any]
SCHEMAS = Path(__file__).parents[2] / "schemas"


def strict(schema: Json) -> Json:
    """As Kubernetes validates: fields outside the schema are errors."""
    closed = {
        key: strict(value) if isinstance(value, dict) else value for key, value in schema.items()
    }
    if "properties" in schema and "additionalProperties" not in schema:
        closed["additionalProperties"] = False
    return closed


def check(found: Json, schema_file: str) -> None:
    definition = yaml.safe_load((SCHEMAS / schema_file).read_text(encoding="utf-8"))
    group = definition["spec"]["group"]
    (version,) = [v for v in definition["spec"]["versions"] if v["served"]]
    assert found["apiVersion"] == f"{group}/{version['name']}"
    assert found["kind"] == definition["spec"]["names"]["kind"]
    jsonschema.validate(found, strict(version["schema"]["openAPIV3Schema"]))


async def publish(client: httpx.AsyncClient, name: str, source: Path) -> None:
    response = await client.post(f"/adapters/{name}/versions", json={"source": str(source)})
    assert response.status_code == 201, response.text


async def test_aliases_are_rewrites_with_their_weights(
    client: httpx.AsyncClient, run: Run, make_adapter: AdapterMaker
) -> None:
    for seed in (1, 2):
        await publish(client, "bot", make_adapter(f"bot{seed}", seed=seed))
    await publish(client, "other_one", make_adapter("other", seed=3))
    split = {"weights": [{"version": 1, "weight": 9}, {"version": 2, "weight": 1}]}
    assert (await client.put("/adapters/bot/aliases/prod", json=split)).status_code == 200
    asked = ("manifest", "inference-model-rewrite", "--pool", "llama", "--namespace", "serving")
    code, out, err = await run(*asked)
    assert (code, err) == (0, "")
    found = list(yaml.safe_load_all(out))
    for each in found:
        check(each, "inferencemodelrewrites.yaml")
    bot, other = found
    assert bot["metadata"] == {"name": "bot", "namespace": "serving"}
    assert bot["spec"]["poolRef"] == {"name": "llama"}
    rules = {
        rule["matches"][0]["model"]["value"]: [
            (target["modelRewrite"], target["weight"]) for target in rule["targets"]
        ]
        for rule in bot["spec"]["rules"]
    }
    assert rules == {"bot": [("bot:1", 1)], "bot@prod": [("bot:1", 9), ("bot:2", 1)]}
    assert other["metadata"]["name"] == "other-one"
    code, out, err = await run(*asked, "--adapter", "bot", "--json")
    assert json.loads(out) == [bot]


async def test_versions_of_names_are_model_adapters(
    client: httpx.AsyncClient, run: Run, make_adapter: AdapterMaker
) -> None:
    folder = make_adapter("bot")
    await publish(client, "bot", folder)
    asked = ("manifest", "model-adapter", "--selector", "model.aibrix.ai/name=llama")
    code, out, err = await run(*asked)
    assert (code, err) == (0, "")
    (found,) = yaml.safe_load_all(out)
    check(found, "modeladapters.yaml")
    assert found["metadata"] == {"name": "bot"}
    assert found["spec"]["artifactURL"] == str(folder)
    assert found["spec"]["podSelector"] == {"matchLabels": {"model.aibrix.ai/name": "llama"}}
    await publish(client, "old", make_adapter("old", seed=2))
    retired = await client.post("/adapters/old/versions/1/retire", json={"force": True})
    assert retired.status_code == 200
    code, out, err = await run(*asked)
    assert (code, yaml.safe_load(out)) == (0, found)
    assert err.startswith("left out: old:1 ")
    assert err.count("\n") == 1
    code, out, err = await run("manifest", "model-adapter", "--selector", "nonsense")
    assert (code, out, err.count("\n")) == (2, "", 1)


async def test_names_that_are_equal_on_kubernetes_are_refused(
    client: httpx.AsyncClient, run: Run, make_adapter: AdapterMaker
) -> None:
    await publish(client, "a.b", make_adapter("one", seed=1))
    await publish(client, "a_b", make_adapter("two", seed=2))
    code, out, err = await run("manifest", "inference-model-rewrite", "--pool", "llama")
    assert (code, out) == (1, "")
    assert err == "adaptry: several adapters would be called a-b on Kubernetes\n"


SIDECAR = """
apiVersion: v1
kind: ConfigMap
metadata: {{name: adapters}}
data:
  configmap.yaml: |
    vLLMLoRAConfig:
      name: sql-loras
      host: localhost
      port: 8000
      defaultBaseModel: meta-llama/Llama-2-7b-hf
      ensureExist:
        models:
        - {{id: SQL_lora, source: {wanted}, base-model: any}}
      ensureNotExist:
        models:
        - {{id: leaving, source: {unwanted}}}
        - {{id: never-there, source: /nowhere}}
"""


async def test_the_sidecars_configuration_is_applied(
    client: httpx.AsyncClient, run: Run, make_adapter: AdapterMaker, tmp_path: Path
) -> None:
    unwanted, wanted, newer = (make_adapter(f"s{seed}", seed=seed) for seed in (1, 2, 3))
    await publish(client, "leaving", unwanted)
    config = tmp_path / "configmap.yaml"
    config.write_text(SIDECAR.format(wanted=wanted, unwanted=unwanted))
    asked = ("import", "--from", "lora-sidecar", str(config))

    async def done(*more: str) -> Json:
        code, out, err = await run(*asked, "--json", *more)
        assert (code, err) == (0, "")
        answer: Json = json.loads(out)
        return answer

    planned = await done("--dry-run")
    assert (planned["registered"], planned["retired"]) == (["sql_lora"], ["leaving:1"])
    assert (await client.get("/adapters/sql_lora")).status_code == 404
    first = await done()
    assert (first["registered"], first["retired"]) == (["sql_lora:1"], ["leaving:1"])
    assert (await client.get("/resolve", params={"reference": "leaving"})).status_code == 410
    assert await done() == {
        **{"dry_run": False, "registered": [], "promoted": [], "retired": []},
        "unchanged": ["sql_lora:1"],
    }
    config.write_text(SIDECAR.format(wanted=newer, unwanted=unwanted))
    changed = await done()
    assert (changed["registered"], changed["promoted"]) == (["sql_lora:2"], ["sql_lora:2"])
    resolved = await client.get("/resolve", params={"reference": "sql_lora"})
    assert resolved.json()["number"] == 2
    code, out, _ = await run(*asked)
    assert (code, out) == (0, "changed:\n   unchanged  sql_lora:2\n")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "is not YAML"),
        ("a: 1", "has vLLMLoRAConfig 0 times"),
        ("vLLMLoRAConfig: {ensureExist: {models: [{id: x}]}}", "source: is missing"),
        ("vLLMLoRAConfig: 3", "vLLMLoRAConfig"),
        (
            "vLLMLoRAConfig: {ensureExist: {models: [{id: x, source: /x}]},"
            " ensureNotExist: {models: [{id: X, source: /x}]}}",
            "x both has to exist and must not exist",
        ),
    ],
)
async def test_a_bad_configuration_is_one_line(
    run: Run, tmp_path: Path, text: str, says: str
) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(text)
    code, out, err = await run("import", "--from", "lora-sidecar", str(config))
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert says in err


async def test_a_contradiction_is_found_before_anything_is_retired(
    client: httpx.AsyncClient, run: Run, make_adapter: AdapterMaker, tmp_path: Path
) -> None:
    await publish(client, "bot", source := make_adapter("bot"))
    config = tmp_path / "config.yaml"
    models = f"{{models: [{{id: bot, source: {source}}}]}}"
    config.write_text(f"vLLMLoRAConfig: {{ensureExist: {models}, ensureNotExist: {models}}}")
    code, _, err = await run("import", "--from", "lora-sidecar", str(config))
    assert (code, "bot both has to exist and must not exist" in err) == (1, True)
    assert (await client.get("/resolve", params={"reference": "bot"})).status_code == 200


async def test_a_missing_configuration_is_one_line(run: Run, tmp_path: Path) -> None:
    code, _, err = await run("import", "--from", "lora-sidecar", str(tmp_path / "none"))
    assert (code, err.count("\n")) == (1, 1)
