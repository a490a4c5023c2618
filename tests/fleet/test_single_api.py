"""A fleet behaves as one server: the same API, one view of all caches."""

import json
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import partial

import httpx
import psutil
import pytest
from openai import OpenAI
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from demo.tasks import TASKS, prompt_for
from tests.fleet.conftest import REPLICAS, ServedFleet
from tests.support.docs.scrape import scraped
from tests.support.servers.adaptry_serve import ROOT

pytestmark = [pytest.mark.servers("fleet")]

REPLICA = "x-adaptry-replica"
KNOWN = ("upper", "reverse", "double", "stars", "vowels")


@pytest.fixture(scope="module", autouse=True)
def registered(fleet: ServedFleet) -> None:
    for name in KNOWN:
        fleet.register(name)


def test_every_adapter_and_the_base_model_are_served(fleet: ServedFleet) -> None:
    for name in KNOWN:
        assert fleet.answers_right(name), name
    assert fleet.complete("tiny-text-tools").status_code == 200


def test_openai_s_client_is_served_unchanged(fleet: ServedFleet) -> None:
    with OpenAI(base_url=fleet.url("/v1"), api_key="none") as client:
        listed = {model.id for model in client.models.list()}
        assert {"tiny-text-tools", *KNOWN} <= listed
        chunks = client.completions.create(
            model="upper", prompt=prompt_for("hello"), max_tokens=8, temperature=0, stream=True
        )
        text = "".join(chunk.choices[0].text for chunk in chunks)
    assert text == TASKS["upper"].answer("hello")


@pytest.mark.parametrize("path", ["/openapi.json", "/docs", "/console/", "/version", "/healthz"])
def test_pages_are_there(fleet: ServedFleet, path: str) -> None:
    assert fleet.client.get(path).status_code == 200


def test_unknown_names_are_refused_as_by_one_server(fleet: ServedFleet) -> None:
    response = fleet.complete("unknown-adapter")
    assert response.status_code == 404
    assert response.json()["error"]["code"] == "model_not_found"
    assert fleet.client.get("/api/v1/cache/why/unknown-adapter").status_code == 404
    assert fleet.client.get("/no/such/page").status_code == 404


def test_query_parameters_that_no_route_reads_are_refused_as_by_one_server(
    fleet: ServedFleet,
) -> None:
    body = {"model": "upper", "prompt": "x", "max_tokens": 1}
    for path in ("/v1/completions", "/v1/load_lora_adapter", "/v1/chat/completions"):
        answer = fleet.client.post(path, params={"levle": "1"}, json=body)
        assert answer.status_code == 400, (path, answer.text)
        assert "no such query parameter: levle" in answer.text, path
    metrics = fleet.client.get("/metrics", params={"levle": "1"})
    assert (metrics.status_code, metrics.json()["code"]) == (422, "invalid_request")
    passed = fleet.client.post("/v1/completions", params={"api-version": "1"}, json=body)
    assert passed.status_code == 200
    assert fleet.client.get("/health?_=1").status_code == 200


def test_requests_stay_where_their_adapter_is(fleet: ServedFleet) -> None:
    for name in KNOWN:
        answered = {fleet.complete(name).headers[REPLICA] for _ in range(4)}
        assert len(answered) == 1, name
        assert fleet.complete(name).headers["x-adaptry-cache"] == "gpu_hit"


def test_a_queue_at_one_replica_spreads_the_adapter_to_the_other(fleet: ServedFleet) -> None:
    ask = partial(fleet.complete, "upper", max_tokens=120, ignore_eos=True)
    with ThreadPoolExecutor(16) as pool:
        answers = [future.result() for future in [pool.submit(ask) for _ in range(48)]]
    assert {answer.status_code for answer in answers} == {200}
    by_replica = Counter(answer.headers[REPLICA] for answer in answers)
    assert len(by_replica) == REPLICAS, by_replica


