"""Cache over HTTP on the real engine: counted by hand, and compared with vLLM's own state."""

import os
import shutil
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from demo.tasks import TASKS, prompt_for

pytestmark = [pytest.mark.engine]

ROOT = Path(__file__).resolve().parents[3]
A, B, C, D, E, F = sorted(TASKS)

LOOKUPS = 'adaptry_cache_lookups_total{{result="{result}",tier="{tier}"}}'
EVICTIONS = 'adaptry_cache_evictions_total{{reason="{reason}",tier="{tier}"}}'
LOADS = 'adaptry_load_seconds_count{{transition="{transition}"}}'
MISSES = 'adaptry_cache_misses_total{{cause="{cause}"}}'
REQUESTS = 'adaptry_requests_total{{adapter="{adapter}",outcome="{outcome}"}}'
SLOTS = 'adaptry_slots{{state="{state}"}}'


class Counted:
    """How much the counters grew since it was created."""

    def __init__(self, server: Any) -> None:
        self._server = server
        self._before = server.metrics()

    def __call__(self, sample: str, **labels: str) -> float:
        name = sample.format(**labels)
        now = self._server.metrics()
        assert name in now, f"{name} is not on /metrics"
        return float(now[name] - self._before.get(name, 0.0))


def outcome(server: Any, model: str) -> str:
    response = server.complete(model, prompt_for("hello"))
    assert response.status_code == 200, response.text
    return str(response.headers["x-adaptry-cache"])


def references(residents: list[dict[str, Any]]) -> list[str]:
    return [resident["reference"].partition(":")[0] for resident in residents]


def assert_agrees_with_the_engine(server: Any) -> None:
    """The controller's state is vLLM's own."""
    cache = server.client.get("/api/v1/cache").json()
    state = server.client.get("/api/v1/cache/engine").json()
    assert {r["version_id"] for r in cache["gpu"]} == set(state["gpu"])
    assert {r["version_id"] for r in cache["host"]} == set(state["host"])
    assert state["in_step_loads"] == 0
    listed = server.run(server.server.engine.list_loras())
    assert set(listed) == set(state["host"]), "vLLM's own list_loras"


