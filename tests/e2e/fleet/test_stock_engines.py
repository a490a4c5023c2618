"""`adaptry serve --engines`: our registry, cache and API over a stock vLLM server."""

import asyncio
import json
import shutil
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import httpx
import pytest
from safetensors.torch import load_file, save_file

from adaptry.cli import main
from demo.tasks import TASKS, UPPER_V2, prompt_for
from fleet.stock.client import StockVllm
from registry.inspection.base_identity import BaseIdentity
from tests.support.servers.adaptry_serve import ROOT, ServedDemo, inherited
from tests.support.servers.forked_server import fork_server, import_beside
from tests.support.servers.other_base import OTHERS, register_for
from tests.support.servers.stock_vllm import PLACES, SLOTS, StockServer, stock_vllm

pytestmark = [pytest.mark.servers("forked")]


class Driver(ServedDemo):
    """`adaptry serve` without an engine of its own."""

    stock: StockServer

    def command(self, port: int) -> list[str]:
        return [
            *(sys.executable, "-m", "adaptry", "serve", str(self.base)),
            *("--served-model-name", "base", "--max-lora-rank", "16", "--port", str(port)),
            *("--max-loras", str(SLOTS), "--max-cpu-loras", str(PLACES)),
            *("--engines", self.stock.url),
            *("--database", f"sqlite:///{self.folder}/registry.db"),
            *("--store", f"{self.folder}/store", "--source-root", str(ROOT / "demo")),
        ]


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Driver]:
    folder = tmp_path_factory.mktemp("driver")
    import_beside()
    with stock_vllm(folder) as stock:
        served = Driver(folder, reconcile_seconds="0.5")
        served.stock = stock
        try:
            served.launch()  # it serves before its engine does
            stock.wait()
            served.wait_until(served.is_ready)
            for name in TASKS:
                served.register(name)
            yield served
        finally:
            served.stop()
            served.client.close()


def test_every_adapter_answers_and_is_loaded_there_under_its_version_s_name(
    driver: Driver,
) -> None:
    for name in TASKS:
        answer = driver.complete(name)
        assert answer.status_code == 200, answer.text
        assert answer.json()["choices"][0]["text"] == TASKS[name].answer("hello")
        assert answer.json()["model"] == name
        assert answer.headers["x-adaptry-version"] == f"{name}:1"
        assert answer.headers["x-adaptry-cache"] == "miss"
    assert driver.complete("stars").headers["x-adaptry-cache"] == "gpu_hit"
    there = [name for name in driver.stock.models() if name.startswith("stars:1-")]
    assert len(there) == 1
    assert driver.complete("base").status_code == 200


def test_never_more_are_there_than_there_are_places(driver: Driver) -> None:
    ask = partial(driver.complete, max_tokens=40)
    with ThreadPoolExecutor(12) as pool:
        asked = [pool.submit(ask, name) for _ in range(3) for name in TASKS]
        assert {answer.result().status_code for answer in asked} == {200}
    cache = driver.cache()
    assert len(cache["gpu"]) <= SLOTS
    assert len(cache["host"]) <= PLACES
    there = {name.rpartition("-")[0] for name in driver.stock.models() if ":" in name}
    assert there == {each["reference"] for each in cache["host"]}
    state = driver.client.get("/api/v1/cache/engine").json()
    assert sorted(state["host"]) == sorted(each["version_id"] for each in cache["host"])
    (replica,) = cache["replicas"]
    assert replica["name"] == driver.stock.url.removeprefix("http://")


def test_an_ordinary_load_is_nothing_to_warn_of(
    driver: Driver, capsys: pytest.CaptureFixture[str]
) -> None:
    """The server has only vLLM's own path: no load of it has fallen back."""
    assert driver.complete("upper").status_code == 200
    decisions = driver.client.get("/api/v1/cache/decisions", params={"limit": 1000}).json()["items"]
    kinds = {each["kind"] for each in decisions}
    assert "moved_in" in kinds
    unwanted = {"fell_back", "drifted", "load_failed"}
    assert not [each for each in decisions if each["kind"] in unwanted]
    main(["doctor", "--server", str(driver.client.base_url), "--json"])
    found = {each["check"]: each for each in json.loads(capsys.readouterr().out)}
    assert "slower path" not in found["decisions"]["detail"]