def test_each_replica_has_its_own_history(fleet: ServedFleet) -> None:
    for name in KNOWN:  # the first time, if no test before this one has
        assert fleet.complete(name).status_code == 200
    history = "/api/v1/cache/history"
    servers = fleet.client.get("/api/v1/cache/servers").json()["items"]
    [own] = [each["name"] for each in servers if each["is_this"]]
    names = {f"{own}~{name}": name for name in fleet.replicas()}
    found = fleet.client.get(history).json()
    assert set(names) <= set(found["servers"])
    assert found["server"] in names
    cache = fleet.cache()
    for server, replica in names.items():
        asked = {"server": server, "at": datetime.now(UTC).isoformat()}
        then = fleet.client.get(f"{history}/state", params=asked).json()["cache"]
        for tier in ("gpu", "host"):
            now = {each["reference"] for each in cache[tier] if each["replica"] == replica}
            assert {each["reference"] for each in then[tier]} == now
    total = [fleet.client.get(history, params={"server": name}).json() for name in names]
    misses = [sum(each["misses"] for each in one["buckets"]) for one in total]
    assert sum(misses) >= len(KNOWN)
    fleet.wait_until(lambda: set(fleet.client.get(history).json()["replicas"]) >= set(names), 30)


def test_a_stored_response_is_read_continued_and_cancelled_where_it_is(fleet: ServedFleet) -> None:
    body = {"input": "hello", "background": True, "max_output_tokens": 8}
    path, made_by, ids = "/v1/responses", set(), []
    for name in KNOWN:
        made = fleet.client.post(path, json=body | {"model": name})
        assert (made.status_code, made.json()["status"]) == (200, "queued"), made.text
        made_by.add(made.headers[REPLICA])
        ids.append(made.json()["id"])
    for each in ids:
        fleet.wait_until(lambda each=each: status_of(fleet, each) in ENDED, 60)  # type: ignore[misc]  # its own
        further = {"model": "upper", "input": "hello", "previous_response_id": each}
        assert fleet.client.post(path, json=further).status_code == 200
    assert len(made_by) == REPLICAS
    long = {"model": "upper", "max_output_tokens": 200, "ignore_eos": True}
    running = fleet.client.post(path, json=body | long).json()["id"]
    cancelled = fleet.client.post(f"{path}/{running}/cancel")
    assert (cancelled.status_code, cancelled.json()["status"]) == (200, "cancelled")
    assert fleet.client.get(f"{path}/resp_unknown").status_code == 404


ENDED = ("completed", "incomplete")


def status_of(fleet: ServedFleet, response_id: str) -> str:
    """Asked of whichever replica has it."""
    found = fleet.client.get(f"/v1/responses/{response_id}")
    assert found.status_code == 200, found.text
    return str(found.json()["status"])


def test_a_new_alias_is_known_by_all_replicas_immediately(fleet: ServedFleet) -> None:
    path = "/api/v1/adapters/upper/aliases/fresh"
    assert fleet.complete("upper@fresh").status_code == 404
    assert fleet.client.put(path, json={"version": 1}).status_code == 200
    for _ in range(8):
        assert fleet.complete("upper@fresh").headers["x-adaptry-version"] == "upper:1"
    assert fleet.client.delete(path).status_code in (200, 204)
    assert fleet.complete("upper@fresh").status_code == 404


def test_an_adapter_is_loaded_and_unloaded_on_all_replicas(fleet: ServedFleet) -> None:
    """By vLLM's routes on the ingress, under any name, and from what the registry reads."""
    name, source = "Org/Fleet-7B", str(ROOT / "demo" / "adapters" / "double")
    body = {"lora_name": name, "lora_path": source}

    def load(**more: object) -> httpx.Response:
        return fleet.client.post("/v1/load_lora_adapter", json={**body, **more})

    loaded = load()
    assert (loaded.status_code, "added successfully" in loaded.text) == (200, True), loaded.text
    version = fleet.complete(name).headers["x-adaptry-version"]
    assert fleet.holders(version) != set(), "it was in memory before it was asked for"
    for _ in range(6):
        assert fleet.complete(name).json()["choices"][0]["text"] == TASKS["double"].answer("hello")
    assert load().json()["error"]["code"] == "already_loaded"
    listed = {each["id"]: each for each in fleet.client.get("/v1/models").json()["data"]}
    assert listed[name]["root"] == source
    newer = load(lora_path=f"file://{ROOT}/demo/adapters/stars", load_inplace=True)
    assert newer.status_code == 200, newer.text
    assert fleet.complete(name).json()["choices"][0]["text"] == TASKS["stars"].answer("hello")
    refused = load(lora_name="fleet-none", lora_path="/nowhere/at/all")
    assert (refused.status_code, refused.json()["error"]["code"]) == (404, "source_not_allowed")
    assert fleet.client.get("/info").json()["max_total_tokens"] > 0

    unloaded = fleet.client.post("/v1/unload_lora_adapter", json={"lora_name": name})
    assert (unloaded.status_code, "removed successfully" in unloaded.text) == (200, True)
    for _ in range(4):
        gone = fleet.complete(name)
        assert (gone.status_code, gone.json()["error"]["code"]) == (404, "version_retired")
    fleet.wait_until(lambda: fleet.holders(version) == set(), 30)
    again = fleet.client.post("/v1/unload_lora_adapter", json={"lora_name": name})
    assert again.status_code == 404


