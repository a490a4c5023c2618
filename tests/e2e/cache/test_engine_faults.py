"""Engine faults: killed or hung under traffic, and a server that is restarted."""

import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import httpx
import psutil
import pytest

from demo.tasks import TASKS
from tests.support.servers.adaptry_serve import ServedDemo

pytestmark = [pytest.mark.servers("forked")]

A, B, C, D, E, F = sorted(TASKS)
PAUSE_SECONDS = 0.25  # of a client: without one, refused ones take the cores from the new engine
RETRYABLE = "engine_unavailable"


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServedDemo]:
    demo = ServedDemo(
        tmp_path_factory.mktemp("faults"),
        engine_hang_seconds="10",
        reconcile_seconds="0.5",
        save_residents_seconds="0.2",
    )
    demo.start()
    for name in TASKS:
        demo.register(name)
    try:
        yield demo
    finally:
        demo.stop()
        demo.client.close()


@dataclass
class Traffic:
    """Clients that send one request after the other, and the outcome of each."""

    served: ServedDemo
    right: int = 0
    retryable: int = 0
    cut_off: int = 0  # a stream that ended with an error after its first token
    wrong: list[str] = field(default_factory=list)
    over: threading.Event = field(default_factory=threading.Event)

    def run(self, model: str) -> None:
        with httpx.Client(base_url=self.served.client.base_url, timeout=60) as client:
            while not self.over.is_set():
                self.stream(client, model)
                self.over.wait(PAUSE_SECONDS)
                self.whole(client, model)
                self.over.wait(PAUSE_SECONDS)

    def whole(self, client: httpx.Client, model: str) -> None:
        body = {"model": model, "prompt": "hello=", "max_tokens": 16, "temperature": 0}
        response = client.post("/v1/completions", json=body)
        if response.status_code == 200:
            self.judge(model, response.json()["choices"][0]["text"])
        else:
            self.refused(model, response.status_code, response.json(), response.headers)

    def stream(self, client: httpx.Client, model: str) -> None:
        body = {"model": model, "prompt": "hello=", "max_tokens": 16, "temperature": 0}
        with client.stream("POST", "/v1/completions", json={**body, "stream": True}) as response:
            if response.status_code != 200:
                response.read()
                self.refused(model, response.status_code, response.json(), response.headers)
                return
            lines = [line.removeprefix("data: ") for line in response.iter_lines() if line]
        events = [httpx.Response(200, text=line).json() for line in lines if line != "[DONE]"]
        codes = [event["error"]["code"] for event in events if "error" in event]
        if codes == [RETRYABLE]:
            self.cut_off += 1
            return
        self.judge(model, "".join(event["choices"][0]["text"] for event in events))

    def judge(self, model: str, text: str) -> None:
        if text == TASKS[model].answer("hello"):
            self.right += 1
        else:
            self.wrong.append(f"{model}: {text!r}")

    def refused(self, model: str, status: int, body: Any, headers: httpx.Headers) -> None:
        if (status, body["error"]["code"]) == (503, RETRYABLE) and int(headers["retry-after"]) > 0:
            self.retryable += 1
        else:
            self.wrong.append(f"{model}: {status} {body}")


def kill(engine: psutil.Process) -> None:
    engine.kill()


def stop(engine: psutil.Process) -> None:
    engine.send_signal(signal.SIGSTOP)


@pytest.mark.parametrize(("harm", "cause"), [(kill, "died"), (stop, "hung")])
def test_an_engine_that_ends_under_traffic_is_replaced_and_warm_again(
    served: ServedDemo, harm: Callable[[psutil.Process], None], cause: str
) -> None:
    ends = f'adaptry_engine_ends_total{{cause="{cause}"}}'
    before = served.metric(ends)
    assert served.client.post("/api/v1/cache/pins", json={"reference": A}).status_code == 201
    for name in (C, D, B):
        assert served.answers_right(name)
    resident = served.residents("host")
    engine = served.engine_process()
    traffic = Traffic(served)
    with ThreadPoolExecutor(4) as pool:
        clients = [pool.submit(traffic.run, name) for name in (A, B, A, B)]
        try:
            served.wait_until(lambda: traffic.right > 20)
            harm(engine)
            served.wait_until(lambda: served.metric(ends) == before + 1)
            assert served.metric("adaptry_engine_up") == 0
            listed = served.client.get("/api/v1/adapters").json()["items"]
            assert len(listed) == len(TASKS), "the registry goes on answering"
            alias = f"/api/v1/adapters/{A}/aliases/{cause}"
            refused = served.client.put(alias, json={"version": 1})
            assert (refused.status_code, refused.json()["code"]) == (503, RETRYABLE)
            moved = served.client.put(alias, json={"version": 1, "warm": False})
            assert moved.status_code == 200, moved.text
            served.wait_until(served.is_ready)
            assert served.metric("adaptry_engine_up") == 1
            right = traffic.right
            served.wait_until(lambda: traffic.right > right + 20)
        finally:
            traffic.over.set()
        for client in clients:
            client.result()
    assert traffic.wrong == []
    assert traffic.retryable + traffic.cut_off >= 4, "each client's request was ended"
    assert not engine.is_running()
    served.wait_until(lambda: served.residents("host") == resident)
    assert served.cache()["waiting"] == 0
    assert served.metric("adaptry_leases") == 0
    assert served.metric("adaptry_in_step_loads_total") == 0
    for name in (E, F, E):
        assert served.answers_right(name)
    assert A in served.residents("gpu"), "it is pinned, in the new engine too"
    assert served.client.delete(f"/api/v1/cache/pins/{A}").status_code == 200


def test_a_restarted_server_has_its_pins_and_is_warm(served: ServedDemo) -> None:
    pin = {"reference": F, "tier": "gpu"}
    assert served.client.post("/api/v1/cache/pins", json=pin).status_code == 201
    for name in (A, B, C):
        assert served.answers_right(name)
    resident = served.residents("host")
    served.stop()
    served.start()
    served.wait_until(lambda: served.residents("host") == resident)
    assert served.residents("gpu") == {F}
    pins = served.client.get("/api/v1/cache/pins").json()["items"]
    assert [(kept["reference"], kept["tier"]) for kept in pins] == [(f"{F}:1", "gpu")]
    response = served.complete(B)
    assert response.headers["x-adaptry-cache"] == "host_hit"
    assert served.answers_right(F)