def test_its_history_is_that_of_the_controller_before_it(driver: Driver) -> None:
    for name in ("upper", "reverse", "double"):
        assert driver.complete(name).status_code == 200
    history = "/api/v1/cache/history"
    found = driver.client.get(history).json()
    servers = driver.client.get("/api/v1/cache/servers").json()["items"]
    [fleet] = [each["name"] for each in servers if each["is_this"]]
    assert found["server"] == f"{fleet}~{driver.stock.url.removeprefix('http://')}"
    assert sum(each["misses"] + each["host_hits"] for each in found["buckets"]) > 0
    past = driver.client.get(f"{history}/state", params={"at": datetime.now(UTC).isoformat()})
    then, now = past.json()["cache"], driver.cache()
    for tier in ("gpu", "host"):
        held = {each["reference"] for each in then[tier]}
        assert held == {each["reference"] for each in now[tier]}, tier
    evicted = driver.client.get(f"{history}/decisions", params={"limit": 1000}).json()["items"]
    assert any(each["kind"] == "evicted" and each["for_reference"] for each in evicted)


def test_a_stream_says_the_name_that_was_asked_for(driver: Driver) -> None:
    body = {"model": "upper", "prompt": prompt_for("hello"), "temperature": 0, "stream": True}
    with driver.client.stream("POST", "/v1/completions", json=body | {"max_tokens": 16}) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        lines = [line for line in answer.iter_lines() if line.startswith("data: {")]
    chunks = [json.loads(line.removeprefix("data: ")) for line in lines]
    assert {chunk["model"] for chunk in chunks} == {"upper"}
    text = "".join(chunk["choices"][0]["text"] for chunk in chunks)
    assert text == TASKS["upper"].answer("hello")


def test_pins_promotions_and_probes_work_there_too(driver: Driver) -> None:
    pin = driver.client.post("/api/v1/cache/pins", json={"reference": "upper"})
    assert pin.status_code == 201, pin.text
    second = {"source": str(ROOT / "demo" / "adapters-v2" / "upper")}
    version = driver.client.post("/api/v1/adapters/upper/versions", json=second).json()
    path = "/api/v1/adapters/upper/aliases/default"
    body = {"version": version["number"], "probe": True, "timeout_seconds": 300}
    moved = driver.client.put(path, json=body, timeout=320)
    assert moved.status_code == 200, moved.text
    answer = driver.complete("upper")
    assert answer.json()["choices"][0]["text"] == UPPER_V2.answer("hello")
    assert answer.headers["x-adaptry-version"] == version["reference"]
    assert answer.headers["x-adaptry-cache"] != "miss"
    assert driver.client.put(path, json={"version": 1}).status_code == 200
    assert driver.client.delete("/api/v1/cache/pins/upper:1").status_code == 200


def test_what_is_no_generation_does_not_reach_it(driver: Driver) -> None:
    unknown = driver.complete("nobody-knows-me")
    assert (unknown.status_code, unknown.json()["error"]["code"]) == (404, "model_not_found")
    listed = {model["id"] for model in driver.client.get("/v1/models").json()["data"]}
    assert {"base", *TASKS} <= listed
    assert driver.client.get("/version").status_code == 200