def wait_until(condition: Any, seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


def test_the_counters_of_a_scripted_sequence_equal_the_hand_count(server: Any) -> None:
    """Two slots, four host places.

    step   found   slots after   host after (least recently used first)
    A      miss    A             A
    A      hit     A             A
    B      miss    A B           A B
    C      miss    B C           A B C          A leaves its slot
    A      host    C A           B C A          B leaves its slot
    D      miss    A D           B C A D        C leaves its slot
    E      miss    D E           C A D E        B leaves host memory, A its slot
    B      miss    E B           A D E B        C leaves host memory, D its slot
    """
    counted = Counted(server)
    found = [outcome(server, name) for name in (A, A, B, C, A, D, E, B)]
    assert found == ["miss", "gpu_hit", "miss", "miss", "host_hit", "miss", "miss", "miss"]
    cache = server.client.get("/api/v1/cache").json()
    assert references(cache["gpu"]) == [E, B]
    assert references(cache["host"]) == [A, D, E, B]
    assert counted(LOOKUPS, tier="gpu", result="hit") == 1
    assert counted(LOOKUPS, tier="gpu", result="miss") == 7
    assert counted(LOOKUPS, tier="host", result="hit") == 1
    assert counted(LOOKUPS, tier="host", result="miss") == 6
    assert counted(LOADS, transition="disk_to_host") == 6
    assert counted(LOADS, transition="host_to_gpu") == 7
    assert counted(EVICTIONS, tier="gpu", reason="capacity") == 5
    assert counted(EVICTIONS, tier="host", reason="capacity") == 2
    assert counted(EVICTIONS, tier="gpu", reason="host_evicted") == 0
    causes = {cause: counted(MISSES, cause=cause) for cause in ("cold", "evicted", "new_version")}
    assert sum(causes.values()) == 6
    assert causes["evicted"] >= 1, "B at least was here before"
    requests = 'adaptry_requests_total{{adapter="{adapter}",outcome="completed"}}'
    assert counted(requests, adapter=A) == 3
    assert counted(requests, adapter=B) == 2
    now = server.metrics()
    assert now[SLOTS.format(state="idle")] == 2
    assert now[SLOTS.format(state="leased")] == 0
    assert now['adaptry_resident{tier="host"}'] == 4
    assert now["adaptry_in_step_loads_total"] == 0
    assert counted("adaptry_drift_total") == 0
    assert_agrees_with_the_engine(server)


def test_a_pinned_adapter_stays_until_it_is_unpinned(server: Any) -> None:
    pin = server.client.post("/api/v1/cache/pins", json={"reference": A, "tier": "gpu"})
    assert pin.status_code == 201
    assert server.metrics()[SLOTS.format(state="pinned")] == 1
    assert server.metrics()['adaptry_pins{tier="gpu"}'] == 1
    for name in (B, C, D, E, F):
        outcome(server, name)
    assert outcome(server, A) == "gpu_hit"
    unpin = server.client.delete(f"/api/v1/cache/pins/{A}")
    assert unpin.json()["tier"] == "gpu"
    for name in (B, C):
        outcome(server, name)
    assert outcome(server, A) == "host_hit"
    assert_agrees_with_the_engine(server)


def test_pinning_every_slot_is_refused_and_harms_no_request(server: Any) -> None:
    assert server.client.post("/api/v1/cache/pins", json={"reference": A}).status_code == 201
    refused = server.client.post("/api/v1/cache/pins", json={"reference": B})
    assert refused.status_code == 409
    assert refused.headers["content-type"] == "application/problem+json"
    assert refused.json()["code"] == "pin_budget_exceeded"
    assert outcome(server, B) in ("miss", "host_hit")
    assert outcome(server, C) in ("miss", "host_hit")
    again = server.client.delete(f"/api/v1/cache/pins/{B}")
    assert again.status_code == 404
    assert again.json()["code"] == "not_pinned"


def test_prefetch_and_evict(server: Any) -> None:
    prefetch = server.client.post("/api/v1/cache/prefetch", json={"reference": A})
    assert prefetch.status_code == 202

    def in_host() -> bool:
        cache = server.client.get("/api/v1/cache").json()
        return references(cache["host"]) == [A] and not cache["loading"]

    wait_until(in_host)
    assert server.client.get("/api/v1/cache").json()["gpu"] == []
    assert outcome(server, A) == "host_hit"
    evicted = server.client.post("/api/v1/cache/evict", json={"reference": A})
    assert evicted.json() == {"reference": f"{A}:1", "evicted": True}
    again = server.client.post("/api/v1/cache/evict", json={"reference": A})
    assert again.json()["evicted"] is False
    assert outcome(server, A) == "miss"
    assert_agrees_with_the_engine(server)


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "code"),
    [
        ("POST", "/pins", {"reference": "nobody"}, 404, "unknown_adapter"),
        ("POST", "/pins", {"reference": "No/Way"}, 400, "invalid_reference"),
        ("POST", "/pins", {"reference": A, "tier": "disk"}, 422, "invalid_request"),
        ("POST", "/pins", {}, 422, "invalid_request"),
        ("DELETE", f"/pins/{A}", None, 404, "not_pinned"),
        ("POST", "/prefetch", {"reference": f"{A}:99"}, 404, "unknown_version"),
        ("POST", "/evict", {"reference": f"{A}@beta"}, 404, "unknown_alias"),
    ],
)
def test_refusals(
    server: Any, method: str, path: str, body: object, status: int, code: str
) -> None:
    response = server.client.request(method, f"/api/v1/cache{path}", json=body)
    assert response.status_code == status, response.text
    assert response.json()["code"] == code


def test_a_pin_expires(server: Any) -> None:
    body = {"reference": A, "tier": "host", "ttl_seconds": 0.5}
    pinned = server.client.post("/api/v1/cache/pins", json=body)
    assert pinned.status_code == 201
    expires_at = pinned.json()["expires_at"]
    pins = server.client.get("/api/v1/cache/pins").json()["items"]
    kept = {"reference": f"{A}:1", "tier": "host", "expires_at": expires_at, "replicas": None}
    assert pins == [kept]
    busy = server.client.post("/api/v1/cache/evict", json={"reference": A})
    assert busy.json()["code"] == "adapter_pinned"
    wait_until(lambda: not server.client.get("/api/v1/cache/pins").json()["items"])
    evicted = server.client.post("/api/v1/cache/evict", json={"reference": A})
    assert evicted.json()["evicted"] is True


