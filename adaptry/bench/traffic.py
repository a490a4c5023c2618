"""Mixed traffic for a running server: who is asked, in which order, and what came of each."""

import asyncio
import json
import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any

import httpx

from adaptry.client.transport.sse import EventReader

DONE = "[DONE]"
OUTCOME, LOAD_MS = "x-adaptry-cache", "x-adaptry-load-ms"


@dataclass(frozen=True, slots=True)
class Plan:
    """`zipf`: the n-th adapter is asked for 1/n**zipf as often as the first; 0: all alike."""

    adapters: Sequence[str]
    requests: int
    concurrency: int
    zipf: float
    max_tokens: int
    prompt: str
    seed: int

    def models(self) -> list[str]:
        """Whom each request asks for. The same seed gives the same traffic."""
        chance = random.Random(self.seed)
        ranked = sorted(self.adapters)
        chance.shuffle(ranked)
        weights = list(accumulate(1 / n**self.zipf for n in range(1, len(ranked) + 1)))
        return chance.choices(ranked, cum_weights=weights, k=self.requests)


@dataclass(slots=True)
class Answer:
    """One request. Times are seconds since it was sent; `outcome` and `load_seconds` are told by
    the server's headers; `error` is empty if it went well."""

    model: str
    outcome: str = ""
    load_seconds: float = 0.0
    first_token_seconds: float | None = None
    seconds: float = 0.0
    tokens: int = 0
    error: str = ""


@dataclass(slots=True)
class Traffic:
    """Carries a plan out, so many requests at a time."""

    http: httpx.AsyncClient
    plan: Plan
    answers: list[Answer] = field(default_factory=list)
    told: Callable[[], object] = lambda: None
    """Is called after each answer."""

    async def run(self) -> float:
        """How many seconds it took."""
        began = time.perf_counter()
        models = iter(self.plan.models())
        workers = min(self.plan.concurrency, self.plan.requests)
        await asyncio.gather(*(self._work(models) for _ in range(workers)))
        return time.perf_counter() - began

    async def _work(self, models: Iterator[str]) -> None:
        for model in models:
            self.answers.append(await self._ask(model))
            self.told()

    async def _ask(self, model: str) -> Answer:
        answer = Answer(model)
        began = time.perf_counter()
        try:
            await self._stream(answer, began)
        except httpx.HTTPError as error:
            answer.error = type(error).__name__
        answer.seconds = time.perf_counter() - began
        return answer

    async def _stream(self, answer: Answer, began: float) -> None:
        body = {
            "model": answer.model,
            "prompt": self.plan.prompt,
            "max_tokens": self.plan.max_tokens,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        async with self.http.stream("POST", "/v1/completions", json=body) as response:
            if response.is_error:
                answer.error = _code_of(response.status_code, await response.aread())
                return
            answer.outcome = response.headers.get(OUTCOME, "")
            answer.load_seconds = _milliseconds(response.headers.get(LOAD_MS)) / 1000
            reader = EventReader()
            async for chunk in response.aiter_bytes():
                for data in reader.feed(chunk):
                    if data != DONE:
                        _take(answer, data, began)


def _take(answer: Answer, data: str, began: float) -> None:
    content: dict[str, Any] = json.loads(data)
    if "error" in content:
        answer.error = str(content["error"].get("code") or "error")
    if content.get("choices") and answer.first_token_seconds is None:
        answer.first_token_seconds = time.perf_counter() - began
    if content.get("usage"):
        answer.tokens = content["usage"]["completion_tokens"]


def _code_of(status: int, content: bytes) -> str:
    try:
        code = json.loads(content)["error"]["code"]
    except (ValueError, TypeError, KeyError):
        code = None
    return str(code or f"HTTP {status}")


def _milliseconds(text: str | None) -> float:
    try:
        return float(text or 0)
    except ValueError:
        return 0.0