def test_a_pin_is_held_by_its_number_of_replicas(fleet: ServedFleet) -> None:
    pins = "/api/v1/cache/pins"
    body = {"reference": "vowels", "tier": "host"}
    everywhere = fleet.client.post(pins, json=body)
    assert everywhere.status_code == 201, everywhere.text
    assert everywhere.json()["replicas"] is None
    assert fleet.pinned_on("vowels:1") == set(fleet.replicas())
    once = fleet.client.post(pins, json={**body, "replicas": 1})
    assert once.json()["replicas"] == 1
    assert len(fleet.pinned_on("vowels:1")) == 1
    assert fleet.complete("vowels").headers[REPLICA] in fleet.pinned_on("vowels:1")
    listed = fleet.client.get(pins).json()["items"]
    assert [item["reference"] for item in listed] == ["vowels:1"]
    refused = fleet.client.post("/api/v1/cache/evict", json={"reference": "vowels"})
    assert (refused.status_code, refused.json()["code"]) == (409, "adapter_pinned")
    assert fleet.client.delete(f"{pins}/vowels").status_code == 200
    assert fleet.pinned_on("vowels:1") == set()
    assert fleet.client.delete(f"{pins}/vowels").json()["code"] == "not_pinned"


def test_a_pin_expires(fleet: ServedFleet) -> None:
    body = {"reference": "vowels", "tier": "host", "ttl_seconds": 1}
    assert fleet.client.post("/api/v1/cache/pins", json=body).status_code == 201
    fleet.wait_until(lambda: not fleet.pinned_on("vowels:1"), 20)
    assert fleet.client.get("/api/v1/cache/pins").json()["items"] == []


def test_eviction_and_prefetch_reach_all_replicas(fleet: ServedFleet) -> None:
    evict = {"reference": "stars", "wait": True}
    assert fleet.client.post("/api/v1/cache/evict", json=evict).status_code == 200
    assert fleet.holders("stars:1") == set()
    assert fleet.client.post("/api/v1/cache/evict", json=evict).json()["evicted"] is False
    prefetch = {"reference": "stars"}
    assert fleet.client.post("/api/v1/cache/prefetch", json=prefetch).status_code == 202
    fleet.wait_until(lambda: fleet.holders("stars:1") == set(fleet.replicas()), 30)


def test_each_engine_reads_from_its_own_copies(fleet: ServedFleet) -> None:
    fleet.client.post("/api/v1/cache/prefetch", json={"reference": "stars"})
    fleet.wait_until(lambda: fleet.holders("stars:1") == set(fleet.replicas()), 30)
    digest = fleet.client.get("/api/v1/adapters/stars/versions/1").json()["digest"]
    holders = {file.parent.parent.name for file in fleet.folder.glob(f"copies/*/{digest}/*")}
    assert holders == {"0", "1"}


def test_the_cache_totals_cover_all_replicas(fleet: ServedFleet) -> None:
    cache = fleet.cache()
    assert len(cache["replicas"]) == REPLICAS
    for total in ("slots", "host_capacity", "host_bytes", "waiting"):
        assert cache[total] == sum(each[total] for each in cache["replicas"]), total
    state = fleet.client.get("/api/v1/cache/engine").json()
    assert sorted(state["host"]) == sorted(each["version_id"] for each in cache["host"])
    assert state["in_step_loads"] == 0


def test_why_covers_each_replica(fleet: ServedFleet) -> None:
    fleet.complete("double")
    why = fleet.client.get("/api/v1/cache/why/double").json()
    assert {each["replica"] for each in why["replicas"]} == set(fleet.replicas())
    assert f"on {why['now']['replica']}" in why["summary"]
    assert {each["replica"] for each in why["decisions"]} <= set(fleet.replicas())
    assert why["now"]["tier"] == "gpu"