def test_an_eviction_can_wait_for_the_last_lease(server: Any) -> None:
    with ThreadPoolExecutor(2) as pool, streaming(server, A) as response:
        lines = response.iter_lines()
        assert next(lines).startswith("data: ")
        body = {"reference": A, "wait": True}
        evicting = pool.submit(server.client.post, "/api/v1/cache/evict", json=body)
        wait_until(lambda: leaving(server) == [A])
        later = pool.submit(outcome, server, A)
        wait_until(lambda: server.metrics()["adaptry_queue_depth"] == 1)
        assert not evicting.done()
        rest = list(lines)
        assert rest[-2] == "data: [DONE]", "the request that held it came to its end"
        assert evicting.result(10).json() == {"reference": f"{A}:1", "evicted": True}
        assert later.result(10) == "miss", "it came while the adapter was leaving"
    assert_agrees_with_the_engine(server)


def test_an_eviction_by_force_ends_the_requests_that_hold_it(server: Any) -> None:
    count = Counted(server)
    with streaming(server, A) as response:
        lines = response.iter_lines()
        assert next(lines).startswith("data: ")
        body = {"reference": A, "force": True}
        evicted = server.client.post("/api/v1/cache/evict", json=body)
        assert evicted.json() == {"reference": f"{A}:1", "evicted": True}
        rest = [line for line in lines if line]
        assert rest[-1] == "data: [DONE]"
        assert '"finish_reason":"abort"' in rest[-2]
    assert leases(server) == 0
    assert {each: count(REQUESTS, adapter=A, outcome=each) for each in ("completed", "failed")} == {
        "completed": 0,
        "failed": 1,
    }
    assert outcome(server, A) == "miss"
    assert_agrees_with_the_engine(server)


def leaving(server: Any) -> list[str]:
    host = server.client.get("/api/v1/cache").json()["host"]
    return references([resident for resident in host if resident["leaving"]])


# ---- leases end with their request, however that ends -------------------------------------


def leases(server: Any) -> int:
    return int(server.metrics()["adaptry_leases"])


@contextmanager
def streaming(server: Any, model: str) -> Iterator[httpx.Response]:
    """A stream that would continue for a while."""
    body = {
        "model": model,
        "prompt": "a" * 20,
        "max_tokens": 200,
        "ignore_eos": True,
        "stream": True,
    }
    with server.client.stream("POST", "/v1/completions", json=body) as response:
        yield response


def test_a_client_that_leaves_mid_stream_releases_its_lease(server: Any) -> None:
    with streaming(server, A) as response:
        lines = response.iter_lines()
        assert next(lines).startswith("data: ")
        assert leases(server) == 1
        busy = server.client.post("/api/v1/cache/evict", json={"reference": A})
        assert busy.status_code == 409
        assert busy.json()["code"] == "adapter_in_use"
    wait_until(lambda: leases(server) == 0)
    cancelled = f'adaptry_requests_total{{adapter="{A}",outcome="cancelled"}}'
    assert server.metrics()[cancelled] >= 1
    assert outcome(server, A) == "gpu_hit"
    assert_agrees_with_the_engine(server)


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_leaves_before_the_first_byte_leaves_nothing(
    server: Any, stream: bool
) -> None:
    """Both slots are held by streams; the third adapter's client gives up while it waits."""
    with streaming(server, A) as first, streaming(server, B) as second:
        lines = [held.iter_lines() for held in (first, second)]  # dropped, they end the response
        for held in lines:
            next(held)
        body = b'{"model": "%s", "prompt": "x=", "stream": %s}' % (
            C.encode(),
            b"true" if stream else b"false",
        )
        with socket.create_connection(("127.0.0.1", server.client.base_url.port)) as impatient:
            impatient.sendall(
                b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
                b"Content-Length: %d\r\n\r\n%s" % (len(body), body)
            )
            wait_until(lambda: server.metrics()["adaptry_queue_depth"] == 1)
        wait_until(lambda: server.metrics()["adaptry_queue_depth"] == 0)
    wait_until(lambda: leases(server) == 0)
    assert_agrees_with_the_engine(server)