def test_query_parameters_that_no_route_reads_are_refused_as_on_one_server(driver: Driver) -> None:
    body = {"model": "upper", "prompt": "x", "max_tokens": 1}
    for path in ("/v1/completions", "/v1/load_lora_adapter", "/tokenize"):
        answer = driver.client.post(path, params={"levle": "1"}, json=body)
        assert answer.status_code == 400, (path, answer.text)
        assert "no such query parameter: levle" in answer.text, path
    metrics = driver.client.get("/metrics", params={"levle": "1"})
    assert (metrics.status_code, metrics.json()["code"]) == (422, "invalid_request")
    one = driver.client.get("/metrics", params={"name[]": "adaptry_slots"}).text
    named = [line.partition("{")[0] for line in one.splitlines() if not line.startswith("#")]
    assert set(named) == {"adaptry_slots"}
    assert driver.client.get("/health?_=1").status_code == 200
    assert driver.client.get("/console/?utm_source=mail").status_code == 200


def test_vllm_s_clients_load_and_unload_there_too(driver: Driver) -> None:
    """Into our registry, and by our cache into the stock server under the version's own name."""
    load = {"lora_name": "mine", "lora_path": str(ROOT / "demo" / "adapters" / "rot13")}
    loaded = driver.client.post("/v1/load_lora_adapter", json=load)
    assert (loaded.status_code, loaded.text) == (
        200,
        "Success: LoRA adapter 'mine' added successfully.",
    )
    assert "mine" not in driver.stock.models()
    assert [name for name in driver.stock.models() if name.startswith("mine:1-")]
    answer = driver.complete("mine")
    assert answer.json()["choices"][0]["text"] == TASKS["rot13"].answer("hello")
    assert answer.headers["x-adaptry-cache"] != "miss"
    again = driver.client.post("/v1/load_lora_adapter", json=load)
    assert (again.status_code, again.json()["error"]["code"]) == (400, "already_loaded")
    removed = driver.client.delete("/adapters/mine")
    assert (removed.status_code, removed.text) == (200, "Adapter mine unregistered")
    driver.wait_until(
        lambda: not [name for name in driver.stock.models() if name.startswith("mine:")], 20
    )
    assert driver.complete("mine").status_code in (404, 410)
    bad = driver.client.post("/v1/load_lora_adapter", json={"lora_name": "mine"})
    assert (bad.status_code, bad.json()["error"]["code"]) == (400, "invalid_request")


def test_tgis_and_dynamos_clients_are_answered_in_front_of_it(driver: Driver) -> None:
    parameters = {"adapter_id": "reverse", "max_new_tokens": 8, "details": True}
    body: dict[str, object] = {"inputs": "hello=", "parameters": parameters}
    answer = driver.client.post("/generate", json=body)
    assert answer.status_code == 200, answer.text
    assert answer.headers["x-adaptry-version"] == "reverse:1"
    assert answer.json()["generated_text"] == TASKS["reverse"].answer("hello")
    assert answer.json()["details"]["finish_reason"] == "eos_token"
    streamed = driver.client.post("/", json={**body, "stream": True})
    last = json.loads(streamed.text.rstrip().rpartition("data:")[2])
    assert last["generated_text"] == TASKS["reverse"].answer("hello")
    body["parameters"] = {**parameters, "top_n_tokens": 2}
    refused = driver.client.post("/generate", json=body)
    assert (refused.status_code, refused.json()["code"]) == (422, "parameter_unsupported")
    source = {"uri": (ROOT / "demo" / "adapters" / "rot13").as_uri()}
    loaded = driver.client.post("/v1/loras", json={"lora_name": "Swung", "source": source})
    assert (loaded.status_code, loaded.json()["status"]) == (200, "success")
    assert driver.complete("Swung").json()["choices"][0]["text"] == TASKS["rot13"].answer("hello")
    assert "Swung" in driver.client.get("/v1/loras").json()["loras"]
    assert driver.client.delete("/v1/loras/Swung").status_code == 200


