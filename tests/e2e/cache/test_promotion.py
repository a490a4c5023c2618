"""Promotions and rollbacks under real traffic: no request fails or gets a wrong version."""

import itertools
import json
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from demo.tasks import TASKS, UPPER_V2, prompt_for
from tests.support.docs.page_blocks import blocks_of, compare, run

pytestmark = [pytest.mark.engine]

DEMO = Path(__file__).parents[3] / "demo"
WORDS = ("hello", "orange", "river", "candle")
SAYS = {1: TASKS["upper"].answer, 2: UPPER_V2.answer}
SWITCHES = 24


@dataclass(frozen=True)
class Answer:
    """What one client got. Times are of the monotonic clock, in seconds."""

    began: float
    ended: float
    status: int
    version: str | None
    word: str
    text: str


@dataclass(frozen=True)
class Switch:
    asked: float
    answered: float
    number: int


@dataclass
class Traffic:
    """Clients that send one request after the other until it ends."""

    base_url: str
    answers: list[Answer] = field(default_factory=list)
    over: threading.Event = field(default_factory=threading.Event)

    def run(self, ask: Callable[[httpx.Client, str, str], Answer], models: list[str]) -> None:
        with httpx.Client(base_url=self.base_url, timeout=60) as client:
            for model, word in itertools.cycle(itertools.product(models, WORDS)):
                if self.over.is_set():
                    return
                self.answers.append(ask(client, model, word))


def body(model: str, word: str, **more: Any) -> dict[str, Any]:
    prompt = prompt_for(word)
    return {"model": model, "prompt": prompt, "temperature": 0, "max_tokens": 32, **more}


def ask_whole(client: httpx.Client, model: str, word: str) -> Answer:
    began = time.monotonic()
    response = client.post("/v1/completions", json=body(model, word))
    ended = time.monotonic()
    text = response.json()["choices"][0]["text"] if response.is_success else response.text
    version = response.headers.get("x-adaptry-version")
    return Answer(began, ended, response.status_code, version, word, text)


def ask_stream(client: httpx.Client, model: str, word: str) -> Answer:
    began = time.monotonic()
    with client.stream("POST", "/v1/completions", json=body(model, word, stream=True)) as response:
        lines = [line for line in response.iter_lines() if line]
    text = "".join(map(text_of, lines)) if response.is_success else "".join(lines)
    version = response.headers.get("x-adaptry-version")
    return Answer(began, time.monotonic(), response.status_code, version, word, text)


def text_of(line: str) -> str:
    if line == "data: [DONE]":
        return ""
    return str(json.loads(line.removeprefix("data: "))["choices"][0]["text"])


@pytest.fixture
def two_versions(server: Any, request: pytest.FixtureRequest) -> str:
    """A separate adapter for each test, with `prod` at the first of its two versions."""
    name = request.node.name.removeprefix("test_").replace("_", "-")[:60]
    server.register(name, DEMO / "adapters" / "upper")
    server.register(name, DEMO / "adapters-v2" / "upper")
    assert move(server, name, {"version": 1}) == 1
    return str(name)


def move(server: Any, name: str, wishes: dict[str, Any], what: str = "") -> int:
    """The version that `prod` points at."""
    path = f"/api/v1/adapters/{name}/aliases/prod{what}"
    response = server.client.request("POST" if what else "PUT", path, json=wishes)
    assert response.status_code == 200, response.text
    return int(response.json()["version"])


@contextmanager
def traffic_on(server: Any, name: str) -> Iterator[Traffic]:
    """Six clients of the alias, and two of other adapters, so that slots and places are scarce."""
    traffic = Traffic(server.base_url)
    others = Traffic(server.base_url, over=traffic.over)
    with ThreadPoolExecutor(8) as pool:
        asking = [pool.submit(traffic.run, ask_whole, [f"{name}@prod"]) for _ in range(3)]
        asking += [pool.submit(traffic.run, ask_stream, [f"{name}@prod"]) for _ in range(3)]
        asking += [pool.submit(others.run, ask_whole, sorted(TASKS)) for _ in range(2)]
        try:
            yield traffic
        finally:
            traffic.over.set()
        for client in asking:
            client.result(60)
    assert {answer.status for answer in others.answers} == {200}


def wait_for_answers(traffic: Traffic, count: int) -> None:
    """Started from now on: on a slow machine the alias stays unchanged until some have ended."""
    now = time.monotonic()
    while sum(answer.began > now for answer in list(traffic.answers)) < count:
        assert time.monotonic() < now + 60
        time.sleep(0.02)


