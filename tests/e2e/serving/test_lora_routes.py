"""vLLM's routes to load and unload adapters, as its clients call them."""

from typing import Any

import pytest

from demo.tasks import TASKS
from tests.conftest import ROOT

pytestmark = [pytest.mark.engine]

ADAPTERS = ROOT / "demo" / "adapters"


def load(server: Any, name: str, does: str, **more: Any) -> Any:
    body = {"lora_name": name, "lora_path": str(ADAPTERS / does), **more}
    return server.client.post("/v1/load_lora_adapter", json=body)


def unload(server: Any, name: str) -> Any:
    return server.client.post("/v1/unload_lora_adapter", json={"lora_name": name})


def says(server: Any, name: str) -> tuple[int, str]:
    response = server.complete(name, "hello=")
    body = response.json()
    if response.status_code != 200:
        return response.status_code, body["error"]["code"]
    return 200, body["choices"][0]["text"]


def does(name: str) -> tuple[int, str]:
    return 200, TASKS[name].answer("hello")


def host(server: Any) -> list[str]:
    return [each["reference"] for each in server.client.get("/api/v1/cache").json()["host"]]


def test_what_is_loaded_answers_from_memory_and_what_is_unloaded_no_more(server: Any) -> None:
    loaded = load(server, "routed", "upper", is_3d_lora_weight=False)
    assert (loaded.status_code, loaded.text) == (
        200,
        "Success: LoRA adapter 'routed' added successfully.",
    )
    assert host(server) == ["routed:1"]
    assert says(server, "routed") == does("upper")
    assert load(server, "routed", "vowels").json()["error"]["code"] == "already_loaded"
    assert says(server, "routed") == does("upper")
    assert load(server, "routed", "vowels", load_inplace=True).status_code == 200
    assert says(server, "routed") == does("vowels")
    unloaded = unload(server, "routed")
    assert unloaded.text == "Success: LoRA adapter 'routed' removed successfully."
    assert says(server, "routed") == (410, "version_retired")
    states = server.client.get("/api/v1/adapters/routed/versions").json()["items"]
    assert [version["state"] for version in states] == ["retired", "retired"]
    assert unload(server, "routed").status_code == 404
    assert load(server, "routed", "upper").status_code == 200, "what was retired is wanted back"
    assert says(server, "routed") == does("upper")
    assert server.complete("routed", "hello=").headers["x-adaptry-version"] == "routed:1"


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"lora_name": "x", "lora_path": "/etc"}, 403, "source_not_allowed"),
        ({"lora_name": "x", "lora_path": str(ADAPTERS / "none")}, 404, "source_not_found"),
        (
            {"lora_name": "Not A Name", "lora_path": str(ADAPTERS / "upper")},
            400,
            "invalid_reference",
        ),
        ({"lora_name": "x"}, 400, None),
        ({"lora_path": str(ADAPTERS / "upper")}, 400, None),
        ({"lora_name": 1, "lora_path": 2}, 400, None),
        ([], 400, None),
    ],
)
def test_a_failed_load_is_reported(server: Any, body: Any, status: int, code: str) -> None:
    refused = server.client.post("/v1/load_lora_adapter", json=body)
    error = refused.json()["error"]
    assert refused.status_code == status, error
    assert code in (None, error["code"])
    assert server.client.get("/api/v1/adapters/x").status_code == 404


def test_an_unknown_adapter_can_not_be_unloaded(server: Any) -> None:
    refused = unload(server, "nobody")
    assert (refused.status_code, refused.json()["error"]["code"]) == (404, "unknown_adapter")