@pytest.mark.parametrize("base", OTHERS, ids=["instruct", "revision"])
def test_a_version_of_another_base_model_of_equal_shape_is_refused(
    driver: Driver, base: BaseIdentity
) -> None:
    name = f"other-{base.name.partition('@')[0]}"
    url = f"sqlite:///{driver.folder}/registry.db"
    store = driver.folder / "store"
    reference = asyncio.run(register_for(base, name, "upper", database_url=url, store=store))
    refused = driver.complete(reference)
    assert (refused.status_code, refused.json()["error"]["code"]) == (409, "other_base_model")
    assert not [there for there in driver.stock.models() if there.startswith(name)]


async def test_it_is_seen_whether_a_server_answers_for_any_name(driver: Driver) -> None:
    server = StockVllm(driver.stock.url, None, load_seconds=60, silent_seconds=60)
    assert not await server.takes_any_name()
    await server.close()


def test_a_stock_server_of_another_base_model_gets_no_adapter(
    driver: Driver, tmp_path: Path
) -> None:
    """Of equal name and shape: what it serves is the revision before ours."""
    revision = shutil.copytree(driver.base, tmp_path / "base")
    weights = load_file(revision / "model.safetensors")
    save_file({name: 1.1 * each for name, each in weights.items()}, revision / "model.safetensors")
    other = Driver(tmp_path)
    other.base, other.stock = revision, driver.stock
    before = set(driver.stock.models())
    try:
        other.launch()
        other.wait_until(lambda: answers(other, "/healthz"))
        other.register("upper")
        assert other.complete("upper").status_code == 503
        other.wait_until(lambda: "it gets none of its adapters" in other.log.read_text(), 20)
        assert not other.is_ready()
        assert set(driver.stock.models()) == before, "nor were ours unloaded from it"
    finally:
        other.stop()
        other.client.close()


def answers(served: ServedDemo, path: str) -> bool:
    try:
        return served.client.get(path).status_code == 200
    except httpx.TransportError:
        return False


def cancelled(driver: Driver) -> float:
    lines = driver.client.get("/metrics").text.splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if 'outcome="cancelled"' in line)


def test_a_client_that_leaves_ends_its_lease(driver: Driver) -> None:
    before = cancelled(driver)
    body = {"model": "double", "prompt": "x=", "max_tokens": 200, "ignore_eos": True}
    with driver.client.stream("POST", "/v1/completions", json=body | {"stream": True}) as stream:
        next(stream.iter_lines())
    driver.wait_until(lambda: cancelled(driver) > before, 20)  # and was not answered to its end
    driver.wait_until(lambda: not any(each["leases"] for each in driver.cache()["gpu"]), 20)


def test_a_server_that_dies_is_waited_for_and_filled_again(driver: Driver) -> None:
    driver.complete("upper")
    driver.stock.kill()
    assert driver.complete("upper").json()["error"]["code"] == "engine_unavailable"
    driver.wait_until(lambda: not driver.is_ready(), 20)
    assert driver.client.get("/api/v1/adapters/upper").status_code == 200
    before = driver.residents("host")
    driver.stock.launch()
    driver.stock.wait()
    driver.wait_until(driver.is_ready)
    assert driver.answers_right("upper")
    assert before == set(), "nothing is in a server that has died"
    metrics = driver.client.get("/metrics").text
    assert 'adaptry_engine_ends_total{replica="' in metrics


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--engines", "localhost:8000"], "is no server"),
        (["--engines", "http://127.0.0.1:1", "--replicas", "2"], "--engines or --replicas"),
        (["--engines", "http://127.0.0.1:1", "--api-key", "x"], "ADAPTRY_ENGINE_API_KEY"),
    ],
)
def test_a_mistake_is_one_line(options: list[str], said: str, tmp_path: Path) -> None:
    model = str(ROOT / "demo" / "base")
    command = [sys.executable, "-m", "adaptry", "serve", model, "--port=0", *options]
    log = tmp_path / "log"
    assert fork_server(command, inherited(), log).wait(120) != 0
    (line,) = [line for line in log.read_text().splitlines() if line.startswith("adaptry: ")]
    assert said in line