def versions_at(answer: Answer, switches: list[Switch]) -> set[int]:
    """Where the alias may have pointed when the request was resolved, which is once."""
    before = [switch for switch in switches if switch.answered <= answer.began]
    during = [s for s in switches if s.asked < answer.ended and s.answered > answer.began]
    return {switch.number for switch in (*before[-1:], *during)}


def test_clients_notice_neither_a_promotion_nor_a_rollback(server: Any, two_versions: str) -> None:
    now = time.monotonic()
    switches = [Switch(now, now, 1)]
    with traffic_on(server, two_versions) as traffic:
        for n in range(SWITCHES):
            time.sleep(0.15)
            wait_for_answers(traffic, 2)
            asked = time.monotonic()
            if n % 2:
                number = move(server, two_versions, {"evict_old": n % 3 == 0}, "/rollback")
            else:
                number = move(server, two_versions, {"version": 2, "expected_version": 1})
            switches.append(Switch(asked, time.monotonic(), number))
        time.sleep(0.3)
    assert [switch.number for switch in switches] == [1, *(2, 1) * (SWITCHES // 2)]
    certain = 0
    for answer in traffic.answers:
        assert answer.status == 200, answer.text
        name, _, digits = (answer.version or "").partition(":")
        assert name == two_versions
        assert answer.text == SAYS[int(digits)](answer.word), answer
        allowed = versions_at(answer, switches)
        assert int(digits) in allowed, (answer, switches)
        certain += len(allowed) == 1
    assert certain >= 20, "most of it can't have seen a wrong version"
    assert {answer.version for answer in traffic.answers} == {
        f"{two_versions}:1",
        f"{two_versions}:2",
    }


def test_a_stream_ends_with_its_version_and_the_next_request_finds_the_new_one(
    server: Any, two_versions: str
) -> None:
    alias = f"{two_versions}@prod"
    long = body(alias, "hello", stream=True, max_tokens=150, ignore_eos=True)
    with server.client.stream("POST", "/v1/completions", json=long) as response:
        lines = response.iter_lines()
        said = text_of(next(lines))
        assert move(server, two_versions, {"version": 2, "evict_old": True}) == 2
        cache = server.client.get("/api/v1/cache").json()
        leases = {resident["reference"]: resident["leases"] for resident in cache["gpu"]}
        assert leases == {f"{two_versions}:1": 1, f"{two_versions}:2": 0}, "warm, beside the old"
        asked = server.complete(alias, prompt_for("hello"))
        assert asked.headers["x-adaptry-cache"] == "gpu_hit"
        assert asked.headers["x-adaptry-version"] == f"{two_versions}:2"
        assert asked.json()["choices"][0]["text"] == UPPER_V2.answer("hello")
        rest = [line for line in lines if line]
    assert response.headers["x-adaptry-version"] == f"{two_versions}:1"
    assert rest[-1] == "data: [DONE]"
    said += "".join(map(text_of, rest))
    assert said.startswith("HELLO")
    assert not said.startswith("HELLO!")
    assert len(rest) > 100, "the stream went on to its end"


def test_damaged_files_move_no_alias(server: Any, two_versions: str) -> None:
    folder = server.state / "damaged"
    shutil.copytree(DEMO / "adapters" / "rot13", folder)
    config = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps(config | {"lora_alpha": 7}))
    version = server.register(two_versions, folder)
    stored = server.state / "store"
    (weights,) = stored.glob(f"**/{version['digest'].rpartition(':')[2]}*/*.safetensors")
    weights.chmod(0o644)
    weights.write_bytes(weights.read_bytes()[:-8])
    with traffic_on(server, two_versions) as traffic:
        time.sleep(0.2)
        refused = server.client.put(
            f"/api/v1/adapters/{two_versions}/aliases/prod", json={"version": version["number"]}
        )
        time.sleep(0.2)
    assert (refused.status_code, refused.json()["code"]) == (422, "warming_failed")
    assert traffic.answers
    for answer in traffic.answers:
        found = (answer.status, answer.version, answer.text)
        assert found == (200, f"{two_versions}:1", SAYS[1](answer.word))


def test_the_page_on_aliases_holds_where_an_engine_serves(server: Any) -> None:
    blocks = blocks_of("aliases.md")
    compare(blocks, run([commands for commands, _ in blocks], server.base_url))
