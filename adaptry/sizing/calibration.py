"""Calibration: the times of steps, prompts, loads and copies, measured on a running server."""

import asyncio
import itertools
import json
import random
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from adaptry.client.errors import InvalidRequest
from adaptry.client.transport.http import parse_success
from adaptry.client.transport.sse import EventReader
from adaptry.terminal.errors import CommandError
from adaptry.traces.trace import Trace

if TYPE_CHECKING:
    import httpx

TOGETHER = (1, 2, 4, 8)
TOKENS = 32
ROUNDS = 3
ALONE, ALONE_TOKENS = 100, 2  # short prompts, one after another
SHORT, LONG = 8, 256
ADAPTERS = 16
_TOKEN_IDS = (10, 100)  # every vocabulary has them
_DONE = "[DONE]"


@dataclass(frozen=True, slots=True)
class Timed:
    """One answer: the seconds until its first token, and between its tokens."""

    first_token_seconds: float
    gaps: Sequence[float]


@dataclass(frozen=True, slots=True)
class Measured:
    """`values`: costs by their names; `in_engine_seconds`: of the first token of a short prompt
    alone, what its step and prompt take; `first_tokens`: of `ALONE` such, as the client saw them.
    """

    values: dict[str, float]
    in_engine_seconds: float
    first_tokens: Sequence[float]

    def overheads(self, trace: Trace) -> list[float]:
        """What HTTP, tokenizing and the server's process take, of each request alone: as the server
        recorded them, or as the client saw them if it did not.
        """
        recorded = [
            each.first_token_seconds
            for each in trace.requests
            if (each.prompt_tokens, each.generated_tokens) == (SHORT, ALONE_TOKENS)
            and each.first_token_seconds is not None
        ][-len(self.first_tokens) :]
        found = recorded if len(recorded) > len(self.first_tokens) // 2 else self.first_tokens
        return [max(each - self.in_engine_seconds, 0.0) for each in found]


class Calibration:
    """Asks while others may ask too: what they cost is measured with it."""

    def __init__(self, http: "httpx.AsyncClient", adapters: Sequence[str], seed: int = 0) -> None:
        """`adapters`: references that are served. Raises CommandError if there is none."""
        if not adapters:
            raise CommandError("this server serves no adapters: see `adaptry adapter add`")
        self._http = http
        self._adapters = adapters[:ADAPTERS]
        self._chance = random.Random(seed)

    async def measure(self) -> Measured:
        """Raises CommandError."""
        await self.touch_adapters()
        resident = self._adapters[-1]
        await self._ask(resident, SHORT)
        gaps = [await self._step_seconds(resident, count) for count in TOGETHER]
        per_request, alone = statistics.linear_regression(TOGETHER, gaps)
        per_request = max(per_request, 0.0)
        alone = max(gaps[0] - per_request, 0.0) if alone <= 0 else alone
        shorts, long, length = await self._first_tokens(resident)
        short = statistics.median(shorts)
        per_token = max((long - short) / (length - SHORT), 0.0)
        beside = await self._prompt_seconds(resident, gaps[0]) - per_request - SHORT * per_token
        prefill = min(max(beside, 0.0), max(short - SHORT * per_token - alone - per_request, 0.0))
        in_engine = prefill + SHORT * per_token + alone + per_request
        values = {
            "step_seconds": alone,
            "step_seconds_per_request": per_request,
            "prefill_seconds": prefill,
            "prefill_seconds_per_token": per_token,
        }
        return Measured(values, in_engine, shorts)

    async def touch_adapters(self) -> None:
        """One request for each, so that the server records loads and copies."""
        for adapter in self._adapters:
            await self._ask(adapter, SHORT, tokens=1)

    async def _step_seconds(self, adapter: str, count: int) -> float:
        answers = [
            answer
            for _ in range(ROUNDS)
            for answer in await asyncio.gather(*(self._ask(adapter, SHORT) for _ in range(count)))
        ]
        gaps = [gap for answer in answers for gap in answer.gaps]
        if not gaps:
            raise CommandError(f"{adapter} answered with one token at most: nothing to time")
        return statistics.median(gaps)

    async def _prompt_seconds(self, adapter: str, step_seconds: float) -> float:
        """How much longer a step of a running request is if a short prompt is in it.

        The engine's part of a prompt: the time to its first token has the server's in it too.
        """
        longer = []
        for _ in range(ROUNDS):
            stream = asyncio.create_task(self._ask(adapter, SHORT))
            prompts = -1
            try:
                while not stream.done():
                    prompts += 1
                    if prompts:
                        await self._ask(adapter, SHORT, tokens=1)
                    await asyncio.sleep(2 * step_seconds)  # steps without a prompt, to compare with
            finally:
                stream.cancel()  # if a prompt is refused; one that is done stays as it is
            gaps = sorted((await stream).gaps)
            prompts = min(prompts, len(gaps) // 2)
            if prompts:
                others, joint = gaps[:-prompts], gaps[-prompts:]
                longer.append(statistics.median(joint) - statistics.median(others))
        return statistics.median(longer) if longer else 0.0

    async def _first_tokens(self, adapter: str) -> tuple[list[float], float, int]:
        """Of short prompts, of a long one, and the length of that: what the model takes."""
        length = LONG
        while length > 2 * SHORT:
            try:
                longs = await self._alone(adapter, length, ROUNDS + 2)
            except InvalidRequest:  # longer than the model's context
                length //= 2
                continue
            return await self._alone(adapter, SHORT, ALONE), statistics.median(longs), length
        raise CommandError(f"{adapter} takes no prompt of {length} tokens")

    async def _alone(self, adapter: str, size: int, count: int) -> list[float]:
        answers = [await self._ask(adapter, size, tokens=ALONE_TOKENS) for _ in range(count)]
        return [each.first_token_seconds for each in answers]

    async def _ask(self, adapter: str, prompt_tokens: int, tokens: int = TOKENS) -> Timed:
        """A prompt that is in no prefix cache."""
        import httpx

        body = {
            "model": adapter,
            "prompt": [self._chance.randrange(*_TOKEN_IDS) for _ in range(prompt_tokens)],
            "max_tokens": tokens,
            "temperature": 0,
            "ignore_eos": True,
            "stream": True,
        }
        began, times = time.perf_counter(), list[float]()
        try:
            async with self._http.stream("POST", "/v1/completions", json=body) as response:
                if response.is_error:
                    await response.aread()
                    parse_success(response)  # raises
                reader = EventReader()
                async for chunk in response.aiter_bytes():
                    for data in reader.feed(chunk):
                        if data != _DONE and json.loads(data).get("choices"):
                            times.append(time.perf_counter())
        except httpx.HTTPError as error:
            raise CommandError(f"the calibration got no answer: {type(error).__name__}") from error
        if not times:
            raise CommandError(f"{adapter} answered without a token: nothing to time")
        gaps = [after - before for before, after in itertools.pairwise(times)]
        return Timed(times[0] - began, gaps)