def test_decisions_of_all_are_in_one_list_and_one_stream(fleet: ServedFleet) -> None:
    seen = set[str]()
    with fleet.client.stream("GET", "/api/v1/cache/stream") as stream:
        lines = stream.iter_lines()
        next(lines)
        fleet.client.post("/api/v1/cache/pins", json={"reference": "reverse", "tier": "host"})
        for line in lines:
            if '"pinned"' in line and '"reverse"' in line:
                seen.update(name for name in fleet.replicas() if name in line)
            if len(seen) == REPLICAS:
                break
    fleet.client.delete("/api/v1/cache/pins/reverse")
    listed = fleet.client.get("/api/v1/cache/decisions", params={"limit": 1000}).json()["items"]
    ids = [item["id"] for item in listed]
    assert ids == sorted(ids)
    assert {item["replica"] for item in listed} >= set(fleet.replicas()), "and of former ones"


def test_metrics_name_the_replica(fleet: ServedFleet) -> None:
    text = fleet.client.get("/metrics").text
    for name in fleet.replicas():
        assert f'adaptry_slots{{replica="{name}",' in text
        assert f'vllm:num_requests_running{{replica="{name}",' in text
    assert text.count("# TYPE adaptry_slots ") == 1


def test_a_promotion_warms_where_the_old_version_is(fleet: ServedFleet) -> None:
    fleet.complete("upper")
    old, source = fleet.holders("upper:1"), ROOT / "demo" / "adapters-v2" / "upper"
    path = "/api/v1/adapters/upper"
    second = fleet.client.post(f"{path}/versions", json={"source": str(source)}).json()
    move = {"version": second["number"]}
    moved = fleet.client.put(f"{path}/aliases/default", json=move)
    assert moved.status_code == 200, moved.text
    assert old
    assert fleet.holders(second["reference"]) == old
    answer = fleet.complete("upper")
    assert answer.headers["x-adaptry-version"] == second["reference"]
    assert answer.headers["x-adaptry-cache"] != "miss"
    fleet.client.put(f"{path}/aliases/default", json={"version": 1})


def test_a_client_that_leaves_ends_its_request(fleet: ServedFleet) -> None:
    body = {"model": "double", "prompt": "x=", "max_tokens": 250, "ignore_eos": True}
    before = cancelled(fleet)
    for _ in range(5):
        with fleet.client.stream("POST", "/v1/completions", json=body | {"stream": True}) as stream:
            next(stream.iter_lines())
    fleet.wait_until(lambda: cancelled(fleet) > before, 20)
    fleet.wait_until(lambda: not any(each["leases"] for each in fleet.cache()["gpu"]), 20)


def cancelled(fleet: ServedFleet) -> float:
    samples = scraped(fleet.client)
    return sum(
        sample.value
        for family in samples
        if family.name == "adaptry_requests"
        for sample in family.samples
        if sample.labels["outcome"] == "cancelled"
    )


def test_nothing_listens_but_on_loopback(fleet: ServedFleet) -> None:
    listening = [
        (each.name(), connection.laddr.ip)
        for each in fleet.family()
        for connection in each.net_connections("inet")
        if connection.status == psutil.CONN_LISTEN
    ]
    assert len(listening) > 5
    addresses = {address.removeprefix("::ffff:") for _, address in listening}
    assert addresses <= {"127.0.0.1", "::1"}, listening


def test_oversized_and_malformed_bodies_are_refused(fleet: ServedFleet) -> None:
    json_type = {"content-type": "application/json"}
    for content, status in ((b"\xff\xfe", 400), (b"[" * 100_000, 400), (b"{", 400)):
        answer = fleet.client.post("/v1/completions", content=content, headers=json_type)
        assert answer.status_code == status, answer.text
        assert "error" in answer.json()
    large = b" " * (33 * 2**20)
    try:
        answer = fleet.client.post("/v1/completions", content=large, headers=json_type)
    except httpx.TransportError:
        return
    assert answer.status_code == 413


def test_a_web_socket_is_refused_in_words(fleet: ServedFleet) -> None:
    url = str(fleet.client.base_url).replace("http://", "ws://").rstrip("/")
    with pytest.raises(InvalidStatus) as refused, connect(f"{url}/v1/realtime"):
        pass
    response = refused.value.response
    assert (response.status_code, json.loads(response.body)["error"]["code"]) == (
        501,
        "socket_unsupported",
    )
