"""A stock `vllm serve` that has our plugin, as the guest of the session's server."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from demo.tasks import TASKS, prompt_for
from registry.inspection.base_identity import BaseIdentity
from tests.conftest import ROOT, START_SECONDS
from tests.support.servers.forked_server import ForkedServer, fork_server
from tests.support.servers.other_base import OTHERS, register_for

pytestmark = [pytest.mark.engine]

ADAPTERS = ROOT / "demo" / "adapters"
FOLLOW_SECONDS = 0.2


@dataclass
class Guest:
    """`files`: where it keeps what it has fetched."""

    http: httpx.Client
    files: Path
    log: Path

    def answer(self, model: str) -> httpx.Response:
        body = {"model": model, "prompt": prompt_for("hello"), "temperature": 0, "max_tokens": 32}
        return self.http.post("/v1/completions", json=body)

    def asks(self, model: str) -> tuple[int, str]:
        """Status, and what was said."""
        response = self.answer(model)
        if response.status_code != 200:
            return response.status_code, str(response.json()["error"]["message"])
        return 200, response.json()["choices"][0]["text"]

    def until(self, holds: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 60
        while not holds():
            assert time.monotonic() < deadline, self.log.read_text()[-3000:]
            time.sleep(0.05)


def does(task: str) -> tuple[int, str]:
    return 200, TASKS[task].answer("hello")


@pytest.fixture(scope="module")
def guest(
    live_server: Any,
    tmp_path_factory: pytest.TempPathFactory,
    unused_tcp_port_factory: Callable[[], int],
) -> Iterator[Guest]:
    folder = tmp_path_factory.mktemp("guest")
    log, files, port = folder / "log", folder / "files", unused_tcp_port_factory()
    command = [
        *(sys.executable, "-m", "vllm.entrypoints.openai.api_server"),
        *("--model", str(ROOT / "demo" / "base"), "--served-model-name", "base"),
        *("--dtype", "float32", "--block-size", "32", "--max-model-len", "256"),
        *("--enable-lora", "--max-loras", "2", "--max-cpu-loras", "4", "--max-lora-rank", "16"),
        *("--enforce-eager", "--kv-cache-memory-bytes", "67108864"),
        *("--host", "127.0.0.1", "--port", str(port)),
    ]
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "1",
        "VLLM_SKIP_MODEL_NAME_VALIDATION": "1",  # the base model would answer for any name
        "ADAPTRY_GUEST_REGISTRY": live_server.base_url,
        "ADAPTRY_GUEST_FILES": str(files),
        "ADAPTRY_GUEST_FOLLOW_SECONDS": str(FOLLOW_SECONDS),
    }
    process = fork_server(command, environment, log, stock=True)
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as http:
            found = Guest(http, files, log)
            _wait_until_ready(found, process)
            yield found
    finally:
        family = psutil.Process(process.pid).children(recursive=True)
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
        for child in psutil.wait_procs(family, 10)[1]:
            child.kill()


def _wait_until_ready(guest: Guest, process: ForkedServer) -> None:
    deadline = time.monotonic() + START_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        try:
            if guest.http.get("/health").status_code == 200:
                return
        except httpx.TransportError:
            time.sleep(0.2)
    pytest.fail(guest.log.read_text()[-3000:])


def publish(server: Any, name: str, task: str) -> dict[str, Any]:
    version: dict[str, Any] = server.register(name, ADAPTERS / task)
    return version


def test_a_name_that_it_does_not_know_is_fetched_and_answers_right(
    guest: Guest, live_server: Any
) -> None:
    version = publish(live_server, "guest-a", "upper")
    for name in ("guest-a", "guest-a@default", "guest-a:1"):
        assert guest.asks(name) == does("upper")
    folder = guest.files / version["digest"]
    assert sorted(file.name for file in folder.iterdir()) == [
        "adapter_config.json",
        "adapter_model.safetensors",
    ]
    kept = [each.name for each in guest.files.iterdir() if each.is_dir()]
    assert kept == [version["digest"]], "fetched once"


def test_an_alias_that_moves_is_followed(guest: Guest, live_server: Any) -> None:
    publish(live_server, "guest-b", "upper")
    assert guest.asks("guest-b") == does("upper")
    second = publish(live_server, "guest-b", "double")
    assert guest.asks("guest-b") == does("upper"), "it means version 1 still"
    aliases = "/api/v1/adapters/guest-b/aliases/default"
    moved = live_server.client.put(aliases, json={"version": second["number"]})
    assert moved.status_code == 200
    guest.until(lambda: guest.asks("guest-b") == does("double"))
    assert guest.answer("guest-b").json()["model"] == "guest-b:2", "vLLM's prefix cache goes by it"
    assert guest.asks("guest-b:1") == does("upper")
    assert live_server.client.post(f"{aliases}/rollback").status_code == 200
    guest.until(lambda: guest.asks("guest-b") == does("upper"))


def test_what_is_retired_is_served_no_more(guest: Guest, live_server: Any) -> None:
    publish(live_server, "guest-c", "stars")
    assert guest.asks("guest-c") == does("stars")
    retired = live_server.client.post(
        "/api/v1/adapters/guest-c/versions/1/retire", json={"force": True}
    )
    assert retired.status_code == 200
    guest.until(lambda: guest.asks("guest-c")[0] == 404)
    restored = live_server.client.post("/api/v1/adapters/guest-c/versions/1/restore", json={})
    assert restored.status_code == 200
    assert guest.asks("guest-c") == does("stars")


@pytest.mark.parametrize("name", ["nobody", "nobody@prod", "guest-a:99", "Not A Name", "base2"])
def test_what_the_registry_does_not_know_is_vllms_404(guest: Guest, name: str) -> None:
    status, message = guest.asks(name)
    assert (status, "does not exist" in message) == (404, True)


def test_the_base_model_answers_as_ever(guest: Guest) -> None:
    assert guest.asks("base")[0] == 200


def test_its_routes_load_and_unload_through_the_registry(guest: Guest, live_server: Any) -> None:
    def load(task: str, **more: Any) -> httpx.Response:
        body = {"lora_name": "Org/Guest-E", "lora_path": str(ADAPTERS / task), **more}
        return guest.http.post("/v1/load_lora_adapter", json=body)

    assert guest.asks("Org/Guest-E")[0] == 404
    loaded = load("upper")
    assert (loaded.status_code, "added successfully" in loaded.text) == (200, True), loaded.text
    assert guest.asks("Org/Guest-E") == does("upper")
    there = live_server.complete("Org/Guest-E", prompt_for("hello"))
    assert there.json()["choices"][0]["text"] == TASKS["upper"].answer("hello")
    again = load("double").json()["error"]
    assert (again["code"], again["reason"]) == (400, "already_loaded")
    assert load("double", load_inplace=True).status_code == 200
    assert guest.asks("Org/Guest-E") == does("double"), "at once"
    missing = guest.http.post(
        "/v1/load_lora_adapter", json={"lora_name": "guest-f", "lora_path": "/nowhere/at/all"}
    )
    assert (missing.status_code, missing.json()["error"]["type"]) == (404, "NotFoundError")
    body = {"lora_name": "Org/Guest-E"}
    unloaded = guest.http.post("/v1/unload_lora_adapter", json=body)
    assert (unloaded.status_code, "removed successfully" in unloaded.text) == (200, True)
    assert guest.asks("Org/Guest-E")[0] == 404, "at once"
    late = guest.http.post("/v1/unload_lora_adapter", json=body)
    said = late.json()["error"]["message"]
    assert (late.status_code, said) == (404, "The lora adapter 'Org/Guest-E' cannot be found.")
    assert live_server.complete("Org/Guest-E", prompt_for("hello")).status_code == 404


def test_what_lies_damaged_on_its_disk_is_fetched_again(guest: Guest, live_server: Any) -> None:
    """As after a restart: what this process has hashed is not hashed again."""
    version = publish(live_server, "guest-d", "vowels")
    folder = guest.files / version["digest"]
    folder.mkdir(parents=True)
    (folder / "adapter_model.safetensors").write_bytes(b"not what was registered")
    assert guest.asks("guest-d") == does("vowels")
    assert (folder / "adapter_model.safetensors").stat().st_size > 1000


@pytest.mark.parametrize("base", OTHERS, ids=["instruct", "revision"])
def test_a_version_of_another_base_model_of_equal_shape_is_refused(
    guest: Guest, live_server: Any, base: BaseIdentity
) -> None:
    name = f"guest-{base.name.partition('@')[0]}"
    state = live_server.state
    url = f"sqlite:///{state}/registry.db"
    registering = register_for(base, name, "reverse", database_url=url, store=state / "store")
    reference = live_server.run(registering)
    for text in (name, reference):
        status, message = guest.asks(text)
        assert (status, "belongs to the base model" in message) == (409, True), message
        refused = live_server.complete(text, prompt_for("hello"))
        assert (refused.status_code, refused.json()["error"]["code"]) == (409, "other_base_model")
    assert not (guest.files / version_of(live_server, name)["digest"]).exists(), "not even fetched"


def version_of(server: Any, name: str) -> dict[str, Any]:
    found: dict[str, Any] = server.client.get(f"/api/v1/adapters/{name}/versions/1").json()
    return found
