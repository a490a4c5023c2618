"""Sampling that makes several engine requests of one HTTP request, and unloading under a stream."""

import json
import threading
from typing import Any

import httpx
import pytest

from demo.tasks import TASKS, prompt_for
from tests.conftest import ROOT

pytestmark = [pytest.mark.engine]

ADAPTERS = ROOT / "demo" / "adapters"


def ask(server: Any, model: str, **options: Any) -> httpx.Response:
    body = {"model": model, "prompt": prompt_for("hello"), "max_tokens": 16, "temperature": 0}
    response: httpx.Response = server.client.post("/v1/completions", json=body | options)
    return response


def leased(server: Any) -> int:
    return int(server.client.get("/api/v1/cache").json()["slots_by_state"]["leased"])


@pytest.mark.parametrize("options", [{"n": 2}, {"n": 4, "logprobs": 1}])
def test_the_best_beam_is_the_adapter_s_answer_and_all_share_one_lease(
    server: Any, options: dict[str, Any]
) -> None:
    """Each step of each beam is an engine request of its own."""
    response = ask(server, "rot13", use_beam_search=True, **options)
    assert response.status_code == 200, response.text
    assert response.headers["x-adaptry-version"] == "rot13:1"
    texts = [choice["text"] for choice in response.json()["choices"]]
    assert len(texts) == options["n"]
    assert texts[0] == TASKS["rot13"].answer("hello")
    assert leased(server) == 0


def test_parallel_completions_hold_their_adapter_while_others_are_evicted(server: Any) -> None:
    slots = server.client.get("/api/v1/cache").json()["slots"]
    names = ["upper", "reverse", "rot13", "double", "vowels", "stars"][: slots + 2]
    answers: dict[str, list[httpx.Response]] = {name: [] for name in names}

    def ask_often(name: str) -> None:
        for _ in range(3):
            answers[name].append(ask(server, name, n=3, temperature=0.01, seed=1))

    threads = [threading.Thread(target=ask_often, args=(name,)) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for name, responses in answers.items():
        for response in responses:
            assert response.status_code == 200, response.text
            texts = {choice["text"] for choice in response.json()["choices"]}
            assert texts == {TASKS[name].answer("hello")}, name
    assert leased(server) == 0


def test_an_adapter_that_is_unloaded_under_a_stream_ends_it_in_order(server: Any) -> None:
    """The stream goes on with its version; the next request gets none."""
    loaded = {"lora_name": "short-lived", "lora_path": str(ADAPTERS / "upper")}
    assert server.client.post("/v1/load_lora_adapter", json=loaded).status_code == 200
    body = {"model": "short-lived", "prompt": prompt_for("hello"), "stream": True}
    body |= {"max_tokens": 150, "ignore_eos": True, "temperature": 0}
    with httpx.Client(base_url=server.base_url, timeout=60) as client:
        with client.stream("POST", "/v1/completions", json=body) as stream:
            lines = filter(None, stream.iter_lines())
            first = json.loads(next(lines).removeprefix("data: "))
            unloaded = server.client.post(
                "/v1/unload_lora_adapter", json={"lora_name": "short-lived"}
            )
            assert unloaded.status_code == 200, unloaded.text
            rest = list(lines)
        assert rest[-1] == "data: [DONE]"
        events = [first, *(json.loads(line.removeprefix("data: ")) for line in rest[:-1])]
        reasons = [c["finish_reason"] for event in events for c in event["choices"]]
        assert reasons[-1] == "length"
        assert ask(server, "short-lived").status_code in (404, 410)
    assert leased(server) == 0


@pytest.mark.parametrize("model", ["upper", "tiny-text-tools"])
def test_an_unknown_model_beside_a_known_one_stops_neither(server: Any, model: str) -> None:
    assert ask(server, "no-such-adapter", use_beam_search=True, n=2).status_code == 404
    assert ask(server, model, n=2, temperature=0.5).status_code == 200
