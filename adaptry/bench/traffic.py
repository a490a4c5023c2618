"""Traffic of `adaptry bench`: which adapter each request names, and its outcome."""

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
    """`zipf`: the n-th adapter is requested 1/n**zipf as often as the first; 0: all equally."""

    adapters: Sequence[str]
    requests: int
    concurrency: int
    zipf: float
    max_tokens: int
    prompt: str
    seed: int

    def models(self) -> list[str]:
        """The model of each request. The same seed gives the same traffic."""
        chance = random.Random(self.seed)
        ranked = sorted(self.adapters)
        chance.shuffle(ranked)
        weights = list(accumulate(1 / n**self.zipf for n in range(1, len(ranked) + 1)))
        return chance.choices(ranked, cum_weights=weights, k=self.requests)


@dataclass(slots=True)
class Result:
    """One request. Times are seconds since it was sent; `outcome` and `load_seconds` come from
    the server's headers; `error` is empty on success."""

    model: str
    outcome: str = ""
    load_seconds: float = 0.0
    first_token_seconds: float | None = None
    seconds: float = 0.0
    tokens: int = 0
    error: str = ""


@dataclass(slots=True)
class Traffic:
    """Executes a plan with its number of concurrent requests."""

    http: httpx.AsyncClient
    plan: Plan
    results: list[Result] = field(default_factory=list)
    on_result: Callable[[], object] = lambda: None
    """Called after each request."""

    async def run(self) -> float:
        """Run all requests; returns the seconds they took."""
        began = time.perf_counter()
        models = iter(self.plan.models())
        workers = min(self.plan.concurrency, self.plan.requests)
        await asyncio.gather(*(self._work(models) for _ in range(workers)))
        return time.perf_counter() - began

    async def _work(self, models: Iterator[str]) -> None:
        for model in models:
            self.results.append(await self._send(model))
            self.on_result()

    async def _send(self, model: str) -> Result:
        result = Result(model)
        began = time.perf_counter()
        try:
            await self._stream(result, began)
        except httpx.HTTPError as error:
            result.error = type(error).__name__
        result.seconds = time.perf_counter() - began
        return result

    async def _stream(self, result: Result, began: float) -> None:
        body = {
            "model": result.model,
            "prompt": self.plan.prompt,
            "max_tokens": self.plan.max_tokens,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        async with self.http.stream("POST", "/v1/completions", json=body) as response:
            if response.is_error:
                result.error = _code_of(response.status_code, await response.aread())
                return
            result.outcome = response.headers.get(OUTCOME, "")
            result.load_seconds = _milliseconds(response.headers.get(LOAD_MS)) / 1000
            reader = EventReader()
            async for chunk in response.aiter_bytes():
                for data in reader.feed(chunk):
                    if data != DONE:
                        _take(result, data, began)


def _take(result: Result, data: str, began: float) -> None:
    content: dict[str, Any] = json.loads(data)
    if "error" in content:
        result.error = str(content["error"].get("code") or "error")
    if content.get("choices") and result.first_token_seconds is None:
        result.first_token_seconds = time.perf_counter() - began
    if content.get("usage"):
        result.tokens = content["usage"]["completion_tokens"]


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