def test_a_request_that_vllm_refuses_leaves_no_lease(server: Any) -> None:
    refused = server.complete(A, "x=", max_tokens=-5)
    assert refused.status_code == 400
    too_long = server.complete(A, "x" * 5000)
    assert too_long.status_code == 400
    assert leases(server) == 0


def test_a_cold_adapter_is_served_while_hot_streams_hold_every_slot(server: Any) -> None:
    """Streams for A and B overlap without a pause; C must be served nevertheless."""
    done = False

    def keep_busy(model: str, delay: float) -> int:
        time.sleep(delay)
        served = 0
        with httpx.Client(base_url=server.base_url, timeout=60) as client:
            while not done:
                body = {"model": model, "prompt": "aaaa", "max_tokens": 60, "ignore_eos": True}
                assert client.post("/v1/completions", json=body).status_code == 200
                served += 1
        return served

    with ThreadPoolExecutor(8) as pool:
        hot = [pool.submit(keep_busy, model, n * 0.1) for n, model in enumerate([A, B] * 3)]
        try:
            wait_until(lambda: leases(server) >= 4)
            assert outcome(server, C) == "miss"
        finally:
            done = True
        assert all(job.result() > 0 for job in hot)
    wait_until(lambda: leases(server) == 0)
    assert_agrees_with_the_engine(server)


# ---- failures ------------------------------------------------------------------------------


def own_adapter(server: Any, name: str) -> Path:
    """Files in the store of a new adapter that does what F does; no other adapter shares them."""
    source = server.state / "sources" / name
    shutil.copytree(ROOT / "demo" / "adapters" / F, source)
    config = source / "adapter_config.json"
    config.write_text(f"{config.read_text()}{' ' * len(name)}")
    version = server.register(name, source)
    (folder,) = server.state.glob(f"store/adapters/*/{version['digest']}")
    assert isinstance(folder, Path)
    return folder


def cut_off(folder: Path) -> None:
    weights = folder / "adapter_model.safetensors"
    weights.chmod(0o644)
    os.truncate(weights, weights.stat().st_size // 2)


def change(folder: Path) -> None:
    """Other content of the same size, as of another version."""
    weights = folder / "adapter_model.safetensors"
    weights.chmod(0o644)
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("damage", [cut_off, change])
def test_damaged_files_fail_their_own_request_and_take_the_version_out_of_service(
    server: Any, damage: Callable[[Path], None], stream: bool
) -> None:
    name = f"{damage.__name__.replace('_', '-')}-{'stream' if stream else 'whole'}"
    failures = Counted(server)
    damage(own_adapter(server, name))
    failed = server.complete(name, prompt_for("hello"), stream=stream)
    assert failed.status_code == 503
    assert failed.json()["error"]["code"] == "adapter_load_failed"
    assert outcome(server, A) == "miss"
    assert failed.headers["retry-after"] == "1"
    cause = {"transition": "disk_to_host", "cause": "files"}
    counted = 'adaptry_load_failures_total{{cause="{cause}",transition="{transition}"}}'
    assert failures(counted, **cause) == 1

    def state() -> str:
        return str(server.client.get(f"/api/v1/adapters/{name}/versions/1").json()["state"])

    wait_until(lambda: state() == "quarantined")
    version = server.client.get(f"/api/v1/adapters/{name}/versions/1").json()
    assert version["state_code"] == "files_damaged"
    again = server.complete(name, prompt_for("hello"))
    assert again.status_code == 409
    assert again.json()["error"]["code"] == "version_quarantined"
    assert failures(counted, **cause) == 1, "there is no second attempt"
    assert_agrees_with_the_engine(server)


def test_a_resident_adapter_needs_no_files(server: Any) -> None:
    folder = own_adapter(server, "resident-without-files")
    assert outcome(server, "resident-without-files") == "miss"
    shutil.rmtree(folder)
    assert outcome(server, "resident-without-files") == "gpu_hit"
    retire = "/api/v1/adapters/resident-without-files/versions/1/retire"  # other tests ask for all
    assert server.client.post(retire, json={"force": True}).status_code == 200
