"""Turns of a conversation over HTTP, timed from the request to its first token."""

import asyncio
import json
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import aiohttp

INVOCATION = (9, 8)
_FIRST_ID, _LAST_ID = 10, 250
_QUESTION_TOKENS = 6
_EVENT = b"data: {"


@dataclass(frozen=True)
class Turn:
    """`first` and `last`: seconds from the request to the first token, and to the end."""

    first: float
    last: float
    cached_tokens: int
    invocation: str | None


def conversation(tokens: int, seed: int) -> list[int]:
    """No two begin alike, so that nothing of another is found in the prefix cache."""
    return random.Random(seed).choices(range(_FIRST_ID, _LAST_ID), k=tokens)


def question(seed: int) -> list[int]:
    """What follows a conversation: the invocation, and a few tokens."""
    return [*INVOCATION, *conversation(_QUESTION_TOKENS, seed)]


class Asker:
    """One server's client."""

    def __init__(self, base_url: str, session: aiohttp.ClientSession) -> None:
        self._base_url = base_url
        self._session = session

    async def turn(self, model: str, prompt: Sequence[int], tokens: int = 1) -> Turn:
        """Raises RuntimeError if it is refused."""
        return await self._turn(model, _body(model, prompt, tokens))

    async def _turn(self, model: str, body: bytes) -> Turn:
        asked, first, cached = time.perf_counter(), 0.0, 0
        async with self._session.post(
            f"{self._base_url}/v1/completions", data=body, headers=_JSON
        ) as response:
            if response.status != 200:
                raise RuntimeError(f"{model}: {(await response.text())[:500]}")
            async for line in response.content:
                if not line.startswith(_EVENT):
                    continue
                first = first or time.perf_counter() - asked
                if (usage := json.loads(line[len(_EVENT) - 1 :]).get("usage")) is not None:
                    cached = _count_cached(usage)
            invocation = response.headers.get("x-adaptry-invocation")
        return Turn(first, time.perf_counter() - asked, cached, invocation)

    async def together(
        self, models: Sequence[str], prompt: Sequence[int], tokens: int = 1
    ) -> list[Turn]:
        """All of them in one moment, each by a request of its own."""
        bodies = [_body(model, prompt, tokens) for model in models]  # this process's time, not its
        asked = zip(models, bodies, strict=True)
        return await asyncio.gather(*(self._turn(model, body) for model, body in asked))

    async def fan_out(
        self, models: Sequence[str], prompt: Sequence[int], suffix: Sequence[int]
    ) -> float:
        """Seconds until each of the models has said its first token, asked by one request."""
        body = _fan_out_body(models, prompt, suffix)
        asked, silent, seconds = time.perf_counter(), set(models), 0.0
        async with self._session.post(
            f"{self._base_url}/v1/fanout", data=body, headers=_JSON
        ) as response:
            if response.status != 200:
                raise RuntimeError(f"fan-out: {(await response.text())[:500]}")
            async for line in response.content:
                if not line.startswith(_EVENT):
                    continue
                event = json.loads(line[len(_EVENT) - 1 :])
                if "error" in event:
                    raise RuntimeError(f"{event['name']}: {event['error']}")
                if "chunk" in event and event["name"] in silent:
                    silent.remove(event["name"])
                    seconds = time.perf_counter() - asked
        if silent:
            raise RuntimeError(f"fan-out: no answer of {sorted(silent)}")
        return seconds

    async def used_blocks(self) -> float:
        """Share of the KV cache that requests use."""
        async with self._session.get(f"{self._base_url}/metrics") as response:
            lines = (await response.text()).splitlines()
        (used,) = (line for line in lines if line.startswith("vllm:kv_cache_usage_perc"))
        return float(used.rpartition(" ")[2])


_JSON = {"Content-Type": "application/json"}


def _body(model: str, prompt: Sequence[int], tokens: int) -> bytes:
    asked = {
        "model": model,
        "prompt": list(prompt),
        "max_tokens": tokens,
        "temperature": 0,
        "ignore_eos": True,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    return json.dumps(asked).encode()


def _fan_out_body(models: Sequence[str], prompt: Sequence[int], suffix: Sequence[int]) -> bytes:
    asked = {
        "models": [{"model": model, "suffix": list(suffix)} for model in models],
        "prompt": list(prompt),
        "max_tokens": 1,
        "temperature": 0,
        "ignore_eos": True,
        "stream": True,
    }
    return json.dumps(asked).encode()


def _count_cached(usage: dict[str, Any]) -> int:
    return int((usage.get("prompt_tokens_details") or {}).get("cached_tokens") or 0)
