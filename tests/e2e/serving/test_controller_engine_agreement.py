"""Agreement under random load: the engine holds what the controller decided; responses are right.

Random requests, clients that leave, pins, prefetches, evictions and broken adapters on the real
engine, all together; after each storm both pictures are compared.
"""

import asyncio
import random
import shutil
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from demo.tasks import TASKS, prompt_for

pytestmark = [pytest.mark.engine]

ROOT = Path(__file__).resolve().parents[3]
NAMES = sorted(TASKS)
WORDS = ("hello", "window", "orange", "silver")
CLIENTS, STEPS = 8, 25


@dataclass
class Storm:
    """Clients that do as they please; nothing that they do may fail otherwise than expected."""

    server: Any
    http: httpx.AsyncClient
    chance: random.Random
    broken: str
    outcomes: Counter[str] = field(default_factory=Counter)
    unexpected: list[str] = field(default_factory=list)

    async def client(self) -> None:
        steps = [self.ask] * 6 + [self.leave] * 3 + [self.pin, self.unpin, self.prefetch]
        steps += [self.evict, self.evict, self.ask_for_the_broken]
        for _ in range(STEPS):
            await self.chance.choice(steps)()

    async def ask(self) -> None:
        name, word = self.chance.choice(NAMES), self.chance.choice(WORDS)
        answer = await self.http.post("/v1/completions", json=self.body(name, word))
        if answer.status_code != 200:
            self.unexpected.append(f"{name}: {answer.status_code} {answer.text}")
            return
        text = answer.json()["choices"][0]["text"]
        self.outcomes[answer.headers["x-adaptry-cache"]] += 1
        if answer.json()["choices"][0]["finish_reason"] == "abort":
            self.outcomes["ended by force"] += 1
        elif text != TASKS[name].answer(word):
            self.unexpected.append(f"{name}({word}) is {text!r}")

    async def leave(self) -> None:
        """Anywhere between the request's arrival and its last token."""
        name = self.chance.choice(NAMES)
        body = {**self.body(name, "a" * 30), "max_tokens": 120, "ignore_eos": True}
        patience = self.chance.choice([0.001, 0.01, 0.05, 0.2])
        try:
            async with asyncio.timeout(patience):
                if self.chance.random() < 0.5:
                    await self.http.post("/v1/completions", json=body)
                else:
                    await self.read_stream(body)
        except TimeoutError:
            self.outcomes["left"] += 1

    async def read_stream(self, body: dict[str, Any]) -> None:
        request = self.http.stream("POST", "/v1/completions", json={**body, "stream": True})
        async with request as response:
            async for _ in response.aiter_lines():
                pass

    async def pin(self) -> None:
        tier = self.chance.choice(["gpu", "host"])
        body = {"reference": self.chance.choice(NAMES), "tier": tier}
        await self.command("POST", "/pins", body, {201, 409})

    async def unpin(self) -> None:
        await self.command("DELETE", f"/pins/{self.chance.choice(NAMES)}", None, {200, 404})

    async def prefetch(self) -> None:
        await self.command("POST", "/prefetch", {"reference": self.chance.choice(NAMES)}, {202})

    async def evict(self) -> None:
        how = self.chance.choice([{}, {"wait": True}, {"force": True}])
        body = {"reference": self.chance.choice(NAMES), **how}
        await self.command("POST", "/evict", body, {200, 409})

    async def ask_for_the_broken(self) -> None:
        answer = await self.http.post("/v1/completions", json=self.body(self.broken, "hello"))
        if answer.status_code not in (503, 409):
            self.unexpected.append(f"{self.broken}: {answer.status_code} {answer.text}")

    async def command(
        self, method: str, path: str, body: dict[str, Any] | None, expected: set[int]
    ) -> None:
        answer = await self.http.request(method, f"/api/v1/cache{path}", json=body)
        self.outcomes[f"{method} {path.partition('/pins/')[0]} {answer.status_code}"] += 1
        if answer.status_code not in expected:
            self.unexpected.append(f"{method} {path}: {answer.status_code} {answer.text}")

    def body(self, name: str, word: str) -> dict[str, Any]:
        return {"model": name, "prompt": prompt_for(word), "temperature": 0, "max_tokens": 16}


@pytest.fixture
def broken(server: Any, request: pytest.FixtureRequest) -> str:
    """An adapter whose files are missing."""
    name = f"broken-{request.node.callspec.params['seed']}"
    source = server.state / "sources" / name
    shutil.copytree(ROOT / "demo" / "adapters" / NAMES[0], source)
    config = source / "adapter_config.json"
    config.write_text(f"{config.read_text()}{' ' * len(name)}\n")
    digest = server.register(name, source)["digest"]
    (folder,) = server.state.glob(f"store/adapters/*/{digest}")
    shutil.rmtree(folder)
    return name


async def rage(server: Any, seed: int, broken: str) -> Storm:
    limits = httpx.Limits(max_connections=CLIENTS * 2)
    async with httpx.AsyncClient(base_url=server.base_url, timeout=60, limits=limits) as http:
        storm = Storm(server, http, random.Random(seed), broken)
        async with asyncio.TaskGroup() as tasks:
            for _ in range(CLIENTS):
                tasks.create_task(storm.client())
    return storm


@pytest.mark.parametrize("seed", range(3))
def test_both_pictures_agree_after_any_storm(server: Any, seed: int, broken: str) -> None:
    before = server.metrics()
    storm = asyncio.run(rage(server, seed, broken))
    assert storm.unexpected == []
    assert storm.outcomes["left"] > 5, storm.outcomes
    assert storm.outcomes["miss"] > 5, storm.outcomes
    for _ in range(200):  # those who left are noticed at the next token
        now = server.metrics()
        if now["adaptry_leases"] == now["adaptry_queue_depth"] == 0:
            break
    assert now["adaptry_leases"] == now["adaptry_queue_depth"] == 0
    cache = server.client.get("/api/v1/cache").json()
    state = server.client.get("/api/v1/cache/engine").json()
    assert {r["version_id"] for r in cache["gpu"]} == set(state["gpu"])
    assert {r["version_id"] for r in cache["host"]} == set(state["host"])
    assert state["in_step_loads"] == 0
    assert now["adaptry_drift_total"] == before["adaptry_drift_total"]
    assert len(cache["gpu"]) <= cache["slots"]
    assert len(cache["host"]) <= cache["host_capacity"]
    for name in NAMES:
        answer = server.complete(name, prompt_for("hello"))
        assert answer.json()["choices"][0]["text"] == TASKS[name].answer("hello")
