"""Readers of real answers: slow ones, silent ones, those that leave, and those who share an id."""

import json
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from demo.tasks import prompt_for

pytestmark = [pytest.mark.engine]

# About a megabyte: more than sockets and the server's own buffer take
LARGE = {"n": 16, "max_tokens": 100, "logprobs": 20, "stream": True, "ignore_eos": True}


def leased(server: Any) -> int:
    return int(server.client.get("/api/v1/cache").json()["slots_by_state"]["leased"])


def until(condition: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it does not become so"
        time.sleep(0.05)


def idle_socket(server: Any, model: str) -> socket.socket:
    """A client that asks for a large stream and never reads a byte of it."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
    sock.connect(("127.0.0.1", int(server.base_url.rpartition(":")[2])))
    body = json.dumps({"model": model, "prompt": prompt_for("x"), **LARGE}).encode()
    head = [
        "POST /v1/completions HTTP/1.1",
        "Host: x",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
    ]
    sock.sendall("\r\n".join([*head, "", ""]).encode() + body)
    return sock


def test_idle_sockets_keep_no_slot_from_others(server: Any) -> None:
    slots = server.client.get("/api/v1/cache").json()["slots"]
    hot = ["upper", "reverse", "rot13", "double", "vowels", "stars"][:slots]
    sockets = [idle_socket(server, model) for model in hot]
    try:
        until(lambda: leased(server) == len(hot), 20)
        until(lambda: leased(server) == 0)
        cold = next(m for m in ("stars", "vowels", "double", "rot13") if m not in hot)
        answer = server.complete(cold, prompt_for("ab"))
        assert answer.status_code == 200
    finally:
        for sock in sockets:
            sock.close()


def test_a_forced_eviction_ends_while_no_client_reads(server: Any) -> None:
    sock = idle_socket(server, "upper")
    try:
        until(lambda: leased(server) == 1, 20)
        body = {"reference": "upper", "force": True}
        response = server.client.post("/api/v1/cache/evict", json=body, timeout=30)
        assert response.status_code == 200, response.text
        assert leased(server) == 0
    finally:
        sock.close()


def stream_tokens(server: Any, request_id: str, tokens: int, leave_after: int | None) -> list[str]:
    """The finish reasons of one stream; with `leave_after`, the client leaves."""
    body = {"model": "upper", "prompt": prompt_for("x"), "max_tokens": tokens}
    body |= {"stream": True, "ignore_eos": True, "temperature": 0}
    reasons = []
    with (
        httpx.Client(base_url=server.base_url, timeout=60) as client,
        client.stream(
            "POST", "/v1/completions", json=body, headers={"x-request-id": request_id}
        ) as response,
    ):
        assert response.status_code == 200
        for number, line in enumerate(filter(None, response.iter_lines())):
            if number == leave_after:
                return ["left"]
            data = line.removeprefix("data: ")
            if data == "[DONE]":
                break
            part = json.loads(data)
            assert "error" not in part, part
            reasons += [c["finish_reason"] for c in part["choices"] if c["finish_reason"]]
    return reasons


@pytest.mark.parametrize("first_leaves", [True, False])
def test_of_two_requests_with_one_id_each_ends_for_itself(server: Any, first_leaves: bool) -> None:
    ends: dict[bool, list[str]] = {}

    def ask(leaves: bool) -> None:
        ends[leaves] = stream_tokens(server, "one-id", 80, 3 if leaves else None)

    threads = [
        threading.Thread(target=ask, args=(leaves,)) for leaves in (first_leaves, not first_leaves)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert ends == {True: ["left"], False: ["length"]}


def test_a_plain_request_whose_client_leaves_is_cancelled(server: Any) -> None:
    server.complete("upper", prompt_for("x"))
    series = 'adaptry_requests_total{adapter="upper",outcome="%s"}'
    before = server.metrics()
    body = {"model": "upper", "prompt": prompt_for("x"), "max_tokens": 240, "ignore_eos": True}
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(f"{server.base_url}/v1/completions", json=body, timeout=0.5)
    until(lambda: leased(server) == 0)

    def grew(outcome: str) -> float:
        name = series % outcome
        return float(server.metrics().get(name, 0) - before.get(name, 0))

    until(lambda: grew("cancelled") == 1)
    assert grew("completed") == 0


@pytest.mark.parametrize("prompts", [300])
def test_many_prompts_for_a_cold_adapter_are_answered_like_one(server: Any, prompts: int) -> None:
    body = {"model": "stars", "prompt": [prompt_for("ab")] * prompts, "max_tokens": 2}
    response = server.client.post("/v1/completions", json=body, timeout=120)
    assert response.status_code == 200, response.text
    assert response.headers["x-adaptry-cache"] == "miss"
    assert len(response.json()["choices"]) == prompts
