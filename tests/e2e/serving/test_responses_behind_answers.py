"""`/v1/responses` in the background: in flight, leased and counted for all of the engine's work."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest

from engine.cache.lease import LeaseContext
from engine.gateway.in_flight import RequestsInFlight
from engine.gateway.middleware import AdapterGateway

pytestmark = [pytest.mark.engine]

COUNT = 'adaptry_requests_total{adapter="upper",outcome="%s"}'


@pytest.fixture
def stored(server: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """As `VLLM_ENABLE_RESPONSES_API_STORE=1` has it, which vLLM reads when it starts."""
    serving = server.server.app.state.openai_serving_responses
    monkeypatch.setattr(serving, "enable_store", True)
    yield server
    assert serving.background_tasks == {}


@contextmanager
def full_slots(server: Any) -> Iterator[None]:
    """Whoever needs a slot waits until the end of the block."""

    async def take(name: str) -> LeaseContext:
        version = await server.server.cache.resolver.resolve(name)
        lease: LeaseContext = server.server.controller.lease(version)
        await lease.acquire()
        return lease

    async def give_back(lease: LeaseContext) -> None:
        lease.release()

    taken = [server.run(take(name)) for name in ("reverse", "double")]
    try:
        yield
    finally:
        for lease in taken:
            server.run(give_back(lease))


def in_flight(server: Any) -> RequestsInFlight:
    middleware = server.server.app.user_middleware
    (found,) = [each.kwargs["in_flight"] for each in middleware if each.cls is AdapterGateway]
    assert isinstance(found, RequestsInFlight)
    return found


def begin(server: Any, tokens: int, **options: Any) -> str:
    body = {"model": "upper", "input": "hello", "background": True, "max_output_tokens": tokens}
    response = server.client.post("/v1/responses", json={**body, **options})
    assert response.status_code == 200, response.text
    assert response.json()["status"] == "queued"
    return str(response.json()["id"])


def until(is_so: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not is_so():
        assert time.monotonic() < end
        time.sleep(0.01)


def leases(server: Any) -> int:
    return sum(each["leases"] for each in server.client.get("/api/v1/cache").json()["host"])


def status(server: Any, response_id: str) -> str:
    return str(server.client.get(f"/v1/responses/{response_id}").json()["status"])


def cancel(server: Any, response_id: str) -> None:
    cancelled = server.client.post(f"/v1/responses/{response_id}/cancel")
    assert (cancelled.status_code, cancelled.json()["status"]) == (200, "cancelled")
    until(lambda: not in_flight(server).has_any())
    assert status(server, response_id) == "cancelled"


def force_out(server: Any) -> None:
    body = {"reference": "upper:1", "force": True}
    assert server.client.post("/api/v1/cache/evict", json=body).status_code == 200


def test_what_is_forced_out_has_failed(stored: Any) -> None:
    """vLLM would store what there is as `completed`."""
    before = stored.metrics().get(COUNT % "failed", 0)
    response_id = begin(stored, 200, ignore_eos=True)
    until(lambda: leases(stored) == 1)
    force_out(stored)
    until(lambda: not in_flight(stored).has_any())
    assert status(stored, response_id) == "failed"
    assert stored.metrics()[COUNT % "failed"] == before + 1


def test_a_whole_response_that_is_forced_out_is_refused_and_not_stored(stored: Any) -> None:
    body = {"model": "upper", "input": "hello", "ignore_eos": True, "max_output_tokens": 200}
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(stored.client.post, "/v1/responses", json={**body, "request_id": "r"})
        until(lambda: leases(stored) == 1)
        force_out(stored)
        answer = asked.result()
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "adapter_forced_out")
    assert stored.client.get("/v1/responses/r").status_code == 404


def test_it_is_in_flight_until_its_work_ends_and_then_counted(stored: Any) -> None:
    before = stored.metrics().get(COUNT % "completed", 0)
    with full_slots(stored):
        response_id = begin(stored, 8)
        assert in_flight(stored).has_any()
        assert stored.metrics().get(COUNT % "completed", 0) == before
    until(lambda: not in_flight(stored).has_any())
    assert status(stored, response_id) == "completed"
    assert stored.metrics()[COUNT % "completed"] == before + 1
    until(lambda: leases(stored) == 0)


def test_to_cancel_it_ends_its_wait_or_its_work(stored: Any) -> None:
    before = stored.metrics().get(COUNT % "cancelled", 0)
    with full_slots(stored):
        cancel(stored, begin(stored, 8))
    cancel(stored, begin(stored, 200, ignore_eos=True))
    assert stored.metrics()[COUNT % "cancelled"] == before + 2
    until(lambda: leases(stored) == 0)


def test_its_events_end_with_its_work(stored: Any) -> None:
    body = {"model": "upper", "input": "hello", "background": True, "stream": True}
    with stored.client.stream("POST", "/v1/responses", json=body) as response:
        assert response.status_code == 200
        assert response.headers["x-adaptry-version"] == "upper:1"
        text = response.read().decode()
    assert "event: response.completed" in text
    until(lambda: not in_flight(stored).has_any())
