"""vLLM's routes to load and unload adapters, as its clients call them."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from demo.tasks import TASKS
from tests.conftest import ROOT
from tests.support.lora_sidecar import LoraSidecar

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
    assert says(server, "routed") == (404, "version_retired")
    states = server.client.get("/api/v1/adapters/routed/versions").json()["items"]
    assert [version["state"] for version in states] == ["retired", "retired"]
    assert unload(server, "routed").status_code == 404
    assert load(server, "routed", "upper").status_code == 200, "what was retired is wanted back"
    assert says(server, "routed") == does("upper")
    assert server.complete("routed", "hello=").headers["x-adaptry-version"] == "routed:1"


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"lora_name": "x", "lora_path": "/etc"}, 404, "source_not_allowed"),
        ({"lora_name": "x", "lora_path": str(ADAPTERS / "none")}, 404, "source_not_found"),
        (
            {"lora_name": "not:a:name", "lora_path": "/etc"},
            404,
            "source_not_allowed",
        ),
        ({"lora_name": "x:1", "lora_path": str(ADAPTERS / "upper")}, 400, "invalid_reference"),
        ({"lora_name": "a\nb", "lora_path": str(ADAPTERS / "upper")}, 400, "invalid_served_name"),
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


def test_any_name_is_loaded_listed_asked_for_and_unloaded(server: Any) -> None:
    name = "Org/Größe 7B"
    assert load(server, name, "upper").text == f"Success: LoRA adapter '{name}' added successfully."
    assert says(server, name) == does("upper")
    assert load(server, name, "vowels").json()["error"]["code"] == "already_loaded"
    assert load(server, name, "vowels", load_inplace=True).status_code == 200
    assert says(server, name) == does("vowels")
    listed = {each["id"]: each for each in server.client.get("/v1/models").json()["data"]}
    assert listed[name]["root"] == str(ADAPTERS / "vowels")
    shown = server.client.get(f"/v1/models/{name}").json()
    assert (shown["id"], shown["root"]) == (name, listed[name]["root"])
    chosen = {"X-Amzn-SageMaker-Adapter-Identifier": name.encode()}
    body = {"prompt": "hello=", "max_tokens": 8, "temperature": 0}
    invoked = server.client.post("/invocations", json=body, headers=chosen)
    assert invoked.json()["choices"][0]["text"] == TASKS["vowels"].answer("hello")
    tokens = server.client.post("/tokenize", json={"model": name, "prompt": "hello="})
    assert tokens.json()["count"] > 0
    answer = server.complete(name, "hello=")
    assert answer.json()["model"] == name
    assert answer.headers["x-adaptry-version"].startswith("org-grosse-7b-")
    assert unload(server, name).status_code == 200
    assert says(server, name) == (404, "version_retired")
    assert server.client.get(f"/v1/models/{name}").status_code == 404
    assert unload(server, name).status_code == 404


def test_the_gateway_apis_sidecar_finds_what_it_has_loaded(server: Any) -> None:
    names = ("Org/Sidecar-7B_v2", "sidecar-lora")
    (base, *_) = (each["id"] for each in server.client.get("/v1/models").json()["data"])
    wanted = dict.fromkeys(names, str(ADAPTERS / "upper"))
    sidecar = LoraSidecar(str(server.base_url), wanted, base_model=base)
    assert sidecar.reconcile() == dict.fromkeys(names, 200)
    assert [says(server, name) for name in names] == [does("upper")] * 2
    assert sidecar.reconcile() == {}
    sidecar.wanted, sidecar.unwanted = {}, names
    assert sidecar.reconcile() == dict.fromkeys(names, 200)
    assert sidecar.reconcile() == {}
    assert [says(server, name) for name in names] == [(404, "version_retired")] * 2


def test_an_unknown_adapter_can_not_be_unloaded(server: Any) -> None:
    refused = unload(server, "nobody")
    assert (refused.status_code, refused.json()["error"]["code"]) == (404, "unknown_adapter")


def test_ten_loads_at_once_are_ten_adapters(server: Any) -> None:
    with ThreadPoolExecutor(10) as pool:
        loads = list(pool.map(lambda n: load(server, f"ten-{n}", "upper"), range(10)))
        assert [each.status_code for each in loads] == [200] * 10, [each.text for each in loads]
        assert set(pool.map(lambda n: says(server, f"ten-{n}"), range(10))) == {does("upper")}
        assert {unload(server, f"ten-{n}").status_code for n in range(10)} == {200}


def test_sagemaker_adds_uses_and_removes_an_adapter(server: Any) -> None:
    folder = str(ADAPTERS / "rot13")
    added = server.client.post("/adapters", json={"name": "maker", "src": folder})
    assert (added.status_code, added.text) == (200, "Adapter maker registered")
    models = {each["id"]: each for each in server.client.get("/v1/models").json()["data"]}
    assert models["maker"]["root"] == folder
    assert models["maker"]["parent"] in models
    chosen = {"X-Amzn-SageMaker-Adapter-Identifier": "maker"}
    body = {"prompt": "hello=", "max_tokens": 8, "temperature": 0}
    invoked = server.client.post("/invocations", json=body, headers=chosen)
    assert invoked.json()["choices"][0]["text"] == TASKS["rot13"].answer("hello")
    assert server.client.delete("/adapters/maker").text == "Adapter maker unregistered"
    assert "maker" not in [each["id"] for each in server.client.get("/v1/models").json()["data"]]
    assert server.client.delete("/adapters/maker").status_code == 404


def test_files_that_vllm_can_not_load_are_its_error(server: Any) -> None:
    """With vLLM's status: a 500 that we mean, and not one that the gateway replaces."""
    broken = server.state / "broken"
    broken.mkdir()
    (broken / "adapter_config.json").write_text("this is not json")
    for path, body in (
        ("/v1/load_lora_adapter", {"lora_name": "no-weights", "lora_path": str(broken)}),
        ("/adapters", {"name": "no-weights", "src": str(broken)}),
    ):
        refused = server.client.post(path, json=body)
        error = refused.json()["error"]
        assert (refused.status_code, error["code"]) == (500, "config_invalid")
        assert error["type"] == "InternalServerError"
        assert "adapter_config.json is not JSON" in error["message"]


