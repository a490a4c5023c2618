"""An engine that an operator pauses or puts to sleep by vLLM's own routes."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from demo.tasks import prompt_for
from tests.support.servers.adaptry_serve import ServedDemo

pytestmark = [pytest.mark.servers("forked")]

NAMES = ("upper", "reverse")


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServedDemo]:
    served = ServedDemo(tmp_path_factory.mktemp("suspended"))
    served.variables = {"VLLM_SERVER_DEV_MODE": "1"}  # else vLLM has no such routes
    try:
        served.start()
        for name in NAMES:
            served.register(name)
        yield served
    finally:
        served.client.close()
        served.stop()


@pytest.fixture
def awake(demo: ServedDemo) -> ServedDemo:
    demo.client.post("/resume").raise_for_status()
    assert all(demo.answers_right(name) for name in NAMES)
    return demo


def refused(response: httpx.Response) -> tuple[int, Any]:
    body = response.json()
    return response.status_code, body.get("error", body).get("code")


def generate(demo: ServedDemo, model: str, **options: Any) -> httpx.Response:
    return demo.client.post(
        "/v1/completions", json={"model": model, "prompt": prompt_for("hello"), **options}
    )


def base_model(demo: ServedDemo) -> str:
    models = demo.client.get("/v1/models").json()["data"]
    return next(str(model["id"]) for model in models if not model.get("parent"))


def test_a_paused_engine_refuses_requests_and_goes_on_when_it_is_resumed(awake: ServedDemo) -> None:
    assert awake.client.post("/pause").json() == {"status": "paused"}
    for model in ("upper", base_model(awake)):
        response = generate(awake, model)
        assert refused(response) == (503, "engine_paused"), response.text
        assert int(response.headers["retry-after"]) > 0
    assert not awake.is_ready()
    assert awake.residents("gpu") == set(NAMES)
    awake.client.post("/resume").raise_for_status()
    assert awake.is_ready()
    assert awake.answers_right("upper")


def test_a_pause_ends_what_runs(awake: ServedDemo) -> None:
    body = {"model": "upper", "prompt": prompt_for("x"), "max_tokens": 200, "ignore_eos": True}
    with awake.client.stream("POST", "/v1/completions", json={**body, "stream": True}) as stream:
        lines = stream.iter_lines()
        next(lines)
        httpx.post(awake.url("/pause"), timeout=60).raise_for_status()
        rest = [line for line in lines if line]
    assert rest[-1] == "data: [DONE]"
    assert '"finish_reason":"abort"' in rest[-2] or '"finish_reason":"abort"' in rest[-3]
    awake.wait_until(lambda: awake.cache()["slots_by_state"]["leased"] == 0, 10)


def test_what_has_no_token_yet_is_refused_as_what_comes_later(awake: ServedDemo) -> None:
    """More prompts than run at the same time: some wait."""
    body = {"model": "upper", "prompt": [prompt_for("x")] * 1000, "max_tokens": 200}
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(awake.client.post, "/v1/completions", json={**body, "ignore_eos": True})
        awake.wait_until(lambda: awake.total("vllm:num_requests_waiting") > 0, 60)
        httpx.post(awake.url("/pause"), timeout=60).raise_for_status()
    assert refused(asked.result()) == (503, "engine_paused")


def test_a_stream_of_a_response_says_that_a_pause_has_ended_it(awake: ServedDemo) -> None:
    body = {"model": "upper", "input": "hello", "max_output_tokens": 200, "ignore_eos": True}
    with awake.client.stream("POST", "/v1/responses", json={**body, "stream": True}) as stream:
        lines = stream.iter_lines()
        next(line for line in lines if "output_text.delta" in line)
        httpx.post(awake.url("/pause"), timeout=60).raise_for_status()
        rest = [line for line in lines if line]
    assert rest[-2] == "event: error", rest
    assert '"code": "engine_paused"' in rest[-1]
    assert "Traceback" not in awake.log.read_text()


@pytest.mark.parametrize("wake", ["/wake_up", "/resume"])
def test_a_sleeping_engine_has_no_adapter_and_has_its_pins_again_when_it_is_awake(
    awake: ServedDemo, wake: str
) -> None:
    pin = {"reference": "upper", "tier": "gpu"}
    awake.client.post("/api/v1/cache/pins", json=pin).raise_for_status()
    try:
        response = awake.client.post("/sleep", params={"level": 1})
        assert response.json() == {"status": "sleeping", "level": 1}
        assert not awake.residents("gpu") | awake.residents("host")
        response = generate(awake, "upper")
        assert refused(response) == (503, "engine_asleep"), response.text
        assert not awake.is_ready()
        awake.client.post(wake).raise_for_status()
        awake.wait_until(lambda: "upper" in awake.residents("gpu"), 20)
        assert all(awake.answers_right(name) for name in NAMES)
        assert awake.is_ready()
    finally:
        awake.client.delete("/api/v1/cache/pins/upper")


@pytest.mark.parametrize("how", [{"level": 2}, {"level": 1, "mode": "keep"}])
def test_a_sleep_that_would_leave_something_unsure_is_refused(
    awake: ServedDemo, how: dict[str, Any]
) -> None:
    response = awake.client.post("/sleep", params=how)
    assert refused(response) == (409, "sleep_refused"), response.text
    assert awake.answers_right("upper")


@pytest.mark.parametrize(
    ("route", "body"),
    [
        ("/init_weight_transfer_engine", {"init_info": {}}),
        ("/start_weight_update", None),
        ("/finish_weight_update", {}),
        ("/update_weight_version", {"new_version": "2"}),
        ("/collective_rpc", {"method": "reload_weights"}),
        ("/weight_checker", {"action": "reset"}),
    ],
)
def test_the_base_model_stays_as_it_was_loaded(awake: ServedDemo, route: str, body: Any) -> None:
    response = awake.client.post(route, json=body)
    assert refused(response) == (409, "weight_update_refused"), response.text
    assert awake.answers_right("upper")