# ---- Dynamo's routes -----------------------------------------------------------------------------


def dynamo(server: Any, name: str, does: str) -> Any:
    source = {"uri": str(ADAPTERS / does)}
    return server.client.post("/v1/loras", json={"lora_name": name, "source": source})


def test_dynamos_clients_load_list_and_unload(server: Any) -> None:
    loaded = dynamo(server, "swung", "upper")
    assert loaded.status_code == 200, loaded.text
    number = loaded.json().pop("lora_id")
    assert loaded.json() == {
        "status": "success",
        "message": "LoRA adapter 'swung' loaded successfully",
        "lora_name": "swung",
        "lora_id": number,
    }
    assert says(server, "swung") == does("upper")
    again = dynamo(server, "swung", "vowels")
    assert (again.status_code, again.json()["message"]) == (
        200,
        "LoRA adapter 'swung' already loaded",
    )
    assert says(server, "swung") == does("upper")
    listed = server.client.get("/v1/loras").json()
    assert listed["loras"]["swung"] == number > 0
    assert listed["count"] == len(listed["loras"])
    assert not any("@" in name for name in listed["loras"])
    gone = server.client.delete("/v1/loras/swung")
    assert (gone.status_code, gone.json()["message"]) == (
        200,
        "LoRA adapter 'swung' unloaded successfully",
    )
    assert "swung" not in server.client.get("/v1/loras").json()["loras"]
    assert says(server, "swung")[0] in (404, 410)


def test_what_dynamos_clients_can_not_have_is_said_in_their_words(server: Any) -> None:
    body = {"lora_name": "x", "source": {"uri": str(ADAPTERS / "none")}}
    answers = {
        "nothing there": server.client.post("/v1/loras", json=body),
        "no source": server.client.post("/v1/loras", json={"lora_name": "x"}),
        "no adapter": server.client.delete("/v1/loras/nobody"),
    }
    assert {what: answer.status_code for what, answer in answers.items()} == {
        "nothing there": 404,
        "no source": 422,
        "no adapter": 404,
    }
    for answer in answers.values():
        error = answer.json()
        assert (error["status"], bool(error["message"]), bool(error["code"])) == (
            "error",
            True,
            True,
        )
